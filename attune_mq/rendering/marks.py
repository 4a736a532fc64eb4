"""Which findings are about which part of a topology."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from attune_mq.rendering.picture import Note
from attune_mq.topology.model import Topology
from attune_mq.topology.source import Path, Where, path_text


class Finding(Protocol):
    """What a picture needs to know of a finding; those of ``lint`` are such."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def where(self) -> Where: ...
    @property
    def message(self) -> str: ...


class Marks:
    """Findings by the path of what they are about, numbered in the order in which they came."""

    def __init__(self, topology: Topology, findings: Sequence[Finding]) -> None:
        self._topology = topology
        self.notes = tuple(
            Note(number, finding.severity, finding.rule, finding.message)
            for number, finding in enumerate(findings, 1)
        )
        self._numbers: dict[str, list[int]] = {}
        for number, finding in enumerate(findings, 1):
            for path in _around(finding.where.path):
                self._numbers.setdefault(path, []).append(number)

    def of(self, path: Path) -> tuple[int, ...]:
        """Numbers of the findings about what stands at ``path`` of the expanded topology.

        What the library added has no place of its own: findings lead to what was written.
        """
        if not self._numbers:
            return ()
        written = self._topology.where(*path).path
        own = written == path_text(path) or re.search(r"bindings\[\d+\]$", written)
        return tuple(self._numbers.get(written, ())) if own else ()


def _around(path: str) -> Iterator[str]:
    """``queues.a.ttl``, then ``queues.a``: what a finding in a place is about.

    Not ``queues``: what is said of a section is about nothing in it that can be pointed at.
    """
    quoted = '"(?:[^"]*)"'
    steps = re.findall(rf"^[^.\[\"]+|\.{quoted}|\.[^.\[\"]+|\[\d+\]", path)
    for length in range(len(steps), 1, -1):
        yield "".join(steps[:length])
