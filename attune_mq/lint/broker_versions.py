"""Ranges of RabbitMQ versions, for what one version does and another does not."""

from __future__ import annotations

from typing import NamedTuple

Version = tuple[int, int]
"""Major and minor: what a queue does has never changed with a patch release."""


def parse_version(text: str) -> Version:
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


class Versions(NamedTuple):
    """From ``since`` on (included), up to ``before`` (not included)."""

    since: Version | None = None
    before: Version | None = None

    def may_be(self, version: Version | None) -> bool:
        """Whether the broker may be one of these; it may while its version is not stated."""
        if version is None:
            return True
        after = self.since is None or version >= self.since
        return after and (self.before is None or version < self.before)

    def __str__(self) -> str:
        since = self.since and f"{self.since[0]}.{self.since[1]}"
        before = self.before and f"{self.before[0]}.{self.before[1]}"
        if since and before:
            return f"RabbitMQ from {since} to before {before}"
        if since:
            return f"RabbitMQ {since} and later"
        return f"RabbitMQ before {before}" if before else "every RabbitMQ"


DEFAULT_DELIVERY_LIMIT = 20
LIMITS_DELIVERIES = Versions(since=(4, 0))
"""Quorum queues that say nothing have the default delivery limit, and -1 is no limit. Before,
they had none, and -1 dropped a message at its first return."""
