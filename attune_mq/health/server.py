"""The endpoints: ``/livez``, ``/readyz``, ``/metrics``, ``/status``."""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from attune_mq.errors import InvalidInput, LifecycleError
from attune_mq.forking import OwnProcess, after_fork
from attune_mq.health.checks import Ask, HealthReport
from attune_mq.health.monitor import Monitor, Report, as_json
from attune_mq.health.systemd import Notifier
from attune_mq.service import Service

logger = logging.getLogger(__name__)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8090
REQUEST_TIMEOUT_S = 5.0
"""A client that has not sent its request, or taken its answer, by then is left alone."""

Metrics = Callable[[], tuple[str, bytes]]
"""The content type and the body of ``/metrics``."""


class PortTaken(InvalidInput):
    """The port is in use. The message says what to do."""


class HealthServer:
    """Says over HTTP whether a service consumes its messages *now*::

        with HealthServer(service, port=8090) as health:
            health.watch("billing API", lambda: None if billing.answers else "it does not answer")
            service.run()

    ``host``: the loopback address unless said otherwise. There is no password, so let only those
    reach it who may read the names of queues and what is wrong with them; nobody can change
    anything by it. ``port``: ``0`` takes any that is free, see :attr:`port`.
    ``metrics``: what answers at ``/metrics``; without it, 404.
    ``management_url``: of RabbitMQ's HTTP API, by which bindings are looked at too, which AMQP does
    not show. While it does not answer they are not, and nothing is red for that. Its user needs the
    tag ``management``; without one in the URL it is that of the broker. Raises
    :class:`~attune_mq.broker.management.InvalidManagementUrl`.

    ================  ==========================================================================
    ``/livez``        200 while the I/O loops of all consumers run; 503: only a new process helps
    ``/readyz``       200 while messages are consumed; 503 and what is wrong, since when
    ``/status``       200 and everything that is known
    ================  ==========================================================================

    Answers are JSON, and are given from memory: a broker or a database that hangs delays none.
    Where systemd supervises the process (``NOTIFY_SOCKET``) it is notified too, see
    :mod:`~attune_mq.health.systemd`.

    It starts before the service, so that there is an answer while that waits for its broker, and
    stops after it. :meth:`start` raises :class:`PortTaken`, and
    :class:`~attune_mq.errors.InvalidInput` for an address that is not of this machine.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        metrics: Metrics | None = None,
        management_url: str | None = None,
    ) -> None:
        self.monitor = Monitor(service, management_url)
        self._address = (host, port)
        self._metrics = metrics
        self._notifier = Notifier(self.monitor)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._process = OwnProcess()
        after_fork(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """In a fork: the port is the parent's alone."""
        if self._server is not None:
            self._server.socket.close()
            self._server = self._thread = None

    def watch(self, name: str, ask: Ask) -> None:
        """Makes readiness depend on one more thing. ``ask`` says at once what is wrong with it,
        without a secret; ``None``: nothing. What takes time is asked by a thread of its own."""
        self.monitor.watch(name, ask)

    def report(self, name: str, report: Report) -> None:
        """Adds to ``/status`` what ``report`` returns, in terms of JSON."""
        self.monitor.report(name, report)

    @property
    def port(self) -> int:
        """On which it listens; before it is started, the one that it was given."""
        return int(self._server.server_address[1]) if self._server else self._address[1]

    def start(self) -> None:
        """Answers from now on. Raises as said above, and
        :class:`~attune_mq.errors.LifecycleError` for one that was started or stopped before.
        """
        self._process.require("the health server")
        if self._server is not None or self._is_over:
            raise LifecycleError(
                "health: expected a HealthServer that was neither started nor stopped before; "
                "make a new one"
            )
        self._process.begin()
        self._server = _Server(self._address, self.monitor, self._metrics)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health", daemon=True
        )
        self._thread.start()
        self.monitor.start()
        self._notifier.start()
        logger.info("Health endpoint listening on http://%s:%d", self._address[0], self.port)

    def stop(self, deadline_s: float = 1.0) -> None:
        """Stops answering. Waits for its own thread up to ``deadline_s``, for no broker. In a fork
        of the process that started it, it does nothing."""
        if self._process.is_another:
            return
        self._is_over = True
        self._notifier.stop()
        self.monitor.stop()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(deadline_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], monitor: Monitor, metrics: Metrics | None) -> None:
        self.monitor = monitor
        self.metrics = metrics
        host, port = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"health: port {port} of {host} is taken, by another service or another "
                    f"instance of this one; give each a port of its own, such as {port + 1}, or 0 "
                    f"for none"
                ) from error
            raise InvalidInput(
                f"health: cannot listen on {host} port {port}: {error.strerror}; expected an "
                f"address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closed the connection is no event."""
        logger.debug("Health request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "attune-mq"
    sys_version = ""
    timeout = REQUEST_TIMEOUT_S

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match urlsplit(self.path).path:
            case "/livez":
                self._report(self.server.monitor.live())
            case "/readyz":
                self._report(self.server.monitor.ready())
            case "/status":
                self._json(HTTPStatus.OK, self.server.monitor.status())
            case "/metrics" if self.server.metrics is not None:
                kind, body = self.server.metrics()
                self._answer(HTTPStatus.OK, kind, body)
            case "/metrics":
                self._json(HTTPStatus.NOT_FOUND, {"error": "metrics are disabled"})
            case _:
                paths = ["/livez", "/readyz", "/status", "/metrics"]
                self._json(HTTPStatus.NOT_FOUND, {"error": "expected one of", "paths": paths})

    def _report(self, report: HealthReport) -> None:
        status = HTTPStatus.OK if report.is_good else HTTPStatus.SERVICE_UNAVAILABLE
        self._json(status, as_json(report))

    def _json(self, status: HTTPStatus, value: object) -> None:
        body = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode()
        self._answer(status, "application/json; charset=utf-8", body + b"\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes ask every few seconds, for ever."""
