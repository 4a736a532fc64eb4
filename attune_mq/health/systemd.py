"""sd_notify for a service with ``Type=notify``: datagrams to ``NOTIFY_SOCKET``.

``READY=1`` once messages are consumed for the first time, ``STATUS=`` whenever what is wrong
changes, ``WATCHDOG=1`` as long as all I/O loops run, and ``STOPPING=1``. Where systemd did not
start the process there is no such socket, and nothing is sent.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping

from attune_mq.health.monitor import Monitor

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
LONGEST_STATUS = 500
"""In characters. ``systemctl status`` shows one line."""


class NotifySocket:
    """``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1_000_000 if watched and usec.isdigit() else None
        """Within how many seconds systemd expects to hear of us, if it does."""

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def send(self, *lines: str) -> None:
        """Never waits and never raises."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("sd_notify failed: %s", error.strerror)


class Notifier:
    """A thread that notifies systemd of what a monitor sees, where there is a systemd."""

    def __init__(self, monitor: Monitor, environment: Mapping[str, str] | None = None) -> None:
        self._monitor = monitor
        self._socket = NotifySocket(os.environ if environment is None else environment)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="systemd-notify", daemon=True)
        self._said: dict[str, str] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        every_s = min(LOOK_EVERY_S, (self._socket.watchdog_s or LOOK_EVERY_S) / 3)
        while not self._stopping.wait(every_s):
            lines = self._news()
            if self._socket.is_there and lines:
                self._socket.send(*lines)

    def _news(self) -> list[str]:
        """Also runs without systemd, so that it is known since when something is wrong."""
        ready, live = self._monitor.ready(), self._monitor.live()
        now = {"READY": "1"} if ready.is_good else {}
        if self._monitor.is_stopping:
            now["STOPPING"] = "1"
        now["STATUS"] = " ".join(str(ready).split())[:LONGEST_STATUS]
        news = {name: value for name, value in now.items() if self._said.get(name) != value}
        self._said |= news
        if self._socket.watchdog_s is not None and live.is_good:
            news["WATCHDOG"] = "1"
        return [f"{name}={value}" for name, value in news.items()]
