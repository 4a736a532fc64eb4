"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from attune_mq.lint.facts import Facts
from attune_mq.topology.source import Where

Severity = Literal["error", "warning", "note"]
"""``error``: messages are lost, or the broker refuses, or something can never work.
``warning``: it works, and may be meant; then it can be excused in the file, with a reason.
``note``: nothing is wrong; the file could say more, and something would be seen sooner."""


class Fault(NamedTuple):
    """What one rule says of one place; ``fix`` where there is more to say than the rule does."""

    where: Where
    message: str
    fix: str | None = None


@dataclass(frozen=True)
class Finding:
    """One fault of design. ``rule`` is the rule's id; ``fix`` says how to mend it."""

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
    """``id`` is stable: excuses in files, and the pages in ``docs/rules``, are named after it.
    ``story`` says why the rule matters and what went wrong where it was broken."""

    id: str
    severity: Severity
    summary: str
    story: str
    fix: str
    check: Check

    def findings(self, facts: Facts) -> Iterator[Finding]:
        for fault in self.check(facts):
            fix = fault.fix or self.fix
            yield Finding(self.id, self.severity, fault.where, fault.message, fix)


def rule(severity: Severity, *, summary: str, story: str, fix: str) -> Callable[[Check], Rule]:
    """Makes a rule of the function that checks it; the function's name is the rule's id."""

    def made(check: Check) -> Rule:
        rule_id = check.__name__.replace("_", "-")
        return Rule(rule_id, severity, summary, _unwrapped(story), _unwrapped(fix), check)

    return made


def _unwrapped(text: str) -> str:
    """Paragraphs as single lines, however they were broken in the source."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
