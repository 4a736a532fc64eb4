"""Findings that the file itself excuses, with a reason.

    events: {name: attune.events.queue}  # lint: allow queue-without-consumer -- the audit reads it

The comment stands at the end of the line that is found fault with, or in a line of its own above
it (several in a row count for the same line). Several rules are separated by commas. A file is
free to excuse; it is not free to excuse without saying why, or what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, Finding, Rule, rule
from attune_mq.topology.source import SourceMap, Where
from attune_mq.topology.validation import nearest

SYNTAX = "# lint: allow RULE -- REASON"
_COMMENT = re.compile(r"(?:^|\s)(?P<comment>#\s*lint:\s*(?P<said>.*?))\s*$")
_SAID = re.compile(r"allow\s+(?P<rules>[a-z0-9-]+(?:\s*,\s*[a-z0-9-]+)*)\s+--\s+(?P<reason>\S.*)")


class Excuse(NamedTuple):
    """One comment. ``excused_line`` is the line that it speaks of."""

    where: Where
    excused_line: int
    rules: tuple[str, ...]
    """Empty where it cannot be read."""


def excuses(sources: SourceMap) -> list[Excuse]:
    """All excuses of a file's text, in its order."""
    found: list[Excuse] = []
    lines = sources.text.split("\n")
    for number, line in enumerate(lines, start=1):
        comment = _COMMENT.search(line) if "lint:" in line else None
        if comment is not None:
            said = _SAID.fullmatch(comment["said"])
            where = Where(sources.file, number, comment.start("comment") + 1, "")
            rules = tuple(re.split(r"\s*,\s*", said["rules"])) if said else ()
            found.append(Excuse(where, _excused_line(lines, number), rules))
    return found


def _excused_line(lines: Sequence[str], number: int) -> int:
    """The line itself, or the next that is not a comment alone."""
    while number <= len(lines) and lines[number - 1].lstrip().startswith("#"):
        number += 1
    return number


def excused(findings: Sequence[Finding], facts: Facts, known: Collection[str]) -> Iterator[Finding]:
    """The findings that no excuse takes away, and what is wrong with the excuses. ``known`` are
    the ids of all rules."""
    said = excuses(facts.written.sources)
    allowed = {(excuse.excused_line, rule_id) for excuse in said for rule_id in excuse.rules}
    yield from (each for each in findings if (each.where.line, each.rule) not in allowed)
    if said:
        found = {(each.where.line, each.rule) for each in findings}
        for excuse in said:
            yield from _faults(excuse, known, found)


def _faults(
    excuse: Excuse, known: Collection[str], found: Collection[tuple[int, str]]
) -> Iterator[Finding]:
    if not excuse.rules:
        message = f"expected `{SYNTAX}`, with a reason"
        yield _finding(excuse_unreadable, excuse.where, message)
    for rule_id in excuse.rules:
        if rule_id not in known:
            hint = nearest(rule_id, known)
            message = f"there is no rule {rule_id!r}" + (f"; {hint}" if hint else "")
            yield _finding(excuse_of_unknown_rule, excuse.where, message)
        elif (excuse.excused_line, rule_id) not in found:
            message = f"{rule_id} finds nothing in line {excuse.excused_line}"
            yield _finding(excuse_of_nothing, excuse.where, message)


def _finding(rule: Rule, where: Where, message: str) -> Finding:
    return Finding(rule.id, rule.severity, where, message, rule.fix)


def _checked_with_the_findings(_: Facts) -> Iterator[Fault]:
    """What is wrong with an excuse shows only when all other rules have spoken: ``excused``."""
    return iter(())


@rule(
    "error",
    summary="An excuse that gives no reason, or cannot be read.",
    story="""
        `# lint: allow RULE -- REASON` takes a finding away for whoever reads the file after you.
        Without a reason nobody can tell whether it still holds, and it is never taken out again.
        An excuse that cannot be read excuses nothing.
    """,
    fix="Write `# lint: allow RULE -- REASON`, with the id of the rule and why it does not hold.",
)
def excuse_unreadable(facts: Facts) -> Iterator[Fault]:
    return _checked_with_the_findings(facts)


@rule(
    "error",
    summary="An excuse for a rule that does not exist.",
    story="""
        Most often the id is spelt wrongly, and the finding that it was to excuse is still there.
    """,
    fix="Write the id of the rule as the finding shows it; `attune-mq lint --rules` lists them.",
)
def excuse_of_unknown_rule(facts: Facts) -> Iterator[Fault]:
    return _checked_with_the_findings(facts)


@rule(
    "warning",
    summary="An excuse that excuses nothing.",
    story="""
        The fault has been mended, or the line has moved. An excuse that stays behind will hide the
        next fault of its kind that comes to stand there.
    """,
    fix="Take the excuse out, or put it at the end of, or right above, the line that it is for.",
)
def excuse_of_nothing(facts: Facts) -> Iterator[Fault]:
    return _checked_with_the_findings(facts)


RULES = (excuse_unreadable, excuse_of_unknown_rule, excuse_of_nothing)
