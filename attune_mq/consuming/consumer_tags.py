"""Which consumer tags are in use in this process."""

from __future__ import annotations

from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import DuplicateConsumerTag
from attune_mq.forking import after_fork

Claim = tuple[frozenset[str], str]


class ConsumerTags:
    """Safe from any thread. In a fork none is in use, since no consumer runs there yet."""

    def __init__(self, runtime: Runtime = SYSTEM) -> None:
        self._runtime = runtime
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = self._runtime.lock()
        self._claimed: set[Claim] = set()

    def claim(self, settings: BrokerSettings, tag: str) -> Claim:
        """Of one broker, by its URLs. Raises :class:`~attune_mq.errors.DuplicateConsumerTag`."""
        claim = frozenset(settings.urls), tag
        with self._lock:
            if claim in self._claimed:
                raise DuplicateConsumerTag(
                    f"consumer tag '{tag}' is in use in this process: expected a tag of its own "
                    f"for each consumer; name an instance, or another tag in the topology"
                )
            self._claimed.add(claim)
        return claim

    def release(self, claim: Claim) -> None:
        with self._lock:
            self._claimed.discard(claim)
