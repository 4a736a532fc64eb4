"""What a private RabbitMQ node needs: a server, free ports, files and an environment of its own.

The node must neither see nor touch anything else of RabbitMQ on the machine: ``/etc/rabbitmq``, the
user's cookie and the usual epmd stay out of it, and every port is bound to 127.0.0.1 (epmd adds
``::1`` on its own account). What is set here, and why:

* Ports and addresses come by environment variables and arguments, not from a ``rabbitmq.conf``:
  reading one costs the start a second. There is one only if the caller asks for settings.
* ``-start_epmd false`` keeps every Erlang of this node, ``rabbitmqctl`` included, from starting an
  epmd daemon, which would outlive it. The node's epmd is a child of its guard.
* ``inet_dist_use_interface`` keeps Erlang's distribution, that of ``rabbitmqctl`` too, on loopback.
* ``RABBITMQ_ALLOW_INPUT`` makes the server's script replace itself by Erlang instead of waiting for
  it, so that signals and the exit code are the node's own. That it takes no input, after all, is
  said by its argument ``-noinput``.
* All that the node prints goes to one file, early errors included (``RABBITMQ_LOGS=-``).

Sources: https://www.rabbitmq.com/docs/configure, https://www.erlang.org/doc/apps/erts/erl_cmd.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import socket
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from attune_mq.errors import BrokerUnavailable, RabbitMQNotInstalled

LOOPBACK = "127.0.0.1"
API_TIMEOUT_S = 10.0
USER, PASSWORD = "guest", "guest"
"""RabbitMQ's own first user. Any user with an account on the machine can connect as it."""

USUAL_PLACES = (
    Path("/usr/lib/rabbitmq/bin"),  # Debian, RPM; their /usr/sbin wrapper changes user and logs
    Path("/opt/homebrew/sbin"),
    Path("/usr/local/sbin"),
    Path("/opt/rabbitmq/sbin"),  # the Docker image
)
ROOT_VARIABLE = "RABBITMQ_TEST_ROOT"
SHARED = Path("/tmp")
ENTER_ROOT = 'mount --rbind /proc "$0/proc" && mount --rbind /tmp "$0/tmp" && exec chroot "$0" "$@"'
"""For a shell with mounts of its own: they are gone when the last process that sees them is."""
COMPLAINT_LINES = 15
LOGGED_AS_ERROR = re.compile(r"^\S+ \S+ \[error\] <[\d.]+> ?")
"""What stands before each line of an error in the log: date, time, level and Erlang process."""

PRIVATE_PORTS = range(20_000, 32_768)
"""Below the ports from which Linux and macOS take one for every outgoing connection."""


def find_server(places: Iterable[Path] = USUAL_PLACES, path: str | None = None) -> Path:
    """The ``rabbitmq-server`` of this machine: in one of ``places``, else on ``path`` (``PATH``).

    Raises ``RabbitMQNotInstalled``, whose message says how to get one.
    """
    usual = [str(place / "rabbitmq-server") for place in places]
    for candidate in (*usual, "rabbitmq-server"):
        if found := shutil.which(candidate, path=path):
            return Path(found)
    raise RabbitMQNotInstalled(
        f"no RabbitMQ server here (looked for {', '.join(usual)}, and on PATH). Install it: "
        "apt-get install rabbitmq-server (Debian, Ubuntu) or brew install rabbitmq (macOS); "
        "or run one, docker run -p 5672:5672 rabbitmq:4, "
        "and set ATTUNE_MQ_URL=amqp://guest:guest@localhost:5672/%2F"
    )


def find_epmd() -> Path:
    """Erlang's port mapper: on ``PATH``, else beside the ``erl`` found there."""
    erl = shutil.which("erl")
    beside = [str(Path(erl).resolve().with_name("epmd"))] if erl else []
    for candidate in ("epmd", *beside):
        if found := shutil.which(candidate):
            return Path(found)
    raise RabbitMQNotInstalled("Erlang's epmd is not on PATH; it comes with Erlang: install erlang")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(but: int | None = None) -> Iterator[int]:
    """Ports that are free at the moment they are asked for, in random order."""
    shuffled = random.SystemRandom().sample(PRIVATE_PORTS, len(PRIVATE_PORTS))
    return (port for port in shuffled if port != but and is_free(port))


@dataclass(frozen=True)
class Installation:
    """The programs of a node: of this system, or of another one that is unpacked below ``root``."""

    server: Path
    epmd: Path
    root: Path | None = None

    @classmethod
    def find(cls, server: Path | None = None, root: Path | None = None) -> Installation:
        """What the caller named, else what ``RABBITMQ_TEST_ROOT`` names, else what is found.

        Raises ``RabbitMQNotInstalled``.
        """
        if server is None and root is None and os.environ.get(ROOT_VARIABLE):
            root = Path(os.environ[ROOT_VARIABLE])
        if root is None:
            server, epmd = server or find_server(), find_epmd()
            outside = server
        else:
            root = root.resolve()
            server, epmd = server or USUAL_PLACES[0] / "rabbitmq-server", Path("/usr/bin/epmd")
            outside = root / server.relative_to("/")
        if not os.access(outside, os.X_OK):
            raise RabbitMQNotInstalled(f"no executable RabbitMQ server at {outside}, as configured")
        return cls(server, epmd, root)

    def command(self, program: Path, *arguments: str) -> list[str]:
        """How to run a program of this system."""
        if self.root is None:
            return [str(program), *arguments]
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        enter = ["unshare", "--mount", *rights, "sh", "-c", ENTER_ROOT, str(self.root)]
        return [*enter, str(program), *arguments]

    def epmd_command(self, port: int) -> list[str]:
        return self.command(self.epmd, "-port", str(port), "-address", LOOPBACK)

    @property
    def temporary_directory(self) -> Path:
        """Where the node's directory can be made such that it has one path for all."""
        usual = Path(tempfile.gettempdir())
        return usual if self.root is None or usual.is_relative_to(SHARED) else SHARED


@dataclass(frozen=True)
class Ports:
    """The ports of one node, all different. ``epmd``: of its Erlang port mapper, which others may
    have started."""

    amqp: int
    management: int
    distribution: int
    epmd: int
    shares_epmd: bool = False

    @classmethod
    def choose(cls, amqp: int | None = None) -> Ports:
        """Ports that are free now. Another process can still take one before the node does."""
        free = free_ports(but=amqp)
        return cls(next(free) if amqp is None else amqp, next(free), next(free), next(free))

    def taken(self) -> list[int]:
        """Those on which a process listens."""
        own = [self.amqp, self.management, self.distribution]
        own += [] if self.shares_epmd else [self.epmd]
        return [port for port in own if not is_free(port)]


@dataclass(frozen=True)
class Node:
    """One node. ``home`` is its directory."""

    name: str
    ports: Ports
    home: Path
    plugins: tuple[str, ...]
    config: Mapping[str, str | int]
    cookie: str

    def write_files(self) -> None:
        """Write its files into its directory."""
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)  # Erlang refuses a cookie that others can read
        (self.home / "conf.d").mkdir()
        (self.home / "plugins").write_text(f"[{','.join(self.plugins)}].\n")
        if self.config:
            lines = [f"{key} = {value}\n" for key, value in self.config.items()]
            (self.home / "rabbitmq.conf").write_text("".join(lines))

    def environment(self) -> dict[str, str]:
        """All that its processes inherit: from this process PATH, language and time zone alone."""
        inherited = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        loopback = "{" + LOOPBACK.replace(".", ",") + "}"
        return inherited | {
            "LANG": "C.UTF-8",  # rabbitmqctl complains of any encoding but UTF-8
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ALLOW_INPUT": "yes",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "no-rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.home / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "no-advanced.config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-rabbitmq_management tcp_config "
                f'[{{ip,"{LOOPBACK}"}},{{port,{self.ports.management}}}]'
            ),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_CRASH_DUMP_SECONDS": "0",  # a crash dump costs seconds and is deleted anyway
            "ERL_ZFLAGS": f"-start_epmd false -kernel inet_dist_use_interface {loopback}",
        }


def amqp_version(port: int, *node_names: str, timeout_s: float = 2.0) -> str | None:
    """The version of the node that answers an AMQP 0-9-1 handshake here, None if none does yet.

    An answer counts only if it bears one of these names (in its ``cluster_name``): another process
    may have taken the port, and it may well be another RabbitMQ.
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout_s) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            with connection.makefile("rb") as stream:  # type, channel, size, frame
                start = stream.read(int.from_bytes(stream.read(7)[3:], "big"))
    except OSError:
        return None
    if not any(name.split("@")[0].encode() + b"@" in start for name in node_names):
        return None
    _, found, rest = start.partition(b"\x07versionS")  # a long string in a field table
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")].decode() if found else None


def complaint(printed: str) -> str:
    """What of a node's output says why it failed: its first error and what follows.

    The end would not do: that is Erlang's account of a hundred lines of how everything stopped.
    Where no error was logged, the last lines.
    """
    lines = [line for line in printed.splitlines() if line.strip() and "\x1b" not in line]
    errors = [at for at, line in enumerate(lines) if " [error] " in line]
    start = errors[0] if errors else max(0, len(lines) - COMPLAINT_LINES)
    texts = (LOGGED_AS_ERROR.sub("", line) for line in lines[start:][:COMPLAINT_LINES])
    return "\n".join(line for line in texts if line)


def call_management(port: int, method: str, path: str) -> None:
    """One request to the HTTP API, never by a proxy.

    Raises ``BrokerUnavailable`` where there is no answer, or the answer is not a success.
    """
    token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = Request(f"http://{LOOPBACK}:{port}/api/{path}", headers=headers, method=method)
    try:
        build_opener(ProxyHandler({})).open(request, timeout=API_TIMEOUT_S).close()
    except (OSError, http.client.HTTPException) as error:
        raise BrokerUnavailable(f"{method} {path}: {error}") from error
