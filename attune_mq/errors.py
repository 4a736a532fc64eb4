"""Every error that the library raises, grouped by what the caller can do about it.

* :class:`InvalidInput`: mend the file, the arguments or the payload, then call again.
* :class:`BrokerUnavailable`: wait and try again; nothing is wrong with what was asked.
* :class:`DependencyUnavailable`: likewise, for a database, or another service that is called.
* :class:`PermissionRefused`: ask an administrator for a permission, or for a certificate.
* :class:`InfrastructureError`: the broker's objects are not what the file says: set up, migrate.
* :class:`PublishError`: the message is not known to be safe; the caller still owns it.
* :class:`ConsumeError`: a consumer cannot be started or goes no further.

pika's own exceptions never leave the library; they are the ``__cause__`` of one of these.
"""

from __future__ import annotations

from collections.abc import Mapping


class AttuneError(Exception):
    """The root of the tree: ``except AttuneError`` catches all that the library raises."""


class InvalidInput(AttuneError):
    """What was given is wrong: a file, an argument, a payload. Mend it, then call again."""


class MalformedMessage(InvalidInput):
    """A message that cannot be read, or not be written: wrong body, envelope or payload.

    ``problems`` holds a sentence for each, in the text joined by semicolons: the field, what was
    expected, the type of what was found. Never a value of the payload, since it may be a secret.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


class UnknownMessageType(InvalidInput):
    """No payload class is known for what came under this ``message_type``."""

    def __init__(self, message_type: str) -> None:
        super().__init__(message_type)
        self.message_type = message_type

    def __str__(self) -> str:
        return f"no payload class reads this message of type {self.message_type!r}"


class ForkedProcess(InvalidInput):
    """Something was used in a fork of the process that it was started in. Its connections belong to
    that process, and nothing was sent over them: make a new one in the child, after the fork."""


class RabbitMQNotInstalled(InvalidInput):
    """There is no RabbitMQ server on this machine to start. The message says how to get one."""


class BrokerUnavailable(AttuneError):
    """The broker cannot be reached or does not answer. Wait and try again."""


class BrokerNotStarted(BrokerUnavailable):
    """A private RabbitMQ node did not become ready.

    ``reason`` is a sentence: it ended, with which exit code; it took too long; a port is taken.
    ``output`` is what the node printed to say why, "" where it never ran.
    """

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason, output)
        self.reason = reason
        self.output = output

    def __str__(self) -> str:
        if not self.output:
            return self.reason
        return f"{self.reason}; it printed:\n{self.output}"


class DependencyUnavailable(AttuneError):
    """Raised by a handler: ``dependency``, which it needs, is away. The message has not failed.

    It stays with its consumer, is not counted as tried, and the consumer pauses until a message
    can be handled again. Say it of what is away for every message (a database, an HTTP API that
    does not answer), never of what may be wrong with one.
    """

    def __init__(self, dependency: str, reason: str = "") -> None:
        super().__init__(dependency, reason)
        self.dependency = dependency
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"{self.dependency} is not available"


class DatabaseUnavailable(DependencyUnavailable):
    """The service's own database is locked, full or cannot be reached. Wait and try again."""

    def __init__(self, reason: str) -> None:
        super().__init__("database", reason)


class PermissionRefused(AttuneError):
    """The broker knows us and refuses. Ask for the permission that the message names."""


class LoginRefused(PermissionRefused):
    """The user or the password is wrong."""


class VirtualHostRefused(PermissionRefused):
    """The virtual host does not exist, or the user may not enter it."""


class TlsRefused(PermissionRefused):
    """There is no TLS connection that both sides trust.

    The broker's certificate is not accepted here: its name, its authority, its time. Or ours is
    not accepted there, or is missing. Or one side does not speak TLS on this port. The message
    says which, and what to set. Nothing was sent, no password either.
    """


class InfrastructureError(AttuneError):
    """What the broker has is not what the topology says."""


class PublishError(AttuneError):
    """A message is not known to be in a queue. The caller still owns it."""


class Unroutable(PublishError):
    """The exchange exists and no queue takes the message: it is in no queue."""


class PublishRefused(PublishError):
    """The broker refused the message: it is in no queue that refused it.

    A full queue with ``reject-publish``, an exchange that is missing, internal or not permitted,
    a message beyond the broker's size limit. A queue that took its copy before another refused
    (a fanout) keeps it: publishing again may double it there.
    """


class NotConfirmed(PublishError):
    """The deadline passed, or the connection went, before the broker confirmed the message.

    ``sent`` is ``False`` where it never left this process and never will; otherwise it may or may
    not be in its queues, and publishing it again with the same ``message_id`` is safe for
    consumers that drop what they have seen.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class PublishManyFailed(PublishError):
    """Some of many messages are not known to be safe.

    ``failures`` has the position of each of them in what was given, and its error. All others are
    confirmed.
    """

    def __init__(self, failures: Mapping[int, PublishError], total: int) -> None:
        self.failures = dict(failures)
        first = min(self.failures)
        super().__init__(
            f"{len(self.failures)} of {total} messages are not confirmed; the first is number "
            f"{first}: {self.failures[first]}"
        )


class ConsumeError(AttuneError):
    """A consumer cannot be started, or cannot go on."""


class DuplicateConsumerTag(ConsumeError):
    """Two consumers of one process would have the same tag. Give each its own."""


class Reject(AttuneError):
    """Raised by a handler: this message can never be handled. It is dead-lettered at once."""


class RetryLater(AttuneError):
    """Raised by a handler: not now. The message is tried again, after ``delay_s`` if given, and
    counts as tried: after its last attempt it is dead-lettered.

    The delay is exact on a queue that has no retry queues; otherwise the nearest retry queue that
    is at least as long decides, or the longest.
    """

    def __init__(self, reason: str, *, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s
