"""``attune-mq plan``: what set-up would do, as a diff from the broker to the file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

from attune_mq.broker.plan import Plan, plan, remedy
from attune_mq.broker.report import Conflict, Ignored
from attune_mq.cli.context import Context
from attune_mq.cli.objects import in_conflict, named, not_known, place, printable
from attune_mq.cli.selection import add_selection, selected
from attune_mq.exit_codes import answer_code, may_not_look
from attune_mq.topology.declarations import Declaration, ExchangeDeclaration
from attune_mq.topology.source import Where

SUMMARY = (
    "Say what setup would do, and how else broker and file differ. Changes nothing. "
    "Exits 0 when they agree as far as is seen, 1 when they do not, 4 when the user may not look, "
    "5 when setup could not make them agree."
)
_COLOURS = {"+": "32", "-": "31", "~": "33;1", "!": "33", "*": "36", "?": "2", "quiet": "2"}
_SEEN = {
    "amqp": "Seen over AMQP alone; with --management-url bindings and extra objects too.",
    "management": "Seen over the HTTP API.",
}
MAX_NAME_WIDTH = 88

S = TypeVar("S", Conflict, Ignored)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(context.topology(), arguments)
    found = plan(topology, context.broker(), management_url=context.management_url)
    if context.is_json:
        context.emit(as_json(found))
    else:
        _Diff(context, found).show()
    return answer_code(
        conflicts=found.conflicts,
        refused=may_not_look(found.unknown),
        found=found.has_differences,
    )


def as_json(found: Plan) -> dict[str, Any]:
    """An unchanged object has the key ``ignored`` where the broker ignores some argument of it."""
    ignored = {_key(some[0]): {"ignored": [_ignored(one) for one in some]}
               for some in _by_object(found.ignored)}  # fmt: skip
    return {
        "create": [named(one.declaration) for one in found.create],
        "unchanged": [
            named(one.declaration) | ignored.get((one.declaration.kind, one.declaration.name), {})
            for one in found.unchanged
        ],
        "conflicts": [in_conflict(one) for one in found.conflicts],
        "extra": [named(one.declaration) for one in found.extra],
        "source": found.source,
        "unknown": [not_known(one) for one in found.unknown],
    }


def _ignored(one: Ignored) -> dict[str, Any]:
    return {
        "field": one.field,
        "expected": one.expected,
        "found": one.found,
        "where": one.where._asdict(),
    }


def _by_object(steps: Sequence[S]) -> list[list[S]]:
    return [list(some) for _, some in groupby(steps, _key)]


def _key(step: Conflict | Ignored) -> tuple[str, str]:
    return step.declaration.kind, step.declaration.name


def _shown(declaration: Declaration) -> str:
    of_type = f" ({declaration.type})" if isinstance(declaration, ExchangeDeclaration) else ""
    return printable(declaration.name + of_type)


class _Diff:
    """``-`` is what the broker has, ``+`` what the file says."""

    def __init__(self, context: Context, found: Plan) -> None:
        self._context = context
        self._found = found
        groups = (found.create, found.conflicts, found.ignored, found.extra, found.unknown)
        names = [_shown(step.declaration) for steps in groups for step in steps]
        self._width = min(max(map(len, names), default=0), MAX_NAME_WIDTH)

    def show(self) -> None:
        found = self._found
        for create in found.create:
            self._object("+", create.declaration, create.where)
        for conflicts in _by_object(found.conflicts):
            self._conflicts(conflicts)
        for ignored in _by_object(found.ignored):
            self._ignored(ignored)
        for extra in found.extra:
            self._object("*", extra.declaration, None, "not in the file")
        for unknown in found.unknown:
            self._object("?", unknown.declaration, unknown.where, unknown.detail)
        self._summary()

    def _object(
        self, sign: str, declaration: Declaration, where: Where | None, remark: str = ""
    ) -> None:
        name = _shown(declaration)
        head = self._in(sign, f"{sign} {declaration.kind:<8} {name:<{self._width}}")
        tail = "  ".join(
            part for part in (place(where) if where else "", printable(remark)) if part
        )
        self._context.line(f"{head} {self._in('quiet', tail)}".rstrip())

    def _conflicts(self, conflicts: Sequence[Conflict]) -> None:
        self._object("~", conflicts[0].declaration, None)
        for one in conflicts:
            self._field("-", one.field, one.found)
            self._field("+", one.field, one.expected, place(one.where))
        self._context.line(f"    to resolve it: {remedy(conflicts[0])}")

    def _field(self, sign: str, field: str, value: str, tail: str = "") -> None:
        text = f"    {sign} {printable(field)}: {printable(value)}"
        shown = self._in(sign, f"{text:<{self._width + 11}}")
        self._context.line(f"{shown} {self._in('quiet', tail)}".rstrip())

    def _ignored(self, ignored: Sequence[Ignored]) -> None:
        self._object("!", ignored[0].declaration, ignored[0].where)
        for one in ignored:
            self._context.line(
                f"    {printable(one.field)}: {printable(one.expected)} in the file, "
                f"{printable(one.found)} on the broker, which ignores this argument here"
            )

    def _summary(self) -> None:
        found = self._found
        counts = [
            (len(found.create), "to create"),
            (len(found.unchanged), "unchanged"),
            (len(_by_object(found.conflicts)), "in conflict"),
            (len(_by_object(found.ignored)), "with an argument that the broker ignores"),
            (len(found.extra), "extra"),
            (len(found.unknown), "unknown"),
        ]
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        self._context.line(f"{said or 'The file has nothing to set up'}. {_SEEN[found.source]}")

    def _in(self, colour: str, text: str) -> str:
        if not self._context.is_coloured or not text:
            return text
        return f"\033[{_COLOURS[colour]}m{text}\033[0m"
