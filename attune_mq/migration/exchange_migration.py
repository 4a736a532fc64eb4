"""The migration of one exchange.

Publishers name it, so there is a moment in which it does not exist, some milliseconds long: what is
published then is refused with 404. Messages from other exchanges are not affected, and none is
routed to some of its queues only: a stage of the new type, with all of its bindings, is declared
before, and the new exchange is bound to that first.
"""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import replace

from attune_mq.migration.context import MigrationContext
from attune_mq.migration.report import MigratedExchange, Step
from attune_mq.migration.survey import ExchangeJob, stage_name
from attune_mq.topology.declaration import BindingDeclaration


def migrate_exchange(job: ExchangeJob, context: MigrationContext) -> MigratedExchange:
    """Raises what the broker raises; then a further call continues."""
    started_at = time.monotonic()
    control, stage = context.control, stage_name(job.name)

    context.progress(job.name, Step.PREPARE)
    control.declare(replace(job.wanted, name=stage, auto_delete=False, internal=False))
    for binding in job.bindings:
        control.bind(_moved_to(stage, job, binding))

    context.progress(job.name, Step.REPLACE)
    if not job.is_replaced:
        control.delete_exchange(job.name)
        control.declare(job.wanted)  # or a service that sets up just now, as its own file says
    for key in sorted(_keys_that_match_all(job)):
        control.bind(BindingDeclaration(job.name, stage, "exchange", key))

    context.progress(job.name, Step.CLEAN_UP)
    for binding in job.bindings:
        control.bind(binding)
    control.delete_exchange(stage)
    return MigratedExchange(job.name, time.monotonic() - started_at)


def _moved_to(stage: str, job: ExchangeJob, binding: BindingDeclaration) -> BindingDeclaration:
    if binding.source == job.name:
        return replace(binding, source=stage)
    return replace(binding, destination=stage)


def _keys_that_match_all(job: ExchangeJob) -> Set[str]:
    """With which the exchange routes each message to the stage, and so to all of its queues."""
    match job.wanted.type:
        case "topic":
            return {"#"}
        case "direct":
            return {one.routing_key for one in job.bindings if one.source == job.name}
        case "fanout" | "headers":
            return {""}
    return set()  # of a plugin's type it is not known
