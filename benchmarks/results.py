"""What a run found: series of repeated measurements, and the ratios between them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Ratio(NamedTuple):
    """``of`` against ``to``, both names of series of one section, and what it should be."""

    of: str
    to: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def holds(self, value: float) -> bool:
        return value >= (self.at_least or 0) and value <= (self.at_most or float("inf"))


@dataclass
class Section:
    """``unit`` is of all its series. ``notes``: what a reader has to know of this run."""

    name: str
    title: str
    unit: str
    series: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.series.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.series[name])

    def known_ratios(self) -> list[tuple[Ratio, float]]:
        """Those whose two sides were measured in this run."""
        return [
            (one, self.median(one.of) / self.median(one.to))
            for one in self.ratios
            if one.of in self.series and one.to in self.series
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "section": self.name,
            "title": self.title,
            "unit": self.unit,
            "medians": {name: round(self.median(name), 4) for name in self.series},
            "values": {name: [round(v, 4) for v in found] for name, found in self.series.items()},
            "ratios": [
                {
                    "of": ratio.of,
                    "to": ratio.to,
                    "wanted": ratio.wanted,
                    "found": round(value, 3),
                    "holds": ratio.holds(value),
                }
                for ratio, value in self.known_ratios()
            ],
            "notes": self.notes,
        }


def interleave(
    section: Section, repeats: int, measured: Mapping[str, Callable[[], float]]
) -> Section:
    """A B C A B C …: what slows the machine down for a while slows all of them. One that fails is
    left out from then on, with a note."""
    failed: set[str] = set()
    for _ in range(repeats):
        for name, measure in measured.items():
            if name in failed:
                continue
            try:
                section.add(name, measure())
            except Exception as error:  # a peer that does not run here must not end the others
                failed.add(name)
                section.notes.append(f"{name} failed: {str(error)[-300:]}")
    return section


def table(section: Section) -> str:
    """As Markdown."""
    lines = [f"### {section.title}", "", f"| | {section.unit} |", "|---|--:|"]
    lines += [f"| {name} | {shown(section.median(name))} |" for name in section.series]
    found = section.known_ratios()
    if found:
        lines += ["", "| ratio | wanted | found | |", "|---|--:|--:|---|"]
        lines += [
            f"| {ratio.of} : {ratio.to} | {ratio.wanted} | {value:.2f} "
            f"| {'reached' if ratio.holds(value) else '**not reached**'} |"
            for ratio, value in found
        ]
    lines += ["", *section.notes] if section.notes else []
    return "\n".join(lines) + "\n"


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_json(sections: list[Section], machine: Mapping[str, Any]) -> str:
    whole = {"machine": machine, "sections": [section.as_json() for section in sections]}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
