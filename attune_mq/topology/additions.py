"""What of a topology the library added, and what in the file led to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attune_mq.topology.contracts import Family
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.source import Path


def additions(expanded: ExpandedTopology) -> Mapping[Path, str]:
    """The path of each exchange, queue and binding that the file does not hold, with a sentence
    for people: ``added: for dead_letter in line 9``."""
    return dict(_additions(expanded))


def _additions(expanded: ExpandedTopology) -> Iterator[tuple[Path, str]]:
    for path in _objects(expanded):
        origin = expanded.sources.origins.get(path)
        if origin is None or origin[-2:-1] == ("bindings",):
            continue  # it stands in the file; a binding with several keys as one of its several
        where = expanded.where(*path)
        line = f" in line {where.line}" if where.line else ""
        yield path, f"added: for {where.path}{line}"


def _objects(expanded: ExpandedTopology) -> Iterator[Path]:
    blocks: list[tuple[Path, Topology | Family]] = [((), expanded)]
    blocks += [(("families", key), each) for key, each in expanded.families.items()]
    for at, block in blocks:
        if isinstance(block, Topology):
            yield from (("exchanges", key) for key in block.exchanges)
        yield from ((*at, "queues", key) for key in block.queues)
        yield from ((*at, "bindings", index) for index in range(len(block.bindings)))
