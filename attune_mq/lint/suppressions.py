"""Findings that the file itself suppresses, with a reason.

    events: {name: attune.events.queue}  # lint: allow queue-without-consumer -- the audit reads it

The comment stands at the end of the line of the finding, or in a line of its own above it (several
in a row count for the same line). Several rules are separated by commas. A suppression without a
reason, or of something that is not found, is a finding itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, Finding, rule
from attune_mq.topology.source import SourceMap, Where
from attune_mq.topology.validation import nearest

SYNTAX = "# lint: allow RULE -- REASON"
_COMMENT = re.compile(r"(?:^|\s)(?P<comment>#\s*lint:\s*(?P<text>.*?))\s*$")
_ALLOW = re.compile(r"allow\s+(?P<rules>[a-z0-9-]+(?:\s*,\s*[a-z0-9-]+)*)\s+--\s+(?P<reason>\S.*)")


class Suppression(NamedTuple):
    """One comment. ``line`` is the line for which it is meant."""

    where: Where
    line: int
    rules: tuple[str, ...]
    """Empty where it cannot be read."""


def _suppressions(sources: SourceMap) -> list[Suppression]:
    found: list[Suppression] = []
    lines = sources.text.split("\n")
    for number, line in enumerate(lines, start=1):
        comment = _COMMENT.search(line) if "lint:" in line else None
        if comment is not None:
            allow = _ALLOW.fullmatch(comment["text"])
            where = Where(sources.file, number, comment.start("comment") + 1, "")
            rules = tuple(re.split(r"\s*,\s*", allow["rules"])) if allow else ()
            found.append(Suppression(where, _line_meant(lines, number), rules))
    return found


def _line_meant(lines: Sequence[str], number: int) -> int:
    """The line itself, or the next that is not a comment alone."""
    while number <= len(lines) and lines[number - 1].lstrip().startswith("#"):
        number += 1
    return number


def unsuppressed(
    findings: Sequence[Finding], facts: Facts, known: Collection[str]
) -> Iterator[Finding]:
    """The findings that are left, and what is wrong with the suppressions. ``known`` are the ids
    of all rules."""
    suppressions = _suppressions(facts.written.sources)
    suppressed = {(each.line, rule_id) for each in suppressions for rule_id in each.rules}
    yield from (each for each in findings if (each.where.line, each.rule) not in suppressed)
    found = {(each.where.line, each.rule) for each in findings}
    for suppression in suppressions:
        yield from _faults(suppression, known, found)


def _faults(
    suppression: Suppression, known: Collection[str], found: Collection[tuple[int, str]]
) -> Iterator[Finding]:
    where, line, rules = suppression
    if not rules:
        yield excuse_unreadable.finding(Fault(where, f"expected `{SYNTAX}`, with a reason"))
    for rule_id in rules:
        if rule_id not in known:
            hint = nearest(rule_id, known)
            message = f"there is no rule {rule_id!r}" + (f"; {hint}" if hint else "")
            yield excuse_of_unknown_rule.finding(Fault(where, message))
        elif (line, rule_id) not in found:
            message = f"{rule_id} finds nothing in line {line}"
            yield excuse_of_nothing.finding(Fault(where, message))


# Their ids were in use before the word suppression was. What is wrong with a suppression shows when
# all other rules have been checked: `unsuppressed` finds it.


@rule("error")
def excuse_unreadable(_: Facts) -> Iterator[Fault]:
    """A suppression that gives no reason, or cannot be read.

    `# lint: allow RULE -- REASON` hides a finding from everyone who reads the file later. Without a
    reason it is not known whether it still holds, and it is never taken out again. A suppression
    that cannot be read suppresses nothing.

    Fix: Write `# lint: allow RULE -- REASON`, with the id of the rule and why it does not hold.
    """
    return iter(())


@rule("error")
def excuse_of_unknown_rule(_: Facts) -> Iterator[Fault]:
    """A suppression of a rule that does not exist.

    Most often the id is misspelt, and the finding that was to be suppressed is still reported.

    Fix: Write the id of the rule as the finding shows it; `attune-mq lint --rules` lists them.
    """
    return iter(())


@rule("warning")
def excuse_of_nothing(_: Facts) -> Iterator[Fault]:
    """A suppression that suppresses nothing.

    The fault has been corrected, or the line has moved. A suppression that stays behind will hide
    the next fault of its kind in that line.

    Fix: Take the suppression out, or put it at the end of, or right above, the line that it is for.
    """
    return iter(())
