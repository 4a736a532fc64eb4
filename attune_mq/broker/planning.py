"""``plan`` and ``check``: desired and observed, compared: what set-up would do, and what else
differs; for health probes, whether all of it is there and consumed."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import DEFAULT_TIMEOUT_S, management_client
from attune_mq.broker.observation import (
    Absent,
    AmqpObservation,
    Indeterminate,
    ManagementObservation,
    Observation,
    ObservedQueue,
    Source,
    Verdict,
    observe_by_management,
)
from attune_mq.broker.probing import Prober, QuietProber
from attune_mq.broker.report import (
    Conflict,
    Create,
    Extra,
    Ignored,
    OfKind,
    Step,
    Unchanged,
    Unknown,
)
from attune_mq.topology.arguments import key_of
from attune_mq.topology.declaration import BindingDeclaration, Declaration, declarations
from attune_mq.topology.equivalence import (
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    binding_identity,
    written,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import name_pattern
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import RESERVED_PREFIX
from attune_mq.topology.selection import needed_by
from attune_mq.topology.source import Where
from attune_mq.topology_file import TopologySource, topology_from

CHECK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Plan:
    """What set-up would do (``create``), and how else broker and file differ. Each holds exchanges,
    then queues, then bindings, in the order of the file; ``extra`` by name.

    ``conflicts`` has an entry for each field that differs, ``unchanged`` an object of which some
    argument is ``ignored`` too. Over AMQP a conflict names the first field only, since the broker
    names no more, and ``extra`` is always empty, since AMQP lists nothing.
    """

    source: Source
    outcomes: tuple[Step | Extra, ...]

    create = OfKind(Create)
    unchanged = OfKind(Unchanged)
    conflicts = OfKind(Conflict)
    ignored = OfKind(Ignored)
    extra = OfKind(Extra)
    unknown = OfKind(Unknown)

    @property
    def has_differences(self) -> bool:
        """Whether the broker is known not to be as the file says."""
        return bool(self.create or self.conflicts or self.extra)


@dataclass(frozen=True)
class ConsumerPresence:
    """``present`` is ``None`` where the source cannot tell: over AMQP, of a queue that belongs to
    its consumer's connection."""

    tag: str
    queue: str
    present: bool | None


@dataclass(frozen=True)
class Health:
    """``missing`` (there to ``create``), ``conflicts`` and ``unknown`` as in a
    :class:`~attune_mq.broker.planning.Plan`, of which it has the ``outcomes``."""

    outcomes: tuple[Step | Extra, ...]
    consumers: tuple[ConsumerPresence, ...]

    missing = OfKind(Create)
    conflicts = OfKind(Conflict)
    unknown = OfKind(Unknown)

    @property
    def healthy(self) -> bool:
        """Whether nothing is missing or different, and no consumer is known to be absent. Of what
        is ``unknown``, and of a consumer of which the broker does not tell, that is not known."""
        absent = any(consumer.present is False for consumer in self.consumers)
        return not (self.missing or self.conflicts or absent)


def plan(
    topology: TopologySource = None,
    broker: BrokerSettings | str | None = None,
    *,
    service: str | None = None,
    management_url: str | None = None,
) -> Plan:
    """Compares a topology with a broker. Creates and changes nothing, not even in a race.

    ``topology``: a topology, the path of a file, or nothing for the default file. ``service``:
    only what that service needs. ``broker``: as for ``setup_infrastructure``.
    ``management_url``: of RabbitMQ's HTTP API, which sees everything; without it, AMQP alone tells
    whether exchanges and queues exist and are equal, and the plan says what is unknown.

    Raises ``InvalidInput`` for a file, service or URL that is wrong, ``BrokerUnavailable``, and
    ``PermissionRefused`` for a login, a virtual host or a tag.
    """
    wanted = wanted_by(service, topology)
    return make_plan(wanted, observe(wanted, BrokerSettings.of(broker), management_url))


def check(
    topology: TopologySource = None,
    broker: BrokerSettings | str | None = None,
    *,
    service: str | None = None,
    management_url: str | None = None,
) -> Health:
    """Whether all that ``service`` (or the whole file) needs is there and equal, and whether each
    of its consumers is registered. Families are not looked at; an instance of one is, given as
    ``instantiate(topology, "worker", worker_id=7)``.

    Over AMQP bindings are not seen, and consumers are counted without being named: all consumers
    of a queue count as absent while it has fewer than the file wires to it. Over the HTTP API
    (``management_url``) a consumer is known by its tag, or ``tag@instance``; the API lists who
    came, and who went, up to five seconds late.

    Over AMQP it leaves no line in the broker's log as long as all is well. An exchange that is
    deleted at the very moment of the check may be made anew by it, as the file says.

    Raises as :func:`plan`.
    """
    wanted = wanted_by(service, topology)
    observation = observe(wanted, BrokerSettings.of(broker), management_url, for_probe=True)
    outcomes = make_plan(wanted, observation).outcomes
    return Health(outcomes, tuple(_presences(wanted, observation)))


def wanted_by(service: str | None, source: TopologySource) -> ExpandedTopology:
    """What is needed, by a service or at all."""
    topology = topology_from(source)
    return expand(topology) if service is None else needed_by(topology, service)


def _presences(wanted: Topology, observation: Observation) -> Iterator[ConsumerPresence]:
    needed = Counter(spec.queue for spec in wanted.consumers.values())
    queues = observation.queues
    for tag, spec in wanted.consumers.items():
        queue = wanted.queues[spec.queue]
        present: bool | None = None
        if isinstance(observation, ManagementObservation):
            candidates = [name for name in queues if queue.name in ("", name)]
            present = any(queues[name].has_consumer(tag) for name in candidates)
        elif not queue.belongs_to_a_connection:
            there = queues.get(queue.name)
            present = there is not None and (there.consumers or 0) >= needed[spec.queue]
        yield ConsumerPresence(tag, queue.name, present)


def observe(
    topology: Topology,
    broker: BrokerSettings,
    management_url: str | None = None,
    *,
    for_probe: bool = False,
) -> Observation:
    """By the HTTP API where there is one. Changes nothing; see the two for what is raised.
    ``for_probe``: with consumers, sooner given up, and without lines in the broker's log."""
    if management_url is None:
        with ProbeChannel(broker, name="attune_mq plan") as asker:
            return observe_by_amqp(topology, (QuietProber if for_probe else Prober)(asker))
    timeout_s = CHECK_TIMEOUT_S if for_probe else DEFAULT_TIMEOUT_S
    client = management_client(management_url, broker, timeout_s=timeout_s)
    return observe_by_management(client, virtual_host(broker.urls[0]), consumers=for_probe)


def observe_by_amqp(topology: Topology, prober: Prober) -> AmqpObservation:
    """Whether each exchange and queue of ``topology`` exists and is equal.

    AMQP cannot list bindings, nor anything that the topology does not name, nor tell whether an
    argument that the broker does not compare is there: whether an object with one is equal is
    indeterminate. Takes two round trips for each object. Looking at a queue that expires
    (``x-expires``) counts as using it.

    Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``.
    """
    verdicts = {
        (one.kind, one.name): prober.seen(one)
        for one in declarations(expand(topology))
        if not isinstance(one, BindingDeclaration)
    }
    queues = {
        name: ObservedQueue(name, consumers=count) for name, count in prober.consumer_counts.items()
    }
    return AmqpObservation(verdicts, queues)


def make_plan(topology: Topology, observation: Observation) -> Plan:
    """Compares a topology with what was observed, by the broker's own rules of equivalence. Pure.

    What belongs to the broker, to a connection or to an instance of a family is never ``extra``.
    """
    whole = expand(topology)
    wanted = declarations(whole)
    steps = [step for one in wanted for step in steps_of(whole, one, observation.verdict(one))]
    extra: list[Extra] = []
    if isinstance(observation, ManagementObservation):
        extra = [Extra(one) for one in _extra(whole, wanted, observation)]
    return Plan(observation.source, (*steps, *extra))


def remedy(conflict: Conflict) -> str:
    """How a conflict is resolved: by a command to type, where one does it."""
    if conflict.field == "exclusive":
        return "the queue goes when the connection that it belongs to is closed"
    if conflict.field == "x-queue-type" and "stream" in (conflict.expected, conflict.found):
        return (
            "give the queue another name: a stream keeps what was read, so nothing can be moved "
            "out of it or into it"
        )
    return f"`attune-mq migrate {shlex.quote(conflict.declaration.name)}`"


def steps_of(whole: ExpandedTopology, declaration: Declaration, verdict: Verdict) -> Iterator[Step]:
    """One step, or one for each field that differs; of what is ignored they follow the object's."""
    where = whole.where(*declaration.path)
    match verdict:
        case Absent():
            yield Create(declaration, where)
        case Indeterminate(detail, why):
            yield Unknown(declaration, where, detail, why)
        case Equal():
            yield Unchanged(declaration, where)
        case SilentlyIgnored(differences):
            yield Unchanged(declaration, where)
            for one in differences:
                yield Ignored(declaration, _place(whole, declaration, one.field), *_written(one))
        case Inequivalent(differences):
            for one in differences:
                yield Conflict(declaration, _place(whole, declaration, one.field), *_written(one))


def _written(difference: Difference) -> tuple[str, str, str]:
    """Its field, and both values as texts that differ."""
    expected, found = written(difference.expected), written(difference.found)
    if expected == found:  # 1000 and "1000"
        expected += f" ({type(difference.expected).__name__})"
        found += " (of another type)"
    return difference.field, expected, found


def _place(whole: ExpandedTopology, declaration: Declaration, name: str) -> Where:
    """Where the file says what the broker calls ``name``."""
    kind, key = declaration.path
    declared = getattr(whole, str(kind))[key]
    if name in declared.arguments:
        return whole.where(*declaration.path, "arguments", name)
    place = whole.where(*declaration.path, key_of(name) or name)
    says_nothing = place[1:3] == whole.where(*declaration.path)[1:3]
    if says_nothing and name.startswith("x-dead-letter") and declared.purpose == "main":
        return whole.where("dead_letter")  # the rule for all queues
    return place


def _extra(
    whole: ExpandedTopology, wanted: Iterable[Declaration], observation: ManagementObservation
) -> Iterator[Declaration]:
    """What is there for no reason that we know of."""
    names = {(one.kind, one.name) for one in wanted}
    queues = observation.queue_declarations
    instances = _names_in_families(whole)
    others = {
        name
        for name, queue in queues.items()
        if queue.exclusive or name.startswith(RESERVED_PREFIX) or instances.fullmatch(name)
    }
    for name, exchange in sorted(observation.exchanges.items()):
        is_built_in = not name or name.startswith(RESERVED_PREFIX)
        if not is_built_in and ("exchange", name) not in names:
            yield exchange
    for name, queue in sorted(queues.items()):
        if name not in others and ("queue", name) not in names:
            yield queue
    asked = {binding_identity(one) for one in wanted if isinstance(one, BindingDeclaration)}
    for binding in sorted(observation.bindings, key=lambda one: one.name):
        identity = binding_identity(binding)
        to_another = binding.destination_type == "queue" and binding.destination in others
        if binding.source and not to_another and identity not in asked:
            yield binding
        asked.discard(identity)  # a second of the same identity differs in the width of a number


def _names_in_families(whole: ExpandedTopology) -> re.Pattern[str]:
    names = [
        name_pattern(queue.name, family)
        for family in whole.families.values()
        for queue in family.queues.values()
    ]
    return re.compile("|".join(names) or r"(?!)")
