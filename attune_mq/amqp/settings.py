"""Where the broker is and how to speak with it: from arguments or ``ATTUNE_MQ_*`` variables."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

import pika

from attune_mq.amqp.setting_files import StrPath, read_password, variable_of
from attune_mq.amqp.tls import client_context
from attune_mq.errors import InvalidInput

DEFAULT_URL = "amqp://guest:guest@localhost:5672/%2F"
DEFAULT_HEARTBEAT_S = 30
DEFAULT_CONNECT_TIMEOUT_S = 10.0
_EXPECTED = "a URL such as amqp://user:password@host:5672/%2F"
_TLS_SETTINGS = ("ca_file", "cert_file", "key_file", "server_name")


class InvalidBrokerUrl(InvalidInput):
    """A broker URL cannot be understood. The message never holds its password."""


@dataclass(frozen=True)
class BrokerSettings:
    """How to reach a broker, and how both sides know each other.

    ``urls``: one or more, of which a connection tries each in random order. The virtual host is
    the path, percent-encoded: ``%2F`` is ``/``, which is also what no path means. ``amqps`` asks
    for TLS, and then the broker's certificate and name are verified, always.
    ``heartbeat_s``: the broker and the library each take the other for dead after twice as many
    seconds of silence. ``connect_timeout_s``: for one attempt at one host.

    ``password``, or ``password_file``, which holds it on one line: of the user in a URL without a
    password. A URL that has one keeps to it; without a user it is that of ``guest``.
    ``ca_file``: the certificates of the authorities to trust, instead of the system's.
    ``cert_file``, ``key_file``: the client certificate with those between it and its authority,
    and its key, which may stand in the same file. ``server_name``: what the broker's certificate
    calls it, where that is not the host in the URL. All files are PEM, without a passphrase.

    Files are read for each connection: what is replaced in them holds from the next one on.
    With settings of TLS an ``amqp`` URL to another machine is refused, so that a forgotten ``s``
    does not send everything, the password included, unencrypted.

    ``repr`` and ``str`` never show a password. Raises :class:`~attune_mq.errors.InvalidInput`.
    """

    urls: tuple[str, ...] = (DEFAULT_URL,)
    heartbeat_s: int = DEFAULT_HEARTBEAT_S
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    password: str | None = None
    password_file: StrPath | None = None
    ca_file: StrPath | None = None
    cert_file: StrPath | None = None
    key_file: StrPath | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        for url in self.urls:
            _check(url)
        if not self.urls:
            raise InvalidBrokerUrl(f"expected {_EXPECTED}, got none")
        self._check_login()
        self._check_tls()

    def __repr__(self) -> str:
        return f"BrokerSettings({self}, heartbeat_s={self.heartbeat_s})"

    def __str__(self) -> str:
        return ", ".join(redacted(url) for url in self.urls)

    @classmethod
    def of(cls, broker: str | Sequence[str] | BrokerSettings | None = None) -> BrokerSettings:
        """Settings as they are; otherwise what the environment says, with this URL, or these
        (several in one text: separated by commas), in place of ``ATTUNE_MQ_URL``. Raises
        :class:`InvalidBrokerUrl`, and :class:`~attune_mq.errors.InvalidInput` for the others."""
        if isinstance(broker, BrokerSettings):
            return broker
        return cls.from_environment(os.environ, broker)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], urls: str | Sequence[str] | None = None
    ) -> BrokerSettings:
        """``ATTUNE_MQ_URL`` (several: separated by commas), unless ``urls`` are given;
        ``ATTUNE_MQ_HEARTBEAT_S``, ``ATTUNE_MQ_CONNECT_TIMEOUT_S``, ``ATTUNE_MQ_PASSWORD``,
        ``ATTUNE_MQ_PASSWORD_FILE``, ``ATTUNE_MQ_CA_FILE``, ``ATTUNE_MQ_CERT_FILE``,
        ``ATTUNE_MQ_KEY_FILE``, ``ATTUNE_MQ_SERVER_NAME``. An empty one counts as not set."""
        if urls is None:
            urls = environment.get("ATTUNE_MQ_URL") or DEFAULT_URL
        listed = urls.split(",") if isinstance(urls, str) else urls
        heartbeat = _number(environment, "ATTUNE_MQ_HEARTBEAT_S", DEFAULT_HEARTBEAT_S)
        timeout = _number(environment, "ATTUNE_MQ_CONNECT_TIMEOUT_S", DEFAULT_CONNECT_TIMEOUT_S)
        texts = ("password", "password_file", *_TLS_SETTINGS)
        return cls(
            urls=tuple(url.strip() for url in listed if url.strip()),
            heartbeat_s=int(heartbeat),
            connect_timeout_s=timeout,
            **{name: environment.get(variable_of(name)) or None for name in texts},
        )

    def parameters(self, url: str, *, name: str) -> pika.URLParameters:
        """pika's parameters for one of the ``urls``; ``name`` is what the broker's lists show.

        Reads the files. Raises :class:`~attune_mq.errors.InvalidInput` for one that is missing or
        is not what it should be.
        """
        parameters = _address(urlsplit(url))
        parameters.credentials = pika.PlainCredentials(*self.login(url))
        if _is_tls(url):
            server_name = self.server_name or parameters.host
            parameters.ssl_options = pika.SSLOptions(self.tls_context(), server_name)
        parameters.heartbeat = self.heartbeat_s
        parameters.socket_timeout = self.connect_timeout_s
        parameters.stack_timeout = self.connect_timeout_s * 1.5
        parameters.connection_attempts = 1
        parameters.client_properties = {"connection_name": name, "product": "attune_mq"}
        return parameters

    def login(self, url: str) -> tuple[str, str]:
        """User and password for one of the ``urls``: what stands in it, else the setting."""
        parts = urlsplit(url)
        user = "guest" if parts.username is None else unquote(parts.username)
        if parts.password is not None:
            return user, unquote(parts.password)
        if self.password_file is not None:
            return user, read_password(self.password_file)
        return user, "guest" if self.password is None else self.password

    def tls_context(self) -> ssl.SSLContext:
        """With these files, for AMQP and for the HTTP API. Reading the system's authorities, where
        no ``ca_file`` is set, takes some 70 ms."""
        return client_context(self.ca_file, self.cert_file, self.key_file)

    def _check_login(self) -> None:
        if self.password is not None and self.password_file is not None:
            raise InvalidInput(
                "expected one password, got password (ATTUNE_MQ_PASSWORD) and password_file "
                "(ATTUNE_MQ_PASSWORD_FILE): leave one of them out"
            )
        if self.password is not None or self.password_file is not None:
            return
        for url in self.urls:
            parts = urlsplit(url)
            if parts.username is not None and parts.password is None:
                raise InvalidBrokerUrl(
                    f"expected a password for {redacted(url)}, got none: set password_file "
                    f"(ATTUNE_MQ_PASSWORD_FILE) or password (ATTUNE_MQ_PASSWORD)"
                )

    def _check_tls(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise InvalidInput(
                "key_file (ATTUNE_MQ_KEY_FILE): expected cert_file (ATTUNE_MQ_CERT_FILE) beside it"
            )
        given = [name for name in _TLS_SETTINGS if getattr(self, name) is not None]
        for url in self.urls:
            if given and not _is_tls(url) and not _is_this_machine(urlsplit(url).hostname or ""):
                raise InvalidBrokerUrl(
                    f"{given[0]} ({variable_of(given[0])}) is set, and {redacted(url)} would be "
                    f"spoken to without TLS: write amqps://, or leave the settings of TLS out"
                )


def redacted(url: str) -> str:
    """The URL without its password: ``amqp://user:…@host:5672/%2F``.

    Of a text that is no URL nothing is left where a password may stand, such as one that was not
    percent-encoded, or was cut at a comma.
    """
    scheme, separator, rest = url.rpartition("://")
    login, at, address = rest.rpartition("@")
    if not at:
        return scheme + separator + re.sub(r"^([^:/[]*):(?!\d*(?:[/?]|$)).*", r"\1:…", rest)
    user, colon, _ = login.partition(":")
    shown = user if separator and not colon else f"{user}:…" if separator else "…"
    return f"{scheme}{separator}{shown}@{address}"


def virtual_host(url: str) -> str:
    path = urlsplit(url).path
    return unquote(path[1:]) if len(path) > 1 else "/"


def _check(url: str) -> None:
    shown = redacted(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may hold a part of the password
        raise InvalidBrokerUrl(
            f"expected {_EXPECTED}, got {shown!r}, whose host or port cannot be read: is its "
            f"password percent-encoded (%2F for /, %2C for a comma)?"
        ) from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname or port == 0:
        raise InvalidBrokerUrl(f"expected {_EXPECTED}, got {shown!r}")
    if "/" in parts.path[1:]:
        raise InvalidBrokerUrl(
            f"expected a virtual host without a bare slash, got {shown!r}: write %2F for each"
        )
    if "ssl_options" in parse_qs(parts.query):
        raise InvalidBrokerUrl(
            f"{shown}: expected no ssl_options in the URL: set ca_file, cert_file, key_file and "
            f"server_name, or their variables ATTUNE_MQ_CA_FILE, …"
        )
    try:
        _address(parts)
    except Exception as error:
        raise InvalidBrokerUrl(
            f"expected {_EXPECTED}, got {shown!r} ({type(error).__name__})"
        ) from None


def _address(parts: SplitResult) -> pika.URLParameters:
    """Host, port, virtual host and options. pika gets neither login nor ``amqps``: it would insist
    on a password, and read the system's authorities whether they are needed or not."""
    host = parts.netloc.rpartition("@")[2]
    parameters = pika.URLParameters(urlunsplit(("amqp", host, parts.path, parts.query, "")))
    if parts.scheme == "amqps" and parts.port is None:
        parameters.port = pika.URLParameters.DEFAULT_SSL_PORT
    return parameters


def _is_tls(url: str) -> bool:
    return urlsplit(url).scheme == "amqps"


def _is_this_machine(host: str) -> bool:
    """A private node, or a tunnel or proxy that does the TLS."""
    return host in ("localhost", "::1") or host.startswith("127.")


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
