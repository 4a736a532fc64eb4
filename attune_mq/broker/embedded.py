"""A private RabbitMQ node as a child process: for development, demonstrations and tests.

    with EmbeddedBroker() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))

The node has a name, a cookie, a data directory, ports and an Erlang port mapper (epmd) of its own,
and listens on the loopback address alone; several run side by side. It is gone without a trace
when its owner is: after ``stop()``, after the process ended without it, and after SIGKILL
(:mod:`attune_mq.broker.embedded_guard` says how). It runs as whatever user its owner is.

``stop()`` deletes its data; ``kill()`` and ``restart()`` keep them.
"""

from __future__ import annotations

import logging
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

from attune_mq.broker.embedded_node import (
    LOOPBACK,
    PASSWORD,
    USER,
    Installation,
    Node,
    Ports,
    amqp_version,
    call_management,
    is_free,
)
from attune_mq.broker.embedded_processes import GuardedProcesses
from attune_mq.errors import BrokerNotStarted, BrokerUnavailable, InvalidInput

logger = logging.getLogger(__name__)

PORT_ATTEMPTS = 3
ORDERLY_STOP_S = 20.0
"""What a node may take to stop in order when its data are kept: with management it takes six."""
USAGE_EXIT_CODES = range(64, 66)
"""Those with which rabbitmqctl says that its arguments are wrong (``sysexits.h``)."""


class EmbeddedBroker:
    """A private node. ``with`` or ``start()`` starts it; the end of ``with`` or ``stop()`` ends it.

    ``port``: of AMQP; by default a free one. All other ports are free ones in any case.
    ``management``: with the HTTP API, at ``management_url``; it makes the start a second longer.
    ``plugins``: further plugins to enable, e.g. ``rabbitmq_consistent_hash_exchange``.
    ``config``: lines of ``rabbitmq.conf``, e.g. ``{"vm_memory_high_watermark.absolute": "64MB"}``.
    ``server``: the ``rabbitmq-server`` to run; by default what ``find_server()`` finds.
    ``root``: a directory with another system in it (debootstrap) whose server is run by ``chroot``:
    another version of RabbitMQ. It takes root's rights, or a Linux that lets users have namespaces
    of their own; ``/tmp`` is shared with it, and nothing stays mounted. Where neither ``root`` nor
    ``server`` is given, the environment variable ``RABBITMQ_TEST_ROOT`` may name one.
    ``start_timeout_s``: from spawn to ready. Usual are 4 to 8 s, on a busy machine 15.

    ``url`` and its like are known once it is started, and stay until it is stopped.
    One object is for one thread; a process forked off the owner cannot use it. Raises
    ``InvalidInput`` for a ``port`` that is none.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        management: bool = False,
        plugins: Sequence[str] = (),
        config: Mapping[str, str | int] | None = None,
        server: Path | None = None,
        root: Path | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        if port is not None and not 0 < port < 65536:
            raise InvalidInput(f"port: expected 1 to 65535, got {port}")
        self.node_name = f"attune-{secrets.token_hex(4)}@localhost"
        self._names: tuple[str, ...] = (self.node_name,)  # its handshake has one of them
        self._cookie = secrets.token_hex(16)
        self._fixed_port = port
        self._management = management
        self._plugins = (*plugins, *(["rabbitmq_management"] if management else []))
        self._config = dict(config or {})
        self._server = server
        self._root = root
        self._start_timeout_s = start_timeout_s
        self._ports = self._choose_ports()
        self.version = ""
        """Of RabbitMQ, as the node itself tells it; "" before the first start."""
        self._processes: GuardedProcesses | None = None
        self._system: Installation
        self._environment: dict[str, str] = {}

    @property
    def port(self) -> int:
        """The port of AMQP, on 127.0.0.1."""
        return self._ports.amqp

    @property
    def url(self) -> str:
        """The URL of its virtual host ``/``, with the user guest and the password guest."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """The URL of another virtual host. It need not exist."""
        return f"amqp://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str | None:
        """The URL of the HTTP API, with user and password; None without ``management``."""
        if not self._management:
            return None
        return f"http://{USER}:{PASSWORD}@{LOOPBACK}:{self._ports.management}"

    @property
    def directory(self) -> Path:
        """Where its files are. Raises ``BrokerUnavailable`` if it was not started."""
        return self._started().directory

    @property
    def environment(self) -> Mapping[str, str]:
        """With what ``rabbitmqctl`` and other Erlang programs find it: epmd, cookie, loopback."""
        self._started()
        return self._environment

    @property
    def running(self) -> bool:
        """Whether its process is there: also while it is paused, not when it was killed."""
        return self._processes is not None and self._processes.exit_code("node") is None

    def start(self) -> Self:
        """Start the node and return when it is ready: it has answered an AMQP handshake.

        After ``kill()`` it starts again on its old port and data; while it runs, nothing happens.
        Raises ``RabbitMQNotInstalled``, and ``BrokerNotStarted`` with what the node printed to say
        why. A node that does not start for the first time leaves nothing behind; after
        ``kill()`` its data stay. A port of ours that another process was quicker to take is
        replaced, up to three times; a ``port`` that the caller gave is not.
        """
        if self._processes is not None:
            if not self.running:
                self._start_node(self._system, self._processes)
            return self
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                return self._start_first()
            except BrokerNotStarted:
                if not set(self._ports.taken()) - {self._fixed_port}:
                    raise
                self._ports = self._choose_ports()
        return self._start_first()

    def stop(self) -> None:
        """Stop the node in order, delete its directory, and return when both are gone.

        It takes one second, with management two. A node that was not started, or was stopped, is
        left as it is. Its data are deleted: a later ``start()`` starts an empty node.
        """
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()

    def kill(self) -> None:
        """SIGKILL, as a crash of the machine would be but for what the disk still had to write.

        Durable queues and confirmed persistent messages are there after ``start()``; messages that
        were not confirmed may be lost.
        """
        self._started().end("node", grace_s=0)

    def restart(self) -> Self:
        """Stop the node in order and start it again on the same port and data."""
        self._started().end("node", grace_s=ORDERLY_STOP_S)
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: the node keeps its connections and answers nothing, until ``resume()``."""
        self._started().signal("node", signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: the node goes on after ``pause()``."""
        self._started().signal("node", signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def rabbitmqctl(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """What ``rabbitmqctl`` prints for these arguments. A call takes half a second or more.

        Raises ``InvalidInput`` for arguments that it refuses, ``BrokerUnavailable`` otherwise.
        """
        self._started()
        program = self._system.server.with_name("rabbitmqctl")
        try:
            done = subprocess.run(
                self._system.command(program, "--node", self.node_name, *arguments),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailable(f"rabbitmqctl took longer than {timeout_s} s") from error
        if done.returncode:
            kind = InvalidInput if done.returncode in USAGE_EXIT_CODES else BrokerUnavailable
            printed = (done.stderr or done.stdout).strip()
            command = " ".join(arguments[:1])  # no more of them: one may be a password
            raise kind(f"rabbitmqctl {command} failed ({done.returncode}): {printed}")
        return done.stdout

    @contextmanager
    def fresh_vhost(self) -> Iterator[str]:
        """A new, empty virtual host while the context lasts: its URL. For tests that share a node.

        It costs some 50 ms with management, and two seconds by ``rabbitmqctl`` without.
        """
        name = f"fresh-{secrets.token_hex(4)}"
        if self._management:
            call_management(self._ports.management, "PUT", f"vhosts/{name}")  # grants all to us
        else:
            self.rabbitmqctl("add_vhost", name)
            self.rabbitmqctl("set_permissions", "--vhost", name, USER, ".*", ".*", ".*")
        try:
            yield self.url_of(name)
        finally:
            if self.running and self._management:
                call_management(self._ports.management, "DELETE", f"vhosts/{name}")
            elif self.running:
                self.rabbitmqctl("delete_vhost", name)

    def _started(self) -> GuardedProcesses:
        if self._processes is None:
            raise BrokerUnavailable("the private RabbitMQ node is not started")
        return self._processes

    def _start_first(self) -> Self:
        system = self._system = Installation.find(self._server, self._root)
        if taken := self._ports.taken():
            raise BrokerNotStarted(
                f"port {taken[0]} of {LOOPBACK} is in use, or reserved to root: "
                "choose another, or none for a free one"
            )
        try:
            processes = self._processes = GuardedProcesses(system.temporary_directory)
            home = processes.directory
            node = Node(
                self.node_name, self._ports, home, self._plugins, self._config, self._cookie
            )
            node.write_files()
            self._environment = node.environment()
            self._start_epmd(system, processes)
            self._start_node(system, processes)
        except BaseException:
            self.stop()
            raise
        return self

    def _choose_ports(self) -> Ports:
        return Ports.choose(self._fixed_port)

    def _start_epmd(self, system: Installation, processes: GuardedProcesses) -> None:
        port = self._ports.epmd
        processes.start("epmd", system.epmd_command(port), self._environment)
        processes.wait_until("epmd", lambda: not is_free(port), self._start_timeout_s)

    def _start_node(self, system: Installation, processes: GuardedProcesses) -> None:
        started_at = time.monotonic()
        processes.start("node", system.command(system.server, "-noinput"), self._environment)
        try:
            processes.wait_until("node", self._is_ready, self._start_timeout_s)
        except BaseException:
            processes.end("node", grace_s=0)
            raise
        seconds = round(time.monotonic() - started_at, 2)
        logger.info(
            "Private RabbitMQ node is ready",
            extra={"port": self.port, "version": self.version, "seconds": seconds},
        )

    def _is_ready(self) -> bool:
        self.version = amqp_version(self.port, *self._names) or ""
        if self.version and self._management:
            try:
                call_management(self._ports.management, "GET", "overview")  # 500 for a moment
            except BrokerUnavailable:
                return False
        return bool(self.version)
