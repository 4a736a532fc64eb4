"""Where a message goes when it dies in a queue, as RabbitMQ decides it.

Sources: https://www.rabbitmq.com/docs/dlx, and a broker for the cycle rule: a dead letter is not
put into a queue in which it died before if nothing since then, that death included, was
``rejected``. RabbitMQ drops such a copy silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from attune_mq.topology.arguments import Version
from attune_mq.topology.exchange_types import Headers
from attune_mq.topology.network import HopPath, Network, QueueNode

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]
"""Why a message died, in the words of the header ``x-first-death-reason``."""
REASONS: tuple[Reason, ...] = get_args(Reason)

ORDERLY: Version = (3, 13)
"""The first version of RabbitMQ that keeps the deaths of a message in their order."""

Dropped = Literal["no dead letter exchange", "unroutable", "cycle"]
"""Why a dead letter is lost. The first says that the queue has none, or one that is not there."""


History = tuple[tuple[str, Reason], ...]
"""Queue and reason of each death, the last one first, each pair once, as in ``x-death``."""

_State = tuple[str, tuple[str, ...], History | frozenset[tuple[str, Reason]]]
"""A queue, and what decides where a message in it goes on to: its keys and its history. The order
of the history counts only where the broker mixes it up."""


class Loss(NamedTuple):
    """A dead letter, or a copy of it, that is gone."""

    queue: str
    """The queue in which the message died last."""
    why: Dropped
    exchange: str | None = None
    """The dead letter exchange of that queue."""
    held: bool = False
    """The queue dead-letters at least once: it keeps what it would have dropped, unseen, tries
    again for ever, and fills up."""


@dataclass(frozen=True)
class Death:
    """What becomes of a message that dies in ``queue``."""

    queue: str
    reason: Reason
    routing_key: str
    queues: tuple[str, ...]
    """Names, sorted, of the queues that it lands in next or, when followed, rests in at last: each
    once, though copies that went different paths may come to rest in one queue."""
    paths: tuple[HopPath, ...]
    """The path to each of them, by each binding that leads there."""
    losses: tuple[Loss, ...] = ()
    """Where copies are lost, also while others arrive."""
    cycle: tuple[str, ...] = ()
    """Queues of a dead-letter cycle that never ends: up to RabbitMQ 3.12, later versions drop the
    message."""
    unsimulated: tuple[str, ...] = ()
    """Exchanges of a plugin's type that it came to; what they do with it is not known here."""

    @property
    def dropped(self) -> Dropped | None:
        """Why nothing is left of it; ``None`` when a copy arrives somewhere, or may."""
        left = self.queues or self.cycle or self.unsimulated
        return self.losses[0].why if self.losses and not left else None


@dataclass(frozen=True)
class DeadLetter:
    """A message in a queue: what decides where it goes when it dies there.

    ``keys`` are its own routing key and after that those of CC and BCC. ``headers`` are ``None``
    where nothing is known of them: then all happens that may.
    """

    keys: tuple[str, ...]
    headers: Headers | None = field(default_factory=dict)
    history: History = ()

    def died(self, node: QueueNode, reason: Reason, broker_version: Version) -> DeadLetter:
        """The message that is published to the dead letter exchange of the queue."""
        history = _remembered(self.history, (node.name, reason), broker_version)
        keys, headers = self.keys, self.headers
        if node.death is not None and node.gives_key:
            keys = (node.death.routing_key,)
        if headers is not None:
            headers = _with_death(headers, self.history, history, keeps_cc=not node.gives_key)
        return DeadLetter(keys, headers, history)

    def would_cycle(self, queue: str) -> bool:
        """Whether it died in that queue before, and no client rejected it since."""
        for name, reason in self.history:
            if reason == "rejected":
                return False
            if name == queue:
                return True
        return False


def _remembered(history: History, death: tuple[str, Reason], broker_version: Version) -> History:
    """The last death first; up to 3.12 the broker turns the older ones round each time."""
    older = history if broker_version >= ORDERLY else history[::-1]
    return (death, *(past for past in older if past != death))


def _with_death(
    headers: Headers, before: History, history: History, *, keeps_cc: bool
) -> Mapping[str, Any]:
    """As a headers exchange sees them: the broker adds what it knows of the deaths."""
    changed = {k: v for k, v in headers.items() if keeps_cc or k != "CC"}
    if not before:
        queue, reason = history[0]
        changed |= {"x-first-death-queue": queue, "x-first-death-reason": reason}
    changed["x-death"] = [{"queue": name, "reason": why} for name, why in history]
    return changed


def simulate_dead_lettering(
    network: Network, queue: QueueNode, message: DeadLetter, reason: Reason, *, follow: bool
) -> Death:
    """What becomes of ``message`` when it dies in ``queue``.

    With ``follow`` it goes on from every queue that has a TTL and a dead letter exchange: there it
    expires, unless it is consumed before.
    """
    simulation = _Simulation(network, follow)
    dying = [_Copy(queue, message, reason)]
    while dying:
        dying += simulation.step(dying.pop())
    return Death(
        queue=queue.name,
        reason=reason,
        routing_key=message.keys[0],
        queues=tuple(sorted({path[-1].destination for path in simulation.paths})),
        paths=tuple(simulation.paths),
        losses=tuple(simulation.losses),
        cycle=tuple(sorted(simulation.cycle)),
        unsimulated=tuple(simulation.unsimulated),
    )


class _Copy(NamedTuple):
    """A message that dies in a queue, and what came before since its first death."""

    node: QueueNode
    message: DeadLetter
    reason: Reason
    path: HopPath = ()
    before: tuple[_State, ...] = ()


@dataclass
class _Simulation:
    """What has become known of one death so far."""

    network: Network
    follow: bool
    paths: list[HopPath] = field(default_factory=list)
    losses: dict[Loss, None] = field(default_factory=dict)
    unsimulated: dict[str, None] = field(default_factory=dict)
    cycle: set[str] = field(default_factory=set)
    seen: set[_State] = field(default_factory=set)

    def step(self, copy: _Copy) -> Iterator[_Copy]:
        """The copies that come out of one death and die in their turn."""
        for each in self._copies(copy):
            if not (self.follow and self.network.expires(each.node)):
                self.paths.append(each.path)
            elif self._is_new(each):
                yield each

    def _copies(self, copy: _Copy) -> list[_Copy]:
        """Each in the queue that it has come to."""
        node, death = copy.node, copy.node.death
        if death is None or not self.network.has_exchange(death.destination):
            self._lose(node, "no dead letter exchange", held=node.holds_back)
            return []
        message = copy.message.died(node, copy.reason, self.network.broker_version)
        reached = self.network.reached(death.destination, message.keys, message.headers)
        self.unsimulated |= dict.fromkeys(reached.unsimulated)
        mixed_up = self.network.broker_version < ORDERLY
        history = message.history if mixed_up else frozenset(message.history)
        copies, cycles = [], False
        for path in reached.paths:
            name = path[-1].destination
            if copy.reason != "rejected" and message.would_cycle(name):
                cycles = True
                continue
            before = (*copy.before, (name, message.keys, history))
            whole = (*copy.path, death, *path)
            copies.append(_Copy(self.network.queues[name], message, "expired", whole, before))
        if cycles:
            self._lose(node, "cycle", held=node.holds_back and not copies)
        elif not copies and not reached.unsimulated:
            self._lose(node, "unroutable", held=node.holds_back)
        return copies

    def _lose(self, node: QueueNode, why: Dropped, *, held: bool) -> None:
        exchange = node.death.destination if node.death else None
        self.losses[Loss(node.name, why, exchange, held)] = None

    def _is_new(self, copy: _Copy) -> bool:
        """Whether none like it was there before, by whatever path it came."""
        *earlier, state = copy.before
        if state in earlier:
            self.cycle |= {name for name, _, _ in earlier[earlier.index(state) :]}
        is_new = state not in earlier and state not in self.seen
        self.seen.add(state)
        return is_new
