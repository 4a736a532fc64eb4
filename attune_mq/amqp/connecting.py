"""Opening connections. pika's exceptions become ours here."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from attune_mq.amqp.settings import BrokerSettings, redacted, virtual_host
from attune_mq.amqp.tls import ask_again, refusal
from attune_mq.errors import (
    AttuneError,
    BrokerUnavailable,
    LoginRefused,
    TlsRefused,
    VirtualHostRefused,
)


def open_connection(
    settings: BrokerSettings, *, name: str, inner: type[pika.SelectConnection] | None = None
) -> pika.BlockingConnection:
    """A connection to the first host that lets us in, of all in random order.

    ``name`` is what the broker's list of connections shows. ``inner``: what does its work, where
    that is not pika's own. Raises :class:`LoginRefused`,
    :class:`VirtualHostRefused` or :class:`TlsRefused` when a host refuses us or we refuse it,
    :class:`~attune_mq.errors.InvalidInput` for a file of the settings that cannot be used, and
    :class:`BrokerUnavailable`, naming what each said, when none can be reached.
    """
    failures: list[AttuneError] = []
    for url in random.sample(settings.urls, len(settings.urls)):
        try:
            # pika's annotation asks for an instance; what it wants is the class.
            return pika.BlockingConnection(
                settings.parameters(url, name=name), cast(pika.SelectConnection | None, inner)
            )
        except AttuneError as error:  # a file of the settings
            failures.append(error)
        except (pika_errors.AMQPError, AMQPConnectorStackTimeout, OSError) as error:
            failures.append(connection_failure(error, url, settings))
    refused = [failure for failure in failures if not isinstance(failure, BrokerUnavailable)]
    if refused:
        raise refused[0]
    raise BrokerUnavailable("; ".join(str(failure) for failure in failures)) from failures[-1]


def connection_failure(error: BaseException, url: str, settings: BrokerSettings) -> AttuneError:
    """Why a connection to ``url`` could not be opened or was lost, as an error of ours."""
    shown = redacted(url)
    failure: AttuneError
    if _is_only_guessed(error):
        failure = BrokerUnavailable(f"{shown}: the connection was lost in its handshake")
    elif isinstance(
        error, pika_errors.ProbableAuthenticationError | pika_errors.AuthenticationError
    ):
        failure = LoginRefused(
            f"{shown}: the broker refuses this user and password; check both {_whence(url)}"
        )
    elif isinstance(error, pika_errors.ProbableAccessDeniedError):
        failure = VirtualHostRefused(_virtual_host_refusal(error, url))
    elif why := _tls_refusal(error, url, settings):
        failure = TlsRefused(f"{shown}: {why}")
    else:
        failure = BrokerUnavailable(
            f"{shown}: the broker cannot be reached: {_reason(error)}; is it running, "
            f"and is this its address?"
        )
    failure.__cause__ = error
    return failure


def _is_only_guessed(error: BaseException) -> bool:
    """pika takes a connection that is lost in its handshake for a probable refusal; only a broker
    that says so refuses us, since waiting mends the other."""
    guesses = pika_errors.ProbableAuthenticationError | pika_errors.ProbableAccessDeniedError
    return isinstance(error, guesses) and "ConnectionClosedByBroker" not in str(error)


def _whence(url: str) -> str:
    if urlsplit(url).password is not None:
        return "in the URL"
    return "(password_file, ATTUNE_MQ_PASSWORD_FILE, or password, ATTUNE_MQ_PASSWORD)"


def _tls_refusal(error: BaseException, url: str, settings: BrokerSettings) -> str | None:
    for inner in _chain(error):
        if why := refusal(inner):
            return why
    if not isinstance(error, pika_errors.IncompatibleProtocolError):  # it did speak AMQP, or TLS
        return None
    try:
        parameters = settings.parameters(url, name="")
    except AttuneError:  # a file that was there a moment ago
        return None
    options = parameters.ssl_options
    return ask_again(
        parameters.host,
        parameters.port,
        options.context if options else None,
        server_name=(options and options.server_hostname) or parameters.host,
        timeout_s=settings.connect_timeout_s,
    )


def _virtual_host_refusal(error: BaseException, url: str) -> str:
    name, shown = virtual_host(url), redacted(url)
    if "not found" in str(error):
        return (
            f"{shown}: there is no virtual host {name!r}; create it with "
            f"`rabbitmqctl add_vhost {name}`, or write another in the URL (%2F stands for /)"
        )
    user = urlsplit(url).username or "guest"
    return (
        f"{shown}: the user may not enter the virtual host {name!r}; grant it with "
        f"`rabbitmqctl set_permissions -p {name} {user} …`"
    )


def _reason(error: BaseException) -> str:
    for inner in _chain(error):
        if isinstance(inner, socket.gaierror):
            return "the host name is not known"
        if isinstance(inner, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(inner, TimeoutError | AMQPConnectorStackTimeout):
            return "it does not answer in time"
        if isinstance(inner, pika_errors.ConnectionClosedByBroker):
            return f"it closed the connection ({inner.reply_code} {inner.reply_text})"
        if isinstance(inner, pika_errors.IncompatibleProtocolError):
            return "it hung up before it spoke AMQP"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
    return str(error) or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with all that led to it; pika keeps the causes in its ``args`` and attributes."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            inner = (getattr(one, "exception", None), getattr(one, "exceptions", None))
            waiting += [*one.args, *inner, one.__cause__]
    return iter(seen)


@contextlib.contextmanager
def our_errors(settings: BrokerSettings) -> Iterator[None]:
    """What pika says of a lost connection inside the block becomes :class:`BrokerUnavailable`."""
    try:
        yield
    except (pika_errors.AMQPConnectionError, OSError) as error:
        raise BrokerUnavailable(f"{settings}: the connection was lost: {_reason(error)}") from error


CLOSING_ATTEMPTS = 3


class _ExpectedRefusals(logging.Filter):
    """pika warns of every channel that the broker closes. Where a refusal is an answer that was
    asked for, and is reported by us, the warning would say it twice."""

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self._here, "expected", False)

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """In this thread, for the time of the block."""
        self._here.expected = True
        try:
            yield
        finally:
            self._here.expected = False


expected_refusals = _ExpectedRefusals()
for _name in ("pika.channel", "pika.connection"):
    logging.getLogger(_name).addFilter(expected_refusals)


def close_quietly(connection: pika.BlockingConnection) -> None:
    """Closes a connection that may be gone already.

    pika closes one channel after the other, and stumbles over one that the broker closes meanwhile
    (an ``AttributeError``). The next time it is not among them. It also calls back what was still
    to be called, which may find its channel closed: that is of no consequence any more. Of a
    connection that was lost it keeps what its loop is made of, three descriptors, unless one of its
    calls has told of the loss.
    """
    for _ in range(CLOSING_ATTEMPTS):
        with contextlib.suppress(Exception):
            if connection.is_open:
                connection.close()
    cast(Any, connection)._cleanup()


def abandon(connection: pika.BlockingConnection | pika.SelectConnection, reason: str) -> None:
    """Ends a connection as pika's heartbeat does: without a farewell, since its peer, who does not
    answer, would not answer to that either. What is called on it next raises, with the reason."""
    beneath: Any = connection
    beneath = beneath._impl if isinstance(connection, pika.BlockingConnection) else beneath
    beneath._terminate_stream(pika_errors.AMQPHeartbeatTimeout(reason))


def count_queue(
    channel: BlockingChannel, queue: str, on_answer: Callable[[int, int], object]
) -> None:
    """Asks how many consumers a queue has, and how many messages are ready in it, and does not
    wait: ``on_answer`` is called while the connection reads. A refusal closes the channel instead.

    ``BlockingChannel`` would wait, for as long as it takes; the channel beneath it does not.
    """

    def answered(frame: Any) -> None:
        on_answer(int(frame.method.consumer_count), int(frame.method.message_count))

    beneath: Any = channel
    beneath._impl.queue_declare(queue, passive=True, callback=answered)
