"""Which instances of families a broker has, by the names of its queues."""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce

from attune_mq.topology.expansion import RETRY_INFIX, dead_letter_queue_name, expand
from attune_mq.topology.families import Instance, including, instance_with_queue
from attune_mq.topology.model import ExpandedTopology, Topology


def including_all(topology: Topology, instances: Collection[Instance]) -> ExpandedTopology:
    """The topology with the queues and bindings of these instances in it."""
    return reduce(including, instances, expand(topology))


def instances_among(topology: Topology, queues: Collection[str]) -> tuple[Instance, ...]:
    """Those to which some of these queues of a broker belong, in the order of the queues.

    A queue that the library adds to one that is there too is taken for that, and not for an
    instance of its own: ``worker.{id}`` would otherwise have a worker ``7.dlq``.
    """
    expanded = expand(topology)
    own = {queue.name for queue in expanded.queues.values()}
    there = set(queues)
    found: dict[str, Instance] = {}
    for name in queues:
        if expanded.families and name not in own and not _is_added(name, there):
            instance = instance_with_queue(expanded, name)
            if instance is not None:
                found.setdefault(str(instance), instance)
    return tuple(found.values())


def _is_added(name: str, there: Collection[str]) -> bool:
    main = name.removesuffix(dead_letter_queue_name(""))
    return (main != name and main in there) or name.rpartition(RETRY_INFIX)[0] in there
