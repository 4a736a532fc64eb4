"""Whether what a service needs is still on the broker: polled, never repaired."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace

from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.observation import ingress_name, listed_bindings
from attune_mq.broker.planning import Plan, make_plan, observe_by_amqp
from attune_mq.broker.probing import QuietProber
from attune_mq.errors import AttuneError
from attune_mq.forking import OwnProcess
from attune_mq.topology.declaration import BindingDeclaration, declarations
from attune_mq.topology.equivalence import binding_identity
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by, services

logger = logging.getLogger(__name__)

VERIFY_EVERY_S = 5.0
VERIFY_AGAIN_S = 1.0
"""After a verification that found something missing, or found no broker."""
VERIFIED_WITHIN_S = 10.0
"""How long one may take, with many objects on a busy broker."""
ANSWERED_WITHIN_S = 3.0
"""How long the broker may take over one question. A connection on which it takes longer is given up
for a new one: nothing but the heartbeat would end it, and that takes a minute."""
LISTED_WITHIN_S = 3.0
"""How long the HTTP API may take to list the bindings."""


class TopologyWatch:
    """A thread with a connection of its own. ``service``: what that one needs is looked at; all
    of the topology, where the file does not name it.

    Passive declarations, and comparisons that change nothing. AMQP shows no bindings: they are
    looked at where there is ``management_url``, of the HTTP API. While that does not answer they
    are not, which makes nothing red: no message goes by it. Raises
    :class:`~attune_mq.broker.management.InvalidManagementUrl`.
    """

    def __init__(
        self,
        topology: Topology,
        settings: BrokerSettings,
        service: str,
        management_url: str | None = None,
    ) -> None:
        known = service in services(topology)
        self._wanted = needed_by(topology, service) if known else expand(topology)
        self._settings = settings
        self._client: ManagementClient | None = None
        if management_url is not None:
            self._client = management_client(management_url, settings, timeout_s=LISTED_WITHIN_S)
        self._api_answers = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topology-watch", daemon=True)
        self._verified_at_s = 0.0
        self._trouble: str | None = "it is not verified yet"
        self._conflicts: tuple[str, ...] = ()
        self._process = OwnProcess()

    @property
    def trouble(self) -> str | None:
        """What is missing. What is there and different is :attr:`conflicts`."""
        if self._process.is_another:
            return f"it is verified in {self._process}, not in this fork"
        if self._trouble is None and time.monotonic() - self._verified_at_s > (
            VERIFY_EVERY_S + VERIFIED_WITHIN_S
        ):
            return "the broker does not answer whether all of it is there"
        return self._trouble

    @property
    def conflicts(self) -> tuple[str, ...]:
        """What the broker has with other properties than the file says. Set-up warns of it and
        goes on, and so does readiness."""
        return self._conflicts

    def start(self) -> None:
        self._process.require("the topology watch")
        self._process.begin()
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Does not wait for a broker that does not answer."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._verify_while_connected()
            except AttuneError as error:
                self._trouble = f"it cannot be verified: {error}"
            except Exception as error:  # a defect, which must not look like health
                logger.exception("Verification of the topology failed")
                self._trouble = f"it cannot be verified: {type(error).__name__}"
            self._stopping.wait(VERIFY_AGAIN_S)

    def _verify_while_connected(self) -> None:
        name = "attune_mq plan"
        with ProbeChannel(self._settings, name=name, answer_within_s=ANSWERED_WITHIN_S) as asker:
            prober = QuietProber(asker)
            while not self._stopping.is_set():
                plan = make_plan(self._wanted, observe_by_amqp(self._wanted, prober))
                self._take(plan, self.missing_bindings())
                self._stopping.wait(VERIFY_AGAIN_S if self._trouble else VERIFY_EVERY_S)

    def _take(self, plan: Plan, bindings: Sequence[BindingDeclaration]) -> None:
        absent = (*(one.declaration for one in plan.create), *bindings)
        missing = [f"{one.kind} '{one.name}'" for one in absent]
        self._verified_at_s = time.monotonic()
        self._conflicts = tuple(str(one) for one in plan.conflicts)
        self._trouble = f"{', '.join(missing)}: not there" if missing else None

    def missing_bindings(self) -> list[BindingDeclaration]:
        """Those that are not there, neither directly nor by way of a migration's ingress, as far as
        the HTTP API tells. One that does not answer is logged, once until it answers again."""
        if self._client is None:
            return []
        try:
            listed = listed_bindings(self._client, virtual_host(self._settings.urls[0]))
        except AttuneError as error:
            level = logging.WARNING if self._api_answers else logging.DEBUG
            logger.log(level, "Health: bindings are not checked: %s", error)
            self._api_answers = False
            return []
        self._api_answers = True
        there = {binding_identity(one) for one in listed}
        wanted = (one for one in declarations(self._wanted) if isinstance(one, BindingDeclaration))
        return [one for one in wanted if there.isdisjoint(_ways_of(one))]


def _ways_of(binding: BindingDeclaration) -> set[Hashable]:
    ingress = ingress_name(binding.destination)
    diverted = replace(binding, destination=ingress, destination_type="exchange")
    return {binding_identity(binding), binding_identity(diverted)}
