"""RabbitMQ's HTTP API, for what AMQP does not show: bindings, arguments, and what else there is.

Read only, with the standard library alone. Source: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from attune_mq import errors
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.amqp.tls import refusal
from attune_mq.topology.objects import RESERVED_PREFIX

DEFAULT_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_EXPECTED = "a URL of RabbitMQ's HTTP API such as http://user:password@host:15672"
EXCHANGE_FIELDS = ("name", "vhost", "type", "durable", "auto_delete", "internal", "arguments")
"""As definitions have them."""
QUEUE_COLUMNS = ("name", "type", "durable", "auto_delete", "exclusive", "arguments")

Listing = list[dict[str, Any]]


class InvalidManagementUrl(errors.InvalidInput):
    """The URL is none of RabbitMQ's HTTP API. The message never holds its password."""


class QueueTotals(NamedTuple):
    """Messages that are ready or unacknowledged, and consumers."""

    messages: int
    consumers: int


class ManagementClient:
    """Asks the HTTP API of one broker.

    ``url``: ``http://user:password@host:15672``, or ``https``; a path where the API stands below
    one. Without a user in it, ``user`` and ``password`` are used: see :func:`management_client`.
    ``tls``: for ``https``; by default the certificate is verified by the system's authorities.
    ``timeout_s``: for one answer, from connecting to its last byte.

    The user needs the tag ``management``, for :meth:`definitions` ``administrator``, and access to
    the virtual host. Requests go straight to the host, past any proxy, as AMQP does. Nothing is
    ever changed. Safe from any thread.

    Every method raises ``BrokerUnavailable`` (nothing listens, no answer in time, a server error),
    ``LoginRefused``, ``TlsRefused``, ``VirtualHostRefused`` (which also means: does not exist),
    ``PermissionRefused`` (a tag is missing), :class:`InvalidManagementUrl` (something answers that
    is not the HTTP API). ``repr`` and all messages leave the password out.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "guest",
        password: str = "guest",
        tls: ssl.SSLContext | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        parts = _checked(url)
        path = parts.path.rstrip("/")
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
        self._path = path.removesuffix("/api") + "/api"
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        self._user = user
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._host, self._port = parts.hostname, parts.port
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None

    def __repr__(self) -> str:
        return f"ManagementClient({self._shown!r})"

    def __str__(self) -> str:
        return self._shown

    def overview(self) -> dict[str, Any]:
        """What the broker says of itself: ``rabbitmq_version``, ``exchange_types``, …"""
        return self._mapping("overview")

    def version(self) -> str:
        """Of RabbitMQ, such as ``4.0.5``."""
        version = self.overview().get("rabbitmq_version")
        if not isinstance(version, str):
            raise self._not_the_api("JSON without rabbitmq_version")
        return version

    def vhost(self, vhost: str) -> dict[str, Any]:
        """Of one virtual host: ``default_queue_type`` (``"undefined"`` where none is set), …"""
        for one in self._listing("vhosts"):  # asking for the one alone takes an administrator
            if one.get("name") == vhost:
                return one
        raise self._no_vhost(vhost)

    def exchanges(self, vhost: str) -> Listing:
        """All exchanges, the default exchange and ``amq.*`` included."""
        return self._listing("exchanges", vhost)

    def queues(self, vhost: str, columns: Sequence[str] = QUEUE_COLUMNS) -> Listing:
        """All queues as they were declared, those exclusive to a connection included. Without
        statistics, which take the broker ten times as long: some seconds for 10,000 queues."""
        joined = ",".join(map(quote, columns))
        return self._listing("queues", vhost, query=f"disable_stats=true&columns={joined}")

    def queue_statistics(self, vhost: str) -> Listing:
        """All queues with their statistics: ``messages``, ``consumers``, rates, … The broker
        gathers them every five seconds, so they are that old at worst."""
        return self._listing("queues", vhost)

    def queue_totals(self, vhost: str, queue: str) -> QueueTotals | None:
        """Of one queue, counted at one moment, as long ago as :meth:`queue_statistics`; ``None``
        where the broker has not counted yet."""
        answer = self._mapping("queues", vhost, queue)
        messages, consumers = answer.get("messages"), answer.get("consumers")
        if not isinstance(messages, int) or not isinstance(consumers, int):
            return None
        return QueueTotals(messages, consumers)

    def policies(self, vhost: str) -> Listing:
        """All policies: ``name``, ``pattern``, ``apply-to``, ``definition``, ``priority``."""
        return self._listing("policies", vhost)

    def operator_policies(self, vhost: str) -> Listing:
        """All operator policies, with the same keys."""
        return self._listing("operator-policies", vhost)

    def bindings(self, vhost: str) -> Listing:
        """All bindings, those of the default exchange (``source`` is ``""``) included."""
        return self._listing("bindings", vhost)

    def consumers(self, vhost: str) -> Listing:
        """All consumers: ``consumer_tag``, ``queue`` (a mapping with ``name``), …"""
        return self._listing("consumers", vhost)

    def definitions(self, vhost: str) -> dict[str, Any]:
        """The definitions of one virtual host, as ``rabbitmqctl import_definitions`` takes them.

        RabbitMQ 4.3 leaves internal exchanges out of these and keeps the bindings to them; here
        they are with the others.
        """
        answer = self._mapping("definitions", vhost)
        there = {each.get("name") for each in answer.get("exchanges", ())}
        left_out = [
            {name: value for name, value in each.items() if name in EXCHANGE_FIELDS}
            for each in self.exchanges(vhost)
            if each["internal"] and each["name"] not in there
            if not each["name"].startswith(RESERVED_PREFIX)
        ]
        return {**answer, "exchanges": [*answer.get("exchanges", ()), *left_out]}

    def _mapping(self, *path: str) -> dict[str, Any]:
        answer = self._get(*path)
        if not isinstance(answer, dict):
            raise self._not_the_api("JSON of another shape")
        return answer

    def _listing(self, *path: str, query: str = "") -> Listing:
        answer = self._get(*path, query=query)
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise self._not_the_api("JSON of another shape")
        return answer

    def _get(self, *path: str, query: str = "") -> Any:
        target = "/".join((self._path, *(quote(step, safe="") for step in path)))
        try:
            status, body = self._answer(f"{target}?{query}" if query else target)
        except http.client.RemoteDisconnected as error:
            raise self._no_answer("it closed the connection") from error
        except (http.client.BadStatusLine, http.client.LineTooLong) as error:
            raise self._not_the_api("no HTTP") from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            if why := refusal(error, plain="http"):
                raise errors.TlsRefused(f"{self._shown}: {why}") from error
            raise self._no_answer(_reason(error)) from error
        if status != http.client.OK:
            raise self._refusal(status, _said(body), path)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._not_the_api(_kind_of(body)) from None

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._host, self._port, self._timeout_s
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)

    def _answer(self, target: str) -> tuple[int, bytes]:
        """The status and the whole body within the deadline, however slowly it comes."""
        deadline = time.monotonic() + self._timeout_s
        chunks = []
        with closing(self._connection()) as connection:
            connection.request("GET", target, headers=self._headers)
            response = connection.getresponse()
            while chunk := response.read1(_CHUNK_BYTES):
                chunks.append(chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        return response.status, b"".join(chunks)

    def _refusal(self, status: int, said: str, path: Sequence[str]) -> Exception:
        if status in (401, 403):
            return self._unauthorized(said, path)
        if status == 404 and len(path) > 1:
            return self._no_vhost(path[1])
        if status >= 500:
            return errors.BrokerUnavailable(f"{self._shown}: the HTTP API answers {status} {said}")
        return self._not_the_api(f"{status} {said}".rstrip())

    def _unauthorized(self, said: str, path: Sequence[str]) -> Exception:
        if "virtual host" in said:
            return self._no_vhost(path[-1])
        if lacking := re.search(r"not (\w+) user", said, re.IGNORECASE):
            tag = lacking[1].lower()
            return errors.PermissionRefused(
                f"{self._shown}: the user {self._user!r} lacks the tag {tag!r}; grant it with "
                f"`rabbitmqctl set_user_tags {self._user} {tag}`"
            )
        return errors.LoginRefused(
            f"{self._shown}: the HTTP API refuses the user {self._user!r} with this password"
            + (f" ({said})" if said else "")
        )

    def _no_vhost(self, vhost: str) -> errors.VirtualHostRefused:
        """RabbitMQ 4.3 no longer tells the two apart."""
        return errors.VirtualHostRefused(
            f"{self._shown}: there is no virtual host {vhost!r} (%2F in a URL stands for /), or "
            f"the user {self._user!r} may not enter it; grant it with `rabbitmqctl set_permissions`"
        )

    def _not_the_api(self, found: str) -> InvalidManagementUrl:
        return InvalidManagementUrl(
            f"{self._shown}: expected the answer of RabbitMQ's HTTP API, got {found}; is this its "
            f"address (port 15672 by default), and is the plugin rabbitmq_management enabled?"
        )

    def _no_answer(self, reason: str) -> errors.BrokerUnavailable:
        return errors.BrokerUnavailable(f"{self._shown}: the HTTP API does not answer: {reason}")


def management_client(
    url: str, broker: BrokerSettings, *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> ManagementClient:
    """A client that logs in as the broker's settings say, unless ``url`` says otherwise, and trusts
    whom they trust. Raises :class:`InvalidManagementUrl`, and ``InvalidInput`` for a file of the
    settings that cannot be used."""
    user, password = broker.login(broker.urls[0])
    tls = broker.tls_context() if urlsplit(url).scheme == "https" else None
    return ManagementClient(url, user=user, password=password, tls=tls, timeout_s=timeout_s)


def _checked(url: str) -> Any:
    shown = re.sub(r"//.*@", "//…@", url)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise InvalidManagementUrl(f"expected {_EXPECTED}, got {shown!r}")
    return parts


def _said(body: bytes) -> str:
    """The reason in RabbitMQ's own answer; of another's answer what it is."""
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _kind_of(body) if body else ""


def _kind_of(body: bytes) -> str:
    start = body[:200].lstrip().lower()
    if not start:
        return "an empty answer"
    return "HTML" if start.startswith((b"<!doctype html", b"<html")) else "no JSON"


def _reason(error: BaseException) -> str:
    known = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
    return next(known, str(error) or type(error).__name__)


_REASONS: dict[type[BaseException], str] = {
    socket.gaierror: "the host name is not known",
    ConnectionRefusedError: "connection refused",
    UnicodeError: "the host name cannot be one",
    ConnectionResetError: "connection reset; is this its port (15672 by default)?",
    TimeoutError: "it took too long",
    http.client.IncompleteRead: "it broke off in the middle of its answer",
}
