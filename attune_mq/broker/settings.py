"""Where the broker is and how to speak with it: from arguments or ``ATTUNE_MQ_*`` variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

import pika

from attune_mq.errors import InvalidInput

DEFAULT_URL = "amqp://guest:guest@localhost:5672/%2F"
DEFAULT_HEARTBEAT_S = 30
DEFAULT_CONNECT_TIMEOUT_S = 10.0
_EXPECTED = "a URL such as amqp://user:password@host:5672/%2F"


class InvalidBrokerUrl(InvalidInput):
    """A broker URL cannot be understood. The message never holds its password."""


@dataclass(frozen=True)
class BrokerSettings:
    """How to reach a broker.

    ``urls``: one or more, of which a connection tries each in random order. The virtual host is
    the path, percent-encoded: ``%2F`` is ``/``, which is also what no path means. ``amqps`` asks
    for TLS with verification.
    ``heartbeat_s``: the broker and the library each take the other for dead after twice as many
    seconds of silence. ``connect_timeout_s``: for one attempt at one host.

    ``repr`` and ``str`` never show a password.
    """

    urls: tuple[str, ...] = (DEFAULT_URL,)
    heartbeat_s: int = DEFAULT_HEARTBEAT_S
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S

    def __post_init__(self) -> None:
        for url in self.urls:
            _check(url)
        if not self.urls:
            raise InvalidBrokerUrl(f"expected {_EXPECTED}, got none")

    def __repr__(self) -> str:
        return f"BrokerSettings({self}, heartbeat_s={self.heartbeat_s})"

    def __str__(self) -> str:
        return ", ".join(redacted(url) for url in self.urls)

    @classmethod
    def of(cls, broker: str | Sequence[str] | BrokerSettings | None = None) -> BrokerSettings:
        """Settings as they are; a URL or several, separated by commas; or, for ``None``, what the
        environment says. Raises :class:`InvalidBrokerUrl`."""
        if isinstance(broker, BrokerSettings):
            return broker
        if broker is None:
            return cls.from_environment(os.environ)
        urls = broker.split(",") if isinstance(broker, str) else list(broker)
        return cls(urls=tuple(url.strip() for url in urls if url.strip()))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BrokerSettings:
        """``ATTUNE_MQ_URL`` (several: separated by commas), ``ATTUNE_MQ_HEARTBEAT_S``,
        ``ATTUNE_MQ_CONNECT_TIMEOUT_S``."""
        settings = cls.of(environment.get("ATTUNE_MQ_URL") or DEFAULT_URL)
        heartbeat = _number(environment, "ATTUNE_MQ_HEARTBEAT_S", DEFAULT_HEARTBEAT_S)
        timeout = _number(environment, "ATTUNE_MQ_CONNECT_TIMEOUT_S", DEFAULT_CONNECT_TIMEOUT_S)
        return replace(settings, heartbeat_s=int(heartbeat), connect_timeout_s=timeout)

    def parameters(self, url: str, *, name: str) -> pika.URLParameters:
        """pika's parameters for one of the ``urls``; ``name`` is what the broker's lists show."""
        parameters = pika.URLParameters(url)
        parameters.heartbeat = self.heartbeat_s
        parameters.socket_timeout = self.connect_timeout_s
        parameters.stack_timeout = self.connect_timeout_s * 1.5
        parameters.connection_attempts = 1
        parameters.client_properties = {"connection_name": name, "product": "attune_mq"}
        return parameters


def redacted(url: str) -> str:
    """The URL without its password: ``amqp://user:…@host:5672/%2F``."""
    return re.sub(r"(?<=://)([^:/@]*):[^/]*@", r"\1:…@", url)


def virtual_host(url: str) -> str:
    path = urlsplit(url).path
    return unquote(path[1:]) if len(path) > 1 else "/"


def _check(url: str) -> None:
    shown = redacted(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidBrokerUrl(f"expected {_EXPECTED}, got {shown!r} ({error})") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname or port == 0:
        raise InvalidBrokerUrl(f"expected {_EXPECTED}, got {shown!r}")
    if "/" in parts.path[1:]:
        raise InvalidBrokerUrl(
            f"expected a virtual host without a bare slash, got {shown!r}: write %2F for each"
        )
    try:
        pika.URLParameters(url)
    except Exception as error:
        raise InvalidBrokerUrl(
            f"expected {_EXPECTED}, got {shown!r} ({type(error).__name__})"
        ) from None


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < 1e6:
        raise InvalidInput(f"{name}: expected a number of seconds above 0, got {text!r}")
    return value
