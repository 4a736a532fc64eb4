"""Which findings are about which part of a topology."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attune_mq.rendering.diagram import Finding
from attune_mq.topology.model import Topology
from attune_mq.topology.source import Path, path_text


class Marks:
    """Numbers of findings, from 1 on, by the path of what they are about."""

    def __init__(self, topology: Topology, findings: Sequence[Finding]) -> None:
        self._topology = topology
        self._numbers: dict[str, list[int]] = {}
        for number, finding in enumerate(findings, 1):
            for path in _enclosing(finding.where.path):
                self._numbers.setdefault(path, []).append(number)

    def of(self, *paths: Path) -> tuple[int, ...]:
        """Numbers of the findings about what stands at these paths of the expanded topology.

        What the library added has no place of its own: findings lead to what was written.
        """
        found = (number for path in paths for number in self._of(path)) if self._numbers else ()
        return tuple(dict.fromkeys(found))

    def _of(self, path: Path) -> Sequence[int]:
        written = self._topology.where(*path).path
        own = written == path_text(path) or re.search(r"bindings\[\d+\]$", written)
        return self._numbers.get(written, ()) if own else ()


def _enclosing(path: str) -> Iterator[str]:
    """``queues.a.ttl``, then ``queues.a``, but not ``queues``: a finding about a whole section
    marks none of its nodes."""
    quoted = '"(?:[^"]*)"'
    steps = re.findall(rf"^[^.\[\"]+|\.{quoted}|\.[^.\[\"]+|\[\d+\]", path)
    for length in range(len(steps), 1, -1):
        yield "".join(steps[:length])
