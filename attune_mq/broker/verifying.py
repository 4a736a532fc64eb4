"""Whether what a topology wants is there and equal, as outcomes of a set-up that makes nothing."""

from __future__ import annotations

from collections.abc import Callable, MutableSet, Sequence

from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.declaring import Migrations
from attune_mq.broker.observation import Absent, Indeterminate, Verdict
from attune_mq.broker.plan import steps_of
from attune_mq.broker.probing import HIDDEN, Prober
from attune_mq.broker.report import Create, Ignored, Missing, Outcome, Refused
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.model import ExpandedTopology


class Verifier:
    """On one connection. ``missing``: kind and name of what is not there, shared by all that verify
    one topology. ``is_there``: whether a binding is, as far as is known.

    Creates nothing, not even in a race. Each exchange that is there costs a line in the broker's
    log, see :mod:`~attune_mq.broker.probing`.
    """

    def __init__(
        self,
        asker: ProbeChannel,
        settings: BrokerSettings,
        topology: ExpandedTopology,
        missing: MutableSet[tuple[str, str]],
        is_there: Callable[[BindingDeclaration], Verdict],
    ) -> None:
        self._prober = Prober(settings, asker)
        self._topology = topology
        self._missing = missing
        self._is_there = is_there
        self._migrations = Migrations(asker)

    def look_at_all(self, wanted: Sequence[Declaration]) -> list[Outcome]:
        """One outcome for each, in order."""
        return [self._outcome(one, self._verdict(one)) for one in wanted]

    def _verdict(self, wanted: Declaration) -> Verdict:
        match wanted:
            case BindingDeclaration(source, destination, destination_type):
                if destination_type == "queue" and self._migrations.has(destination):
                    return Indeterminate("its queue is being migrated, and its bindings with it")
                ends = {("exchange", source), (destination_type, destination)}
                return Absent() if ends & self._missing else self._is_there(wanted)
            case ExchangeDeclaration() | QueueDeclaration():
                verdict = self._prober.seen(wanted)
                if verdict == Absent():
                    self._missing.add((wanted.kind, wanted.name))
                elif isinstance(wanted, QueueDeclaration) and self._migrations.has(wanted.name):
                    return Indeterminate("it is being migrated, and was not compared")
                return verdict

    def _outcome(self, wanted: Declaration, verdict: Verdict) -> Outcome:
        if verdict == HIDDEN:
            where = self._topology.where(*wanted.path)
            return Refused(wanted, where, "some", HIDDEN.detail, exists=None)
        match next(steps_of(self._topology, wanted, verdict)):
            case Create(declaration, where):
                return Missing(declaration, where, "nothing was created, as asked")
            case Ignored():
                raise AssertionError("what is ignored follows what is unchanged")
            case step:
                return step
