"""A Debian, an image that is built upon it, and systemd booted in what the image holds.

`make test-deployment` unpacks the one and runs these tests; it needs root. Other runs leave them
out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.deployment.files import CONTAINERFILE, ROOT
from tests.deployment.on_debian.system import Buildah, System

DEBIAN = os.environ.get("DEBIAN_SYSTEM")
collect_ignore_glob = [] if DEBIAN else ["test_*.py"]

OF_PIP = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches the packages, where that is not as everywhere."""


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    with TemporaryDirectory(prefix="attune-images-") as folder:
        yield Buildah(Path(folder))


@pytest.fixture(scope="session")
def image(buildah: Buildah) -> str:
    """The image that the container file makes, with Debian's Python in place of Docker Hub's."""
    assert DEBIAN is not None
    buildah("bud", "--tag", "python", "--file", "-", DEBIAN, stdin="FROM scratch\nCOPY . /\n")
    mounts = [f"--volume={path}:{path}:ro" for path in OF_PIP if Path(path).exists()]
    python = "--build-arg=PYTHON_IMAGE=localhost/python"
    buildah("bud", "--tag", "attune-mq", python, *mounts, f"--file={CONTAINERFILE}", str(ROOT))
    return "localhost/attune-mq"


@pytest.fixture(scope="module")
def container(buildah: Buildah, image: str) -> Iterator[str]:
    name = buildah("from", image).strip()
    yield name
    buildah("rm", name)


@pytest.fixture(scope="module")
def system(buildah: Buildah, container: str) -> Iterator[System]:
    """systemd, booted in the image's files: they have the program where the unit expects it."""
    root = Path(buildah("mount", container).strip())
    booted = System(root)
    try:
        booted.boot()
        yield booted
    finally:
        booted.end()
        subprocess.run(["sync", "-f", str(root)], check=False)
        buildah("umount", container)
