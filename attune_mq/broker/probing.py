"""Whether what exists is equal to what is wanted, asked over AMQP alone, creating nothing.

A passive declaration tells that something exists and compares nothing. An active one compares, but
creates what was deleted a moment ago. So it is sent with an argument that the broker refuses to
*create* with and does not look at when it *compares* (measured on RabbitMQ 3.10, 4.0 and 4.3):

* a queue is declared with an argument of another queue type: ``x-max-age`` belongs to streams,
  ``x-delivery-limit`` to quorum queues;
* an exchange with an ``alternate-exchange`` that is no text. The alternate exchange is compared
  last, so a refusal that names it means that all else is equal, and says which one there is.

A probe of an exchange is therefore always refused, which the broker logs as an error of the
channel. That is too noisy for a health check that runs every few seconds: :class:`QuietProber`
declares an exchange as it is, once a passive declaration has seen it. Should it be deleted in
between, then this makes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attune_mq.amqp.channel_methods import ChannelMethods
from attune_mq.amqp.probe_channel import ProbeChannel, Refusal
from attune_mq.broker.declaring import declare, uncompared
from attune_mq.broker.observation import Absent, Indeterminate, Verdict
from attune_mq.broker.replies import Different, NotPermitted, NotThere, parse_reply
from attune_mq.topology.declaration import ExchangeDeclaration, QueueDeclaration
from attune_mq.topology.equivalence import Difference, Equal, Inequivalent

_FOREIGN = {"x-max-age": "1D", "x-delivery-limit": 1}
"""Arguments that make the creation of a queue fail: the first for all but streams, the second for
streams, of which the first is one."""
HIDDEN = Indeterminate("some permission on it is needed to see it", "refused")
"""Whether it exists is not known either (from RabbitMQ 4.3 on)."""
_ALTERNATE = re.compile(r"but current is (?:(none)|'(.*)')$", re.DOTALL)


class Prober:
    """Asks about one object after the other. ``consumer_counts`` has every queue that was seen."""

    def __init__(self, asker: ProbeChannel) -> None:
        self.consumer_counts: dict[str, int] = {}
        self._asker = asker

    def verdict(self, wanted: ExchangeDeclaration | QueueDeclaration) -> Verdict:
        """Whether it is there and equal. Raises ``BrokerUnavailable``, ``LoginRefused``,
        ``VirtualHostRefused``."""
        refusal = self._look_for(wanted)
        if refusal is not None:
            return _without_comparison(wanted, refusal)
        if isinstance(wanted, ExchangeDeclaration):
            return self._compare_exchange(wanted)
        return self._compare_queue(wanted)

    def seen(self, wanted: ExchangeDeclaration | QueueDeclaration) -> Verdict:
        """As :meth:`verdict`, but what the broker does not compare is unseen, not equal."""
        verdict = self.verdict(wanted)
        if verdict == Equal() and (why := uncompared(wanted, self._asker.version)):
            return Indeterminate(why)
        return verdict

    def _look_for(self, wanted: ExchangeDeclaration | QueueDeclaration) -> Refusal | None:
        if isinstance(wanted, ExchangeDeclaration):
            name = wanted.name
            return self._asker.ask(lambda channel: channel.exchange_declare(name, passive=True))

        def count(channel: ChannelMethods) -> None:
            declared = channel.queue_declare(wanted.name, passive=True)
            self.consumer_counts[wanted.name] = declared.consumer_count or 0

        return self._asker.ask(count)

    def _compare_queue(self, wanted: QueueDeclaration) -> Verdict:
        is_stream = wanted.arguments.get("x-queue-type") == "stream"
        foreign = "x-delivery-limit" if is_stream else "x-max-age"
        verdict = self._compare_queue_with(wanted, foreign)
        if verdict is None:  # without a type it is a stream where that is the default
            verdict = self._compare_queue_with(wanted, "x-delivery-limit")
        return verdict or Indeterminate("it exists, and is of a type that cannot be compared")

    def _compare_queue_with(self, wanted: QueueDeclaration, foreign: str) -> Verdict | None:
        """``None`` where the argument is not foreign to the queue that is there."""
        refusal = self._declare(wanted, {foreign: _FOREIGN[foreign], **wanted.arguments})
        if refusal is None:
            return Equal()
        different = _difference(wanted, refusal)
        if different is None:
            return _incomparable(wanted, refusal)
        if different.field == foreign and foreign not in wanted.arguments:
            return None
        return Inequivalent((different,))

    def _compare_exchange(self, wanted: ExchangeDeclaration) -> Verdict:
        refusal = self._declare(wanted, {**wanted.arguments, "alternate-exchange": True})
        if refusal is None:
            return Indeterminate("the broker took a declaration that it should refuse")
        different = _difference(wanted, refusal)
        if different is None:
            return _incomparable(wanted, refusal)
        if different.field != "alternate-exchange":
            return Inequivalent((different,))
        there = _ALTERNATE.search(refusal.text)
        if there is None:
            return Indeterminate("it exists; its alternate exchange is truncated in the reply")
        expected, found = wanted.arguments.get("alternate-exchange"), there[2]
        if expected == found:
            return Equal()
        return Inequivalent((Difference("alternate-exchange", expected, found),))

    def _declare(
        self, wanted: ExchangeDeclaration | QueueDeclaration, arguments: Mapping[str, Any]
    ) -> Refusal | None:
        """As it is wanted, but with these arguments."""
        declaration = replace(wanted, arguments=arguments)
        return self._asker.ask(lambda channel: declare(channel, declaration))


class QuietProber(Prober):
    """Leaves no line in the broker's log where all is well."""

    def _compare_exchange(self, wanted: ExchangeDeclaration) -> Verdict:
        refusal = self._declare(wanted, wanted.arguments)
        if refusal is None:
            return Equal()
        different = _difference(wanted, refusal)
        return Inequivalent((different,)) if different else _incomparable(wanted, refusal)


def _without_comparison(
    wanted: ExchangeDeclaration | QueueDeclaration, refusal: Refusal
) -> Verdict:
    """What a refused passive declaration means."""
    match parse_reply(*refusal):
        case NotThere():
            return Absent()
        case Different():
            is_exclusive = isinstance(wanted, QueueDeclaration) and wanted.exclusive
            found = "true, to another connection"
            return Inequivalent((Difference("exclusive", is_exclusive, found),))
        case NotPermitted():
            return HIDDEN
        case _:
            return Indeterminate(f"the broker says {refusal.code} {refusal.text}")


def _difference(
    wanted: ExchangeDeclaration | QueueDeclaration, refusal: Refusal
) -> Difference | None:
    """What differs, with our own value as we have it; ``None`` where it is another refusal."""
    reply = parse_reply(*refusal)
    if not isinstance(reply, Different):
        return None
    expected = wanted.arguments.get(reply.field, getattr(wanted, reply.field, None))
    return Difference(reply.field, expected, reply.found)


def _incomparable(
    wanted: ExchangeDeclaration | QueueDeclaration, refusal: Refusal
) -> Indeterminate:
    if isinstance(parse_reply(*refusal), NotPermitted):
        needed = f"it exists; comparing it needs the permission configure on {wanted.name!r}"
        return Indeterminate(needed, "refused")
    return Indeterminate(f"it exists, but cannot be compared: {refusal.code} {refusal.text}")
