"""The programs that these tests run: buildah, and a systemd of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.waiting import wait_until

BOOT = Path(__file__).with_name("boot.sh")
PATHS = "/opt/attune/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Buildah:
    """Without a daemon, and without anything of the machine's own images."""

    def __init__(self, folder: Path) -> None:
        self._options = (
            *("buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")),
            *("--storage-driver", "vfs"),
        )

    def __call__(self, command: str, *arguments: str, stdin: str = "") -> str:
        isolated = {
            "bud": ("--isolation=chroot", "--format=docker"),
            "run": ("--isolation=chroot",),
        }
        done = subprocess.run(
            [*self._options, command, *isolated.get(command, ()), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
        return done.stdout


class System:
    """systemd as the first process of a system of its own; the network is this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cgroup = _cgroup_of_its_own()
        self._boot: subprocess.Popen[bytes] | None = None
        self._first = 0

    def boot(self) -> None:
        self.write("/etc/hostname", "debian\n")
        # What a container has no use for, and what would touch the kernel of this machine.
        for name in ("systemd-sysctl", "systemd-binfmt", "systemd-modules-load"):
            (self.root / "etc/systemd/system" / f"{name}.service").symlink_to("/dev/null")
        self._boot = subprocess.Popen(
            ["sh", str(BOOT), str(self.root), str(self._cgroup)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_up, "systemd is up")

    def end(self) -> None:
        if self._boot is not None:
            if self._first:
                os.kill(self._first, signal.SIGKILL)  # with it goes everything in its namespace
            self._boot.kill()
            self._boot.wait()
        wait_until(self._is_empty, "the control groups are gone")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In the system; whatever the exit code."""
        enter = ("nsenter", f"--target={self._first}", "--all", "--root", "--wd=/")
        return subprocess.run(
            [*enter, "env", "-i", f"PATH={PATHS}", *command],
            capture_output=True,
            text=True,
            timeout=180,
        )

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def _is_up(self) -> bool:
        assert self._boot is not None
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text()
        if not children:
            return False
        self._first = int(children.split()[0])
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _is_empty(self) -> bool:
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return not self._cgroup.exists()


def _cgroup_of_its_own() -> Path:
    """Below the one hierarchy of version 2, wherever it is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    place = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    return place / f"attune-test-{os.getpid()}"
