"""Why a connection could not be opened or was lost, as an error of ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from pika import exceptions as pika_errors

from attune_mq.amqp.settings import BrokerSettings, redacted, virtual_host
from attune_mq.amqp.tls import ask_again, refusal
from attune_mq.errors import (
    AttuneError,
    BrokerUnavailable,
    LoginRefused,
    TlsRefused,
    VirtualHostRefused,
)


def connection_failure(
    error: BaseException, url: str, settings: BrokerSettings, *, was_open: bool = False
) -> AttuneError:
    """Why a connection to ``url`` could not be opened, or, where it ``was_open``, was lost."""
    if isinstance(error, AttuneError):
        return error
    shown = redacted(url)
    failure: AttuneError
    if was_open:
        failure = BrokerUnavailable(f"{shown}: the connection was lost: {_reason(error)}")
    elif _is_only_guessed(error):
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
    that says so refuses us, since the other may pass with time."""
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
            return "connection refused"
        if isinstance(inner, TimeoutError):
            return "it does not answer in time"
        if isinstance(inner, pika_errors.ConnectionClosedByBroker):
            return f"it closed the connection ({inner.reply_code} {inner.reply_text})"
        if isinstance(inner, pika_errors.IncompatibleProtocolError):
            return "connection closed before the AMQP handshake"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
    return str(error) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error with all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__
