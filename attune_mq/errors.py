"""Every error that the library raises, grouped by what the caller can do about it.

* :class:`InvalidInput`: fix the file, the arguments or the payload, then call again.
* :class:`BrokerUnavailable`: wait and retry; the request is valid.
* :class:`DependencyUnavailable`: likewise, for a database or another service.
* :class:`PermissionRefused`: ask an administrator for a permission, or for a certificate.
* :class:`InfrastructureError`: the broker's objects differ from the file: set up, migrate.
* :class:`PublishError`: the message is not confirmed; the caller still owns it.
* :class:`ConsumeError`: a consumer cannot start or continue.

pika's exceptions never leave the library; they are the ``__cause__`` of one of these.
"""

from __future__ import annotations

from collections.abc import Mapping


class AttuneError(Exception):
    """The root of the tree."""


class InvalidInput(AttuneError):
    """A file, an argument or a payload is invalid."""


class MalformedMessage(InvalidInput):
    """The body, envelope or payload of a message cannot be read or written.

    ``problems`` has one sentence each, joined by semicolons in the text: the field, what was
    expected, the type of what was found. Never a value of the payload, which may be a secret.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


class UnknownMessageType(InvalidInput):
    """No payload class is known for a message of this ``message_type``."""

    def __init__(self, message_type: str) -> None:
        super().__init__(message_type)
        self.message_type = message_type

    def __str__(self) -> str:
        return f"no payload class reads this message of type {self.message_type!r}"


class NotSynchronous(InvalidInput):
    """A function, such as a handler, returns before its work is done: a coroutine function, a
    generator. Make it a plain function."""


class LifecycleError(InvalidInput):
    """An object was started twice, or started after it was stopped. Mostly: make a new one."""


class ForkedProcess(LifecycleError):
    """An object was used in a fork of the process that started it. Its connections belong to that
    process, and nothing was sent over them: make a new one in the child, after the fork."""


class RabbitMQNotInstalled(InvalidInput):
    """There is no RabbitMQ server on this machine. The message says how to install one."""


class BrokerUnavailable(AttuneError):
    """The broker is unreachable or does not answer. Wait and retry."""


class BrokerNotStarted(BrokerUnavailable):
    """A private RabbitMQ node did not become ready.

    ``reason`` is a sentence (exit code, timeout, port in use); ``output`` is what the node printed.
    """

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason, output)
        self.reason = reason
        self.output = output

    def __str__(self) -> str:
        return f"{self.reason}; it printed:\n{self.output}" if self.output else self.reason


class DependencyUnavailable(AttuneError):
    """Raised by a handler: ``dependency`` is unavailable. The message has not failed.

    It stays unacked, no attempt is counted, and the consumer pauses until a message can be handled
    again. Raise it for what is unavailable for every message (a database, an HTTP API that does not
    answer), never for what may be specific to one.
    """

    def __init__(self, dependency: str, reason: str = "") -> None:
        super().__init__(dependency, reason)
        self.dependency = dependency
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"{self.dependency} is not available"


class DatabaseUnavailable(DependencyUnavailable):
    """The service's own database is locked, full or unreachable. Wait and retry."""

    def __init__(self, reason: str) -> None:
        super().__init__("database", reason)


class PermissionRefused(AttuneError):
    """Access refused. Ask for the permission that the message names."""


class LoginRefused(PermissionRefused):
    """The user or the password is wrong."""


class VirtualHostRefused(PermissionRefused):
    """The virtual host does not exist, or the user may not enter it."""


class TlsRefused(PermissionRefused):
    """The TLS handshake failed.

    A certificate is missing or not accepted (name, authority, validity), or one side does not use
    TLS on this port. The message says which, and what to set. No password was sent.
    """


class InfrastructureError(AttuneError):
    """The broker's objects differ from the topology."""


class PublishError(AttuneError):
    """A message is not confirmed. The caller still owns it.

    ``message_id``, where the error is about one message: published again with it, consumers can
    recognise a duplicate.
    """

    def __init__(self, text: str = "", *, message_id: str | None = None) -> None:
        super().__init__(text)
        self.message_id = message_id


class Unroutable(PublishError):
    """The exchange routes the message to no queue: it is in none."""


class PublishRefused(PublishError):
    """The broker refused the message: it is in no queue that refused it.

    A full queue with ``reject-publish``, an exchange that is missing, internal or not permitted, a
    message beyond the broker's size limit. Another queue of a fanout may have accepted its copy:
    publishing again may duplicate it there.
    """


class NotConfirmed(PublishError):
    """The deadline passed, or the connection was lost, before the broker confirmed the message.

    ``sent`` is ``False`` where it never left this process and never will; otherwise it may or may
    not be in its queues: publish it again with the same ``message_id``, and have consumers drop
    duplicates.
    """

    def __init__(self, text: str, *, sent: bool, message_id: str | None = None) -> None:
        super().__init__(text, message_id=message_id)
        self.sent = sent


class PublishManyFailed(PublishError):
    """Some of many messages are not confirmed: ``failures`` has their positions in the argument,
    and their errors. All others are confirmed."""

    def __init__(self, failures: Mapping[int, PublishError], total: int) -> None:
        self.failures = dict(failures)
        first = min(self.failures)
        super().__init__(
            f"{len(self.failures)} of {total} messages are not confirmed; the first is number "
            f"{first}: {self.failures[first]}"
        )


class ConsumeError(AttuneError):
    """A consumer cannot start or continue."""


class DuplicateConsumerTag(ConsumeError):
    """Two consumers of one process have the same tag."""


class Reject(AttuneError):
    """Raised by a handler: the message can never be handled, and is dead-lettered at once."""


class RetryLater(AttuneError):
    """Raised by a handler: the attempt failed, and the message is retried, after ``delay_s`` if
    given; after its last attempt it is dead-lettered.

    The delay is exact on a queue that has no retry queues; otherwise it is that of the shortest
    retry queue that is at least as long, or of the longest.
    """

    def __init__(self, reason: str, *, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s
