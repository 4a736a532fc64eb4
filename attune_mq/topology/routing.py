"""Where a message goes: the broker, simulated, without one.

    router = Router(topology)
    router.route("attune.executions", "execution").queues
    router.dead_letter("attune.executions.queue", reason="rejected", follow=True).queues

Simulated is what RabbitMQ does with what a topology file can say: direct, topic, fanout and
headers exchanges, bindings between exchanges, alternate exchanges, the default exchange, internal
exchanges, the headers ``CC`` and ``BCC``, dead letters. Not simulated:

* exchange types of plugins (``x-consistent-hash``, ``x-delayed-message``, …): what a message does
  behind them is not known, and the result says that it came there (``unsimulated``);
* policies, which can add alternate and dead letter exchanges that no file shows;
* permissions, limits (``max_length``, memory) and direct reply-to (``amq.rabbitmq.reply-to``);
* instances of families: instantiate them, and route on that topology.

Sources: https://www.rabbitmq.com/docs/exchanges, https://www.rabbitmq.com/docs/ae,
https://www.rabbitmq.com/docs/sender-selected, https://www.rabbitmq.com/docs/dlx; and brokers,
against which the tests compare it on random topologies.
"""

from __future__ import annotations

from typing import NamedTuple

from attune_mq.errors import InvalidInput
from attune_mq.topology.dead_lettering import DeadLetter, Death, Reason, simulate_dead_lettering
from attune_mq.topology.exchange_types import Headers
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, expand
from attune_mq.topology.fields import FrozenDict
from attune_mq.topology.model import ExpandedTopology, Topology, UnknownName
from attune_mq.topology.network import HopPath, Network, QueueNode
from attune_mq.topology.validation import nearest

NO_HEADERS: Headers = FrozenDict()
SENDER_SELECTED = ("CC", "BCC")


class Routing(NamedTuple):
    """Where one message goes. Names are the broker's."""

    queues: tuple[str, ...]
    """The queues that get it, each one copy, sorted."""
    paths: tuple[HopPath, ...] = ()
    """The path to each, by each binding that takes the message to a queue. Each exchange routes
    a message once: of several paths to one exchange, the first counts."""
    dead_ends: tuple[str, ...] = ()
    """Exchanges that it came to where nothing took it, also while others brought it on."""
    unsimulated: tuple[str, ...] = ()
    """Exchanges of a plugin's type that it came to; what they do with it is not known here."""
    refused: str | None = None
    """Why the broker closes the channel instead of taking the message."""

    @property
    def unroutable(self) -> bool:
        """Whether no queue gets it, for certain: published as mandatory it is returned, otherwise
        it is silently lost."""
        return not self.queues and not self.unsimulated


class Router:
    """A topology, indexed once; then each question takes some microseconds.

    ``broker_version``: whose rules hold where versions differ, e.g. ``"3.10"``; by default the
    file's ``broker.version``, else the newest known. They differ for dead letters alone: up to 3.12
    a message that a client rejected stays in a dead-letter cycle of expiries for ever, later
    versions drop it.

    A server-named queue is called ``<server-named KEY>``, since its name is not known beforehand.
    """

    def __init__(self, topology: Topology, *, broker_version: str | None = None) -> None:
        self._network = Network(expand(topology), broker_version=broker_version)

    @property
    def topology(self) -> ExpandedTopology:
        return self._network.topology

    @property
    def exchanges(self) -> tuple[str, ...]:
        """Names of all exchanges that can be published to, without the default exchange ``""``."""
        return tuple(self._network.exchanges)

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of all queues, as the broker knows them."""
        return tuple(self._network.queues)

    def route(self, exchange: str, routing_key: str = "", headers: Headers = NO_HEADERS) -> Routing:
        """Where a message goes that is published to ``exchange`` (``""``: the default exchange)."""
        keys: tuple[str, ...] = (routing_key,)
        if headers:
            problem = _unacceptable(headers)
            if problem is not None:
                return Routing((), refused=problem)
            keys = (routing_key, *_further_keys(headers))
            headers = _without_bcc(headers)
        if exchange != DEFAULT_EXCHANGE:
            node = self._network.exchanges.get(exchange)
            if node is None:
                return Routing((), refused=f"404 NOT_FOUND - no exchange {exchange!r}")
            if node.internal:
                what = f"cannot publish to internal exchange {exchange!r}"
                return Routing((), refused=f"403 ACCESS_REFUSED - {what}")
        paths, _, dead_ends, unsimulated = self._network.reached(exchange, keys, headers)
        queues = tuple(sorted({path[-1].destination for path in paths}))
        return Routing(queues, tuple(paths), tuple(dead_ends), tuple(unsimulated))

    def dead_letter(
        self,
        queue: str,
        routing_key: str = "",
        headers: Headers = NO_HEADERS,
        *,
        reason: Reason = "rejected",
        follow: bool = False,
    ) -> Death:
        """In which queues a message lands next that was published with that key and those headers
        and dies in ``queue``, for the first time.

        ``follow``: where it rests in the end. From a queue with a TTL and a dead letter exchange it
        goes on, as if it had no consumers. A queue with a TTL and no dead letter exchange is a
        resting place; what stays there too long is gone.

        Headers that the broker adds are seen by headers exchanges on the way, ``x-death`` by its
        presence alone and without ``x-first-death-exchange``.

        Raises :class:`UnknownName` for a queue that the topology does not have, and
        :class:`InvalidInput` for headers with which no broker takes a message.
        """
        node = self._queue(queue)
        problem = _unacceptable(headers)
        if problem is not None:
            raise InvalidInput(problem)
        letter = DeadLetter((routing_key, *_further_keys(headers)), _without_bcc(headers))
        return simulate_dead_lettering(self._network, node, letter, reason, follow=follow)

    def _queue(self, name: str) -> QueueNode:
        node = self._network.queues.get(name)
        if node is None:
            hint = nearest(name, self._network.queues)
            found = f"got {name!r}" + (f" ({hint})" if hint else "")
            file = self._network.topology.sources.file
            raise UnknownName(f"{file} queues: expected the name of a queue, {found}")
        return node


def _unacceptable(headers: Headers) -> str | None:
    for name in SENDER_SELECTED:
        if name in headers and not isinstance(headers[name], list | tuple):
            return f"406 PRECONDITION_FAILED - the header {name} must be a list of routing keys"
    return None


def _without_bcc(headers: Headers) -> Headers:
    """As queues and headers exchanges see them: the broker reads BCC and takes it out."""
    return {name: value for name, value in headers.items() if name != "BCC"}


def _further_keys(headers: Headers) -> list[str]:
    """The routing keys that the headers CC and BCC add; what is no text in them is passed over."""
    lists = [headers[name] for name in SENDER_SELECTED if name in headers]
    return [key for keys in lists for key in keys if isinstance(key, str)]
