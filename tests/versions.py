"""What RabbitMQ does by version, as the tests expect it: by what the node that they ask is.

Measured on 3.10.8, 4.0.5 and 4.3.6; ``docs/rabbitmq-versions.md`` tells it to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from attune_mq.broker import EmbeddedBroker


class Rabbit(NamedTuple):
    """A release: major and minor."""

    major: int
    minor: int

    @classmethod
    def of(cls, broker: EmbeddedBroker) -> Rabbit:
        major, minor, *_ = broker.version.split(".")
        return cls(int(major), int(minor))

    @property
    def stores_the_inferred_queue_type(self) -> bool:
        """A queue that is declared without a type is listed with the one that it got."""
        return self >= (4, 0)

    @property
    def counts_nacks(self) -> bool:
        """A quorum queue counts a message that is given back by ``basic.nack``. On 4.3 only those
        count that are rejected or whose connection is lost."""
        return self < (4, 3)

    @property
    def exports_internal_exchanges(self) -> bool:
        """The HTTP API's definitions hold them. On 4.3 they hold the bindings to them alone."""
        return self < (4, 3)

    def exported(self, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
        """These definitions as the HTTP API exports them once the broker has them."""
        exchanges = [
            each
            for each in definitions["exchanges"]
            if self.exports_internal_exchanges or not each.get("internal")
        ]
        return {**self.stored(definitions), "exchanges": exchanges}

    def stored(self, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
        """These definitions as the broker lists them once it has them."""
        if not self.stores_the_inferred_queue_type:
            return definitions
        queues = [
            {**queue, "arguments": {"x-queue-type": "classic", **(queue.get("arguments") or {})}}
            for queue in definitions["queues"]
        ]
        return {**definitions, "queues": queues}
