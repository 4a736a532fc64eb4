"""What a rule is, and what it finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from attune_mq.lint.facts import Facts
from attune_mq.topology.source import Where

Severity = Literal["error", "warning", "note"]
"""``error``: messages are lost, or the broker refuses, or something can never work.
``warning``: it works, and may be meant; then it can be suppressed in the file, with a reason.
``note``: nothing is wrong; the file could say more, and something would be seen sooner."""


class Fault(NamedTuple):
    """What one rule finds in one place."""

    where: Where
    message: str


@dataclass(frozen=True)
class Finding:
    """One fault of design. ``rule`` is the rule's id; ``fix`` says how to correct it."""

    rule: str
    severity: Severity
    where: Where
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.severity}: {self.message} [{self.rule}]"


Check = Callable[[Facts], Iterator[Fault]]


@dataclass(frozen=True)
class Rule:
    """``id`` is stable: suppressions in files, and the pages in ``docs/rules``, are named after it.
    ``rationale`` says why the rule matters and what went wrong where it was broken."""

    id: str
    severity: Severity
    summary: str
    rationale: str
    fix: str
    check: Check

    def findings(self, facts: Facts) -> Iterator[Finding]:
        return map(self.finding, self.check(facts))

    def finding(self, fault: Fault) -> Finding:
        return Finding(self.id, self.severity, fault.where, fault.message, self.fix)


def rule(severity: Severity) -> Callable[[Check], Rule]:
    """Makes a rule of the function that checks it: the function's name is its id; its docstring is
    the summary, the rationale, and after ``Fix:`` what to do."""

    def made(check: Check) -> Rule:
        paragraphs = (
            " ".join(each.split()) for each in inspect.cleandoc(check.__doc__ or "").split("\n\n")
        )
        text, _, fix = "\n\n".join(paragraphs).partition("\n\nFix: ")
        summary, _, rationale = text.partition("\n\n")
        return Rule(check.__name__.replace("_", "-"), severity, summary, rationale, fix, check)

    return made
