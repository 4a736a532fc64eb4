"""Which consumers of the file a service starts, by the types that it has handlers for."""

from __future__ import annotations

import logging

from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.model import Topology, UnknownName

logger = logging.getLogger(__name__)


def tags_to_start(topology: Topology, service: str, handled: frozenset[str]) -> list[str]:
    """Says in the log which consumers are not started, and which types will be dead-lettered.

    Raises :class:`~attune_mq.topology.model.UnknownName` where no consumer takes any of them.
    """
    own = {tag: spec for tag, spec in topology.consumers.items() if spec.service == service}
    tags = [tag for tag, spec in own.items() if _takes_any(spec, handled)]
    for tag in own.keys() - set(tags):
        logger.info("Consumer '%s' is not started: nothing here handles its types", tag)
    if handled and not tags:
        raise UnknownName(
            f"{topology.sources.file} consumers: expected a consumer with `service: {service}` "
            f"that handles one of {', '.join(sorted(handled))}, found none"
        )
    for tag in tags:
        missing = set(own[tag].handles) - handled - {"*"}
        if missing:
            logger.warning(
                "Consumer '%s' has no handler for %s: such messages will be dead-lettered",
                tag,
                ", ".join(sorted(missing)),
            )
    return tags


def _takes_any(spec: ConsumerSpec, handled: frozenset[str]) -> bool:
    """Whether one of the types that the file gives a consumer is handled; all are where it gives
    none, or ``"*"``."""
    types = frozenset(spec.handles)
    return bool(handled & types) or (bool(handled) and (not types or "*" in types))
