"""Show what setup would do, and other differences between broker and file. Changes nothing. Exit
code 0: no visible difference; 1: differences; 4: a permission to look is missing; 5: conflicts that
setup cannot resolve."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

from attune_mq.broker.planning import Plan, plan, remedy
from attune_mq.broker.report import Conflict, Ignored, Step
from attune_mq.cli.context import Context, add_selection, selected
from attune_mq.cli.output import (
    QUIET,
    Styled,
    difference_as_json,
    object_as_json,
    place,
    printable,
)
from attune_mq.exit_codes import comparison_code, not_permitted
from attune_mq.topology.declaration import Declaration, ExchangeDeclaration

_STYLES = {"+": "32", "-": "31", "~": "33;1", "!": "33", "*": "36", "?": QUIET}
_SOURCES = {
    "amqp": "Seen over AMQP only; --management-url also shows bindings and extra objects.",
    "management": "Seen over the HTTP API.",
}
MAX_NAME_WIDTH = 88

S = TypeVar("S", Conflict, Ignored)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(arguments, context)
    found = plan(topology, context.broker(), management_url=context.management_url)
    if context.is_json:
        context.emit(as_json(found))
    else:
        _Diff(context, found).show()
    refused = not_permitted(found.unknown)
    return comparison_code(
        conflicts=found.conflicts, refused=refused, differs=found.has_differences
    )


def as_json(found: Plan) -> dict[str, Any]:
    """An unchanged object has the key ``ignored`` where the broker ignores an argument of it."""
    ignored = {
        _key(some[0]): {"ignored": [difference_as_json(one) for one in some]}
        for some in _by_object(found.ignored)
    }
    return {
        "create": [object_as_json(one) for one in found.create],
        "unchanged": [object_as_json(one) | ignored.get(_key(one), {}) for one in found.unchanged],
        "conflicts": [object_as_json(one) for one in found.conflicts],
        "extra": [object_as_json(one) for one in found.extra],
        "source": found.source,
        "unknown": [object_as_json(one) for one in found.unknown],
    }


def _by_object(steps: Sequence[S]) -> list[list[S]]:
    return [list(some) for _, some in groupby(steps, _key)]


def _key(step: Step) -> tuple[str, str]:
    return step.declaration.kind, step.declaration.name


def _shown(declaration: Declaration) -> str:
    of_type = f" ({declaration.type})" if isinstance(declaration, ExchangeDeclaration) else ""
    return printable(declaration.name + of_type)


class _Diff:
    """``-`` is what the broker has, ``+`` what the file declares."""

    def __init__(self, context: Context, found: Plan) -> None:
        self._context = context
        self._found = found
        groups = (found.create, found.conflicts, found.ignored, found.extra, found.unknown)
        names = [_shown(step.declaration) for steps in groups for step in steps]
        self._width = min(max(map(len, names), default=0), MAX_NAME_WIDTH)

    def show(self) -> None:
        found = self._found
        for create in found.create:
            self._object("+", create.declaration, place(create.where))
        for conflicts in _by_object(found.conflicts):
            self._conflicts(conflicts)
        for ignored in _by_object(found.ignored):
            self._ignored(ignored)
        for extra in found.extra:
            self._object("*", extra.declaration, "not in the file")
        for unknown in found.unknown:
            self._object("?", unknown.declaration, f"{place(unknown.where)}  {unknown.detail}")
        self._context.line(self._summary())

    def _object(self, sign: str, declaration: Declaration, remark: str = "") -> None:
        name = f"{sign} {declaration.kind:<8} {_shown(declaration):<{self._width}}"
        self._context.line(Styled(name, _STYLES[sign]), " ", Styled(remark, QUIET))

    def _conflicts(self, conflicts: Sequence[Conflict]) -> None:
        self._object("~", conflicts[0].declaration)
        for one in conflicts:
            self._field("-", f"{one.field}: {one.found}")
            self._field("+", f"{one.field}: {one.expected}", place(one.where))
        self._context.line(f"    to resolve it: {remedy(conflicts[0])}")

    def _field(self, sign: str, value: str, remark: str = "") -> None:
        text = f"    {sign} {printable(value)}"
        shown = Styled(f"{text:<{self._width + 11}}", _STYLES[sign])
        self._context.line(shown, " ", Styled(remark, QUIET))

    def _ignored(self, ignored: Sequence[Ignored]) -> None:
        self._object("!", ignored[0].declaration, place(ignored[0].where))
        for one in ignored:
            self._context.line(
                f"    {one.field}: {one.expected} in the file, {one.found} on the broker, which "
                "ignores this argument here"
            )

    def _summary(self) -> str:
        found = self._found
        counts = {
            "to create": len(found.create),
            "unchanged": len(found.unchanged),
            "in conflict": len(_by_object(found.conflicts)),
            "with an argument that the broker ignores": len(_by_object(found.ignored)),
            "extra": len(found.extra),
            "unknown": len(found.unknown),
        }
        summary = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{summary or 'Nothing to set up'}. {_SOURCES[found.source]}"
