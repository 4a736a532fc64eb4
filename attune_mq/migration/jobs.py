"""Which of the topology's queues and exchanges are to be migrated, with all that leads to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attune_mq.migration.exchange_migration import ExchangeJob
from attune_mq.migration.queue_job import QueueJob
from attune_mq.migration.survey import Found, Obstacle, Survey
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import binding_identity
from attune_mq.topology.model import ExpandedTopology

Shape = ExchangeDeclaration | QueueDeclaration
Job = ExchangeJob | QueueJob
Look = (
    Found[ExchangeDeclaration]
    | Found[QueueDeclaration]
    | Obstacle[ExchangeDeclaration]
    | Obstacle[QueueDeclaration]
)


def look_for_jobs(
    wanted: ExpandedTopology, shapes: Iterable[Shape], survey: Survey
) -> tuple[list[Look], list[Job]]:
    """How each of ``shapes`` is on the broker, and what is to be done about those that are to be
    migrated, in the same order. Raises what asking the broker raises."""
    found = [_look_for(shape, survey) for shape in shapes]
    return found, list(_jobs(wanted, found, survey))


def _look_for(wanted: Shape, survey: Survey) -> Look:
    if isinstance(wanted, ExchangeDeclaration):
        return survey.exchange(wanted)
    return survey.queue(wanted)


def _jobs(wanted: ExpandedTopology, found: Iterable[Look], survey: Survey) -> Iterator[Job]:
    declared = declarations(wanted)
    of_file = [one for one in declared if isinstance(one, BindingDeclaration)]
    queues = {one.name: one for one in declared if isinstance(one, QueueDeclaration)}
    queues |= survey.queues()
    for one in found:
        if isinstance(one, Obstacle) or not one.needs_migration:
            continue
        if isinstance(one.wanted, QueueDeclaration):
            retries = _leading_straight_to(one.wanted.name, queues.values())
            yield _queue_job(one, of_file, retries, survey)
        else:
            yield _exchange_job(one, of_file, survey)


def _queue_job(
    found: Found[Any],
    of_file: Iterable[BindingDeclaration],
    retries: tuple[str, ...],
    survey: Survey,
) -> QueueJob:
    end = ("queue", found.wanted.name)
    mine = [one for one in of_file if (one.destination_type, one.destination) == end]
    seen = survey.bindings_of_queue(found.wanted.name)
    return QueueJob(
        found.wanted,
        found.current,
        _distinct((*seen, *mine)),
        retries,
        found.differences,
        unfinished=found.unfinished,
    )


def _leading_straight_to(name: str, queues: Iterable[QueueDeclaration]) -> tuple[str, ...]:
    """Those whose dead letters go to it by the default exchange, such as its retry queues."""
    straight = ("", name)
    keys = ("x-dead-letter-exchange", "x-dead-letter-routing-key")
    return tuple(
        one.name
        for one in queues
        if one.name != name and tuple(one.arguments.get(key) for key in keys) == straight
    )


def _exchange_job(
    found: Found[Any], of_file: Iterable[BindingDeclaration], survey: Survey
) -> ExchangeJob:
    name = found.wanted.name
    end = ("exchange", name)
    mine = [
        one
        for one in of_file
        if one.source == name or (one.destination_type, one.destination) == end
    ]
    return ExchangeJob(
        found.wanted,
        is_there=found.current is not None and not found.differences,
        bindings=_distinct((*survey.bindings_of_exchange(name), *mine)),
        differences=found.differences,
        unfinished=found.unfinished,
    )


def _distinct(bindings: Iterable[BindingDeclaration]) -> tuple[BindingDeclaration, ...]:
    return tuple({binding_identity(one): one for one in bindings}.values())
