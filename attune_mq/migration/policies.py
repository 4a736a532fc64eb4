"""Which policies apply to a queue, and which of them would lose messages of a migration.

Of the policies whose pattern matches a queue's name the one of highest priority applies, and of the
operator policies one as well. A pattern matches anywhere in a name: ``^orders`` matches
``orders.retry``. Of limits by an argument of the queue, by a policy and by an operator policy the
smallest holds; of what is no limit, such as ``overflow``, the argument (measured on 3.10).
Source: https://www.rabbitmq.com/docs/policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from attune_mq.broker.management import ManagementClient
from attune_mq.topology.declaration import QueueDeclaration

LIMITS = ("message-ttl", "expires", "max-length", "max-length-bytes")
"""Each of them drops messages; the smaller it is, the more."""
_OF_MESSAGES = ("message-ttl", "max-length", "max-length-bytes")
_OF_QUORUM_QUEUES = ("delivery-limit",)
_OVERRIDDEN = ("overflow", "dead-letter-exchange")
"""An argument of the queue overrides a policy's, though not an operator policy's."""

DEATH_ARGUMENTS = ("x-dead-letter-exchange", "x-dead-letter-routing-key")


def is_quorum(queue: QueueDeclaration) -> bool:
    return queue.arguments.get("x-queue-type") == "quorum"


def refuses_when_full(queue: QueueDeclaration) -> bool:
    return str(queue.arguments.get("x-overflow", "")).startswith("reject-publish")


@dataclass(frozen=True)
class Policy:
    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: Mapping[str, Any]
    is_operators: bool

    def __str__(self) -> str:
        kind = "operator policy" if self.is_operators else "policy"
        return f"{kind} '{self.name}' (pattern '{self.pattern}')"

    def matches(self, queue: QueueDeclaration) -> bool:
        """A pattern that Python cannot compile matches: the broker can."""
        kind = queue.arguments.get("x-queue-type", "classic")
        if self.apply_to not in ("all", "queues", f"{kind}_queues"):
            return False
        try:
            return re.search(self.pattern, queue.name) is not None
        except re.error:
            return True


class Limit(NamedTuple):
    """``policy``: which sets it; ``None`` for an argument of the queue's own."""

    value: Any
    policy: Policy | None


class Policies:
    """Those of a virtual host."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = tuple(policies)

    def unsafe(self, queue: QueueDeclaration) -> Iterator[str]:
        """What would change for the messages of a temporary queue, in spite of its arguments."""
        for key in (*LIMITS, *(_OF_QUORUM_QUEUES if is_quorum(queue) else ()), *_OVERRIDDEN):
            is_own = key in _OVERRIDDEN and f"x-{key}" in queue.arguments
            for policy in self._in_effect(queue, key):
                if policy.is_operators or not is_own:
                    yield (
                        f"{policy} would set {key} to {policy.definition[key]} on the temporary "
                        f"queue '{queue.name}'"
                    )

    def tightened(self, old: QueueDeclaration, new: QueueDeclaration) -> Iterator[str]:
        """The limits by which a policy drops from the new queue what the old one may keep."""
        for key in LIMITS:
            limit, before = self.limit(new, key), self.limit(old, key)
            if limit is None or limit.policy is None:
                continue
            if refuses_when_full(new) and key.startswith("max-length"):
                continue
            if before is None or limit.value < before.value:
                had = "has no such limit" if before is None else f"has {before.value}"
                yield (
                    f"{limit.policy} would set {key} to {limit.value} on the new queue, and the "
                    f"old one {had}"
                )

    def limit(self, queue: QueueDeclaration, key: str) -> Limit | None:
        """The smallest, which holds."""
        limits = [Limit(one.definition[key], one) for one in self._in_effect(queue, key)]
        own = queue.arguments.get(f"x-{key}")
        if own is not None:
            limits.insert(0, Limit(own, None))
        return min(limits, key=lambda one: one.value, default=None)

    def dead_letter_arguments(self, queue: QueueDeclaration) -> dict[str, Any]:
        """By policy; without those that are the queue's own."""
        return {
            argument: policy.definition[argument.removeprefix("x-")]
            for argument in DEATH_ARGUMENTS
            for policy in self._in_effect(queue, argument.removeprefix("x-"))
            if argument not in queue.arguments
        }

    def _in_effect(self, queue: QueueDeclaration, key: str) -> Iterator[Policy]:
        """One of each kind, or all of the same highest priority: the broker chooses one."""
        for is_operators in (False, True):
            matching = [
                one
                for one in self._policies
                if one.is_operators is is_operators and one.matches(queue)
            ]
            highest = max((one.priority for one in matching), default=0)
            yield from (
                one for one in matching if one.priority == highest and key in one.definition
            )


def keeps_all(queue: QueueDeclaration | None, policies: Policies | None) -> bool:
    """Whether it drops no message by a limit of its own, or of a policy that is seen. ``None``: a
    queue that is not known may."""
    seen = policies or Policies(())
    return queue is not None and all(seen.limit(queue, key) is None for key in _OF_MESSAGES)


def read_policies(client: ManagementClient, vhost: str) -> Policies:
    """Raises what :class:`ManagementClient` raises."""
    listed = ((False, client.policies(vhost)), (True, client.operator_policies(vhost)))
    return Policies(
        Policy(
            name=one["name"],
            pattern=one["pattern"],
            apply_to=one["apply-to"],
            priority=one.get("priority", 0),
            definition=dict(one.get("definition") or {}),
            is_operators=is_operators,
        )
        for is_operators, policies in listed
        for one in policies
    )
