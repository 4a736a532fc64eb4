"""The migration of one exchange.

Publishers name it, so there is a moment in which it does not exist, some milliseconds long: what is
published then is refused with 404. Messages from other exchanges are not affected, and none is
routed to some of its queues only: a stage of the new type, with all of its bindings, is declared
before, and the new exchange is bound to that first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from attune_mq.migration.context import MigrationContext
from attune_mq.migration.jobs import ExchangeJob
from attune_mq.migration.report import MigratedExchange, Step
from attune_mq.migration.temporary_topology import stage_name
from attune_mq.topology.declarations import BindingDeclaration


class ExchangeMigration:
    def __init__(self, job: ExchangeJob, context: MigrationContext) -> None:
        self._job = job
        self._stage = replace(job.wanted, name=stage_name(job.name), auto_delete=False)
        self._context = context
        self._control = context.control

    def run(self) -> MigratedExchange:
        """Raises what the broker raises; then a further call continues."""
        started_at = time.monotonic()
        self._prepare()
        self._replace()
        self._clean_up()
        return MigratedExchange(self._job.name, time.monotonic() - started_at)

    def _prepare(self) -> None:
        self._context.progress(self._job.name, Step.PREPARE)
        self._control.declare(replace(self._stage, internal=False))
        for binding in self._job.bindings:
            self._control.bind(self._staged(binding))

    def _replace(self) -> None:
        """A service that sets up in between declares it too, as its own file says."""
        self._context.progress(self._job.name, Step.REPLACE)
        if not self._job.is_replaced:
            self._control.delete_exchange(self._job.name)
            self._control.declare(self._job.wanted)
        for binding in self._to_stage():
            self._control.bind(binding)

    def _to_stage(self) -> Iterator[BindingDeclaration]:
        """So that each message reaches all of its queues at once."""
        keys = {one.routing_key for one in self._job.bindings if one.source == self._job.name}
        match self._job.wanted.type:
            case "topic":
                keys = {"#"}
            case "direct":
                pass
            case "fanout" | "headers":
                keys = {""}
            case _:  # of a plugin: which binding would match everything is not known
                return
        for key in sorted(keys):
            yield BindingDeclaration(self._job.name, self._stage.name, "exchange", key)

    def _clean_up(self) -> None:
        self._context.progress(self._job.name, Step.CLEAN_UP)
        for binding in self._job.bindings:
            self._control.bind(binding)
        self._control.delete_exchange(self._stage.name)

    def _staged(self, binding: BindingDeclaration) -> BindingDeclaration:
        if binding.source == self._job.name:
            return replace(binding, source=self._stage.name)
        return replace(binding, destination=self._stage.name)
