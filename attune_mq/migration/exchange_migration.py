"""One exchange, from what it is to what it shall be.

Publishers name it, so there is a moment in which it is not there, some milliseconds long: what is
published then is refused with 404, and told so. What comes to it from other exchanges does not
notice, and nothing is routed to some of its queues only: a stage of the new type, with all of its
bindings, is made before, and the new exchange is bound to that first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pika

from attune_mq.migration.control import Control
from attune_mq.migration.progress import Progress, Step
from attune_mq.migration.scaffold import stage_name
from attune_mq.topology.declarations import BindingDeclaration, ExchangeDeclaration
from attune_mq.topology.equivalence import Difference


@dataclass(frozen=True)
class MigratedExchange:
    exchange: str
    seconds: float


@dataclass(frozen=True)
class ExchangeJob:
    """``is_there``: as it shall be, so that the migration was ended after that. ``bindings``: all
    that it is an end of."""

    wanted: ExchangeDeclaration
    is_there: bool
    bindings: tuple[BindingDeclaration, ...]
    differences: tuple[Difference, ...] = ()
    unfinished: bool = False

    @property
    def name(self) -> str:
        return self.wanted.name


class ExchangeMigration:
    def __init__(
        self,
        job: ExchangeJob,
        connection: pika.BlockingConnection,
        *,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._job = job
        self._stage = replace(job.wanted, name=stage_name(job.name), auto_delete=False)
        self._control = Control(connection)
        self._on_progress = on_progress

    def run(self) -> MigratedExchange:
        """Raises what the broker raises; then a further call goes on."""
        started_at = time.monotonic()
        self._prepare()
        self._replace()
        self._dismantle()
        return MigratedExchange(self._job.name, time.monotonic() - started_at)

    def _prepare(self) -> None:
        self._tell(Step.PREPARE)
        self._control.declare(replace(self._stage, internal=False))
        for binding in self._job.bindings:
            self._control.bind(self._staged(binding))

    def _replace(self) -> None:
        """A service that sets up in between makes it too, as its own file says."""
        self._tell(Step.REPLACE)
        if not self._job.is_there:
            self._control.delete_exchange(self._job.name)
            self._control.declare(self._job.wanted)
        for whole in self._to_stage():
            self._control.bind(whole)

    def _to_stage(self) -> Iterator[BindingDeclaration]:
        """So that each message finds all of its queues at once."""
        keys = {one.routing_key for one in self._job.bindings if one.source == self._job.name}
        match self._job.wanted.type:
            case "topic":
                keys = {"#"}
            case "direct":
                pass
            case "fanout" | "headers":
                keys = {""}
            case _:  # a plugin's, of which we do not know what would match everything
                return
        for key in sorted(keys):
            yield BindingDeclaration(self._job.name, self._stage.name, "exchange", key)

    def _dismantle(self) -> None:
        self._tell(Step.DISMANTLE)
        for binding in self._job.bindings:
            self._control.bind(binding)
        self._control.delete_exchange(self._stage.name)

    def _staged(self, binding: BindingDeclaration) -> BindingDeclaration:
        if binding.source == self._job.name:
            return replace(binding, source=self._stage.name)
        return replace(binding, destination=self._stage.name)

    def _tell(self, step: Step) -> None:
        self._on_progress(Progress(self._job.name, step))
