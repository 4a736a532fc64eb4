"""How much of what was sent a peer's TCP has not acknowledged yet."""

from __future__ import annotations

import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

    def unacknowledged_bytes(sock: socket.socket) -> int:
        """Zero where the operating system does not say. Source: tcp(7), ``SIOCOUTQ``."""
        try:
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
        except (OSError, ValueError):  # it is closed, or no socket of TCP
            return 0
        return int(_INT.unpack(answer)[0])

    _INT = struct.Struct("i")
else:

    def unacknowledged_bytes(_sock: socket.socket) -> int:
        """Not known here: what the operating system took counts as sent."""
        return 0
