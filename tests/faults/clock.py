"""A clock that jumps, for one process: libfaketime, which reads its offset from a file.

Only the clock on the wall jumps, as when NTP or an operator sets it; the monotonic one does not.
"""

from __future__ import annotations

import glob
from pathlib import Path

_PATTERNS = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)


def library() -> Path | None:
    """The library, where it is installed (Debian: the package libfaketime)."""
    found = [path for pattern in _PATTERNS for path in sorted(glob.glob(pattern))]
    return Path(found[0]) if found else None


def clock_environment(offset_file: Path) -> dict[str, str]:
    """With it a process has a clock that ``offset_file`` sets; empty where there is none."""
    lib = library()
    if lib is None:
        return {}
    return {
        "LD_PRELOAD": str(lib),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
