"""Certificate authorities made on the spot by the program ``openssl``, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CONFIG = """
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = this
[this]
new_certs_dir = .
database = issued
serial = serial
certificate = ca.crt
private_key = ca.key
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = critical,CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {name}
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in a file each."""

    cert_file: Path
    key_file: Path


class Authority:
    """An authority in a directory of its own. ``ca_file`` is its certificate."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.fail("tests of TLS need the program openssl: apt-get install openssl")
        directory.mkdir()
        self._directory = directory
        self.ca_file = directory / "ca.crt"
        (directory / "issued").touch()
        (directory / "serial").write_text("1000\n")
        self._run(
            "DNS:root",
            *("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2"),
            *("-subj", f"/CN=Authority {directory.name}", "-extensions", "root"),
        )

    def issue(self, file: str, name: str, *, expired: bool = False) -> Certificate:
        """``name``: as X.509 has its alternative names, such as ``DNS:localhost``."""
        issued = Certificate(self._directory / f"{file}.crt", self._directory / f"{file}.key")
        period = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        self._run(
            name,
            *("req", "-new", *_NEW_KEY, "-subj", f"/CN={file}"),
            *("-keyout", issued.key_file.name, "-out", "request"),
        )
        self._run(
            name,
            *("ca", "-batch", "-notext", "-in", "request", "-out", issued.cert_file.name),
            *(period if expired else ("-days", "1")),
        )
        return issued

    def _run(self, name: str, command: str, *arguments: str) -> None:
        """With a configuration of its own, so that the machine's does not matter."""
        (self._directory / "config").write_text(_CONFIG.format(name=name))
        subprocess.run(
            ["openssl", command, "-config", "config", *arguments],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
