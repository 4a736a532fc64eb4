"""The simulated broker: where messages go when they die. Compared with brokers in
``test_routing_against_broker.py``."""

from __future__ import annotations

import pytest

from attune_mq.topology.dead_lettering import REASONS, Loss, Reason
from attune_mq.topology.routing import Router
from tests.topology.test_routing import SHIPPED, router

RETRY = """
exchanges:
  work:   {name: work,   type: direct}
  dead:   {name: dead,   type: fanout}
queues:
  work:   {name: work,   dead_letter: {to: "", routing_key: retry}}
  retry:  {name: retry,  ttl: 30s, dead_letter: {to: work, routing_key: job}}
  parked: {name: parked, ttl: 24h, dead_letter: false}
bindings:
  - {source: work, destination: work, routing_key: job}
  - {source: dead, destination: parked}
"""
TWO_WAITS = """
exchanges:
  round:  {name: round, type: fanout}
queues:
  work:   {name: work,   dead_letter: {to: "", routing_key: first}}
  first:  {name: first,  ttl: 1s, dead_letter: {to: "", routing_key: second}}
  second: {name: second, ttl: 1s, dead_letter: {to: round, routing_key: first}}
  seen:   {name: seen,   dead_letter: false}
bindings:
  - {source: round, destination: first}
  - {source: round, destination: seen}
"""


@pytest.mark.parametrize("reason", REASONS)
def test_a_dead_letter_comes_to_the_queue_of_its_own(reason: Reason) -> None:
    """Though the dead letter exchange is a fanout that knows of three such queues."""
    shipped = Router(SHIPPED)

    for queue in ("attune.events.queue", "attune.executions.queue", "attune.notifications.queue"):
        death = shipped.dead_letter(queue, "any key", reason=reason, follow=True)
        assert death.queues == (f"{queue}.dlq",)
        assert death.dropped is None


def test_the_way_of_a_dead_letter_begins_in_the_queue_in_which_it_died() -> None:
    (way,) = Router(SHIPPED).dead_letter("attune.events.queue").paths

    assert [(hop.source, hop.destination) for hop in way] == [
        ("attune.events.queue", "attune.dlx"),
        ("attune.dlx", "attune.dlx.direct"),
        ("attune.dlx.direct", "attune.events.queue.dlq"),
    ]
    assert way[0].path == ("queues", "events", "dead_letter")


def test_without_a_key_of_the_queue_a_dead_letter_keeps_its_own_and_those_of_cc_and_bcc() -> None:
    keeping = router("""
exchanges: {dead: {name: dead, type: direct}}
queues:
  work: {name: work, dead_letter: {to: dead}}
  a: {name: a, dead_letter: false}
  b: {name: b, dead_letter: false}
  c: {name: c, dead_letter: false}
bindings:
  - {source: dead, destination: a, routing_key: a}
  - {source: dead, destination: b, routing_key: b}
  - {source: dead, destination: c, routing_key: c}
""")

    assert keeping.dead_letter("work", "a").queues == ("a",)
    assert keeping.dead_letter("work", "a", {"CC": ["b"], "BCC": ["c"]}).queues == ("a", "b", "c")
    assert keeping.dead_letter("work", "z").dropped == "unroutable"


def test_with_a_key_of_the_queue_a_dead_letter_has_no_other() -> None:
    replacing = router(RETRY)

    assert replacing.dead_letter("work", "job", {"CC": ["parked"]}).queues == ("retry",)


def test_a_headers_exchange_sees_that_and_why_a_message_died() -> None:
    by_reason = router("""
exchanges: {dead: {name: dead, type: headers}}
queues:
  work:    {name: work, dead_letter: {to: dead, routing_key: k}}
  late:    {name: late, dead_letter: false}
  any:     {name: any, dead_letter: false}
  copied:  {name: copied, dead_letter: false}
bindings:
  - source: dead
    destination: late
    arguments: {x-match: all-with-x, x-first-death-reason: expired, x-first-death-queue: work}
  - {source: dead, destination: any, arguments: {x-match: all-with-x, x-death: null}}
  - {source: dead, destination: copied, arguments: {CC: null}}
""")

    assert by_reason.dead_letter("work", reason="expired").queues == ("any", "late")
    assert by_reason.dead_letter("work", headers={"CC": ["a"]}).queues == ("any",)


def test_dead_letters_may_pass_through_internal_exchanges() -> None:
    inner = router("""
exchanges: {dead: {name: dead, type: fanout, internal: true}}
queues: {work: {name: work, dead_letter: {to: dead}}, rest: {name: rest, dead_letter: false}}
bindings: [{source: dead, destination: rest}]
""")

    assert inner.dead_letter("work").queues == ("rest",)


def test_a_rejected_message_comes_back_after_its_wait() -> None:
    death = router(RETRY).dead_letter("work", "job", reason="rejected", follow=True)

    assert death.queues == ("work",)
    (way,) = death.paths
    assert [hop.source for hop in way] == ["work", "", "retry", "work"]


@pytest.mark.parametrize("reason", ["expired", "maxlen", "delivery_limit"])
def test_a_message_that_no_client_rejected_does_not_come_back_but_is_dropped(
    reason: Reason,
) -> None:
    """Above all the delivery limit of a quorum queue: it is no rejection."""
    death = router(RETRY).dead_letter("work", "job", reason=reason, follow=True)

    assert (death.queues, death.dropped) == ((), "cycle")
    assert death.losses == (Loss("retry", "cycle", "work"),)


def test_without_following_it_lands_in_the_next_queue_and_no_further() -> None:
    assert router(RETRY).dead_letter("work", "job").queues == ("retry",)


def test_a_queue_with_a_ttl_and_no_dead_letter_exchange_is_a_resting_place() -> None:
    resting = router("""
queues:
  work:   {name: work, dead_letter: {to: "", routing_key: parked}}
  parked: {name: parked, ttl: 24h, dead_letter: false}
""")

    assert resting.dead_letter("work", follow=True).queues == ("parked",)
    assert resting.dead_letter("parked", reason="expired").dropped == "no dead letter exchange"


def test_a_queue_whose_dead_letter_exchange_is_not_there_drops_its_dead_letters() -> None:
    missing = router("""
queues:
  work: {name: work, dead_letter: {to: "", routing_key: wait}}
  wait: {name: wait, ttl: 1s, arguments: {x-dead-letter-exchange: nowhere}, dead_letter: false}
""")

    assert missing.dead_letter("wait").losses == (
        Loss("wait", "no dead letter exchange", "nowhere"),
    )
    assert missing.dead_letter("work", follow=True).queues == ("wait",)


def test_a_queue_that_dead_letters_to_itself_drops_what_was_not_rejected() -> None:
    itself = router('queues: {q: {name: q, dead_letter: {to: "", routing_key: q}}}')

    assert itself.dead_letter("q", reason="rejected").queues == ("q",)
    assert itself.dead_letter("q", reason="expired").dropped == "cycle"


def test_copies_that_are_lost_are_named_while_others_arrive() -> None:
    copies = router("""
exchanges: {dead: {name: dead, type: fanout}}
queues:
  work: {name: work, dead_letter: {to: dead}}
  rest: {name: rest, dead_letter: false}
bindings:
  - {source: dead, destination: work}
  - {source: dead, destination: rest}
""")

    death = copies.dead_letter("work", reason="maxlen")

    assert (death.queues, death.dropped) == (("rest",), None)
    assert death.losses == (Loss("work", "cycle", "dead"),)


def test_at_least_once_dead_lettering_holds_what_it_cannot_bring_anywhere() -> None:
    holding = """
exchanges: {{dead: {{name: dead, type: fanout}}}}
queues:
  work:
    name: work
    type: quorum
    overflow: {overflow}
    dead_letter: {{to: dead, strategy: at-least-once}}
"""
    (held,) = router(holding.format(overflow="reject-publish")).dead_letter("work").losses
    (gone,) = router(holding.format(overflow="drop-head")).dead_letter("work").losses

    assert (held.held, gone.held) == (True, False)


@pytest.mark.parametrize(("version", "circles"), [("3.10", True), ("3.12.4", True), ("4.0", False)])
def test_up_to_3_12_a_message_that_was_rejected_once_goes_round_for_ever(
    version: str, circles: bool
) -> None:
    death = router(TWO_WAITS, broker_version=version).dead_letter("work", follow=True)

    assert death.queues == ("seen",)
    assert death.cycle == (("first", "second") if circles else ())
    assert death.losses == (() if circles else (Loss("second", "cycle", "round"),))


def test_the_version_is_the_one_that_the_file_names() -> None:
    named = router('broker: {version: "3.10"}\n' + TWO_WAITS)

    assert named.dead_letter("work", follow=True).cycle == ("first", "second")
    assert router(TWO_WAITS).dead_letter("work", follow=True).cycle == ()


def test_following_copies_through_many_queues_that_feed_each_other_comes_to_an_end() -> None:
    names = [f"q{i}" for i in range(9)]
    queues = "\n".join(
        f"  {name}: {{name: {name}, ttl: 1s, dead_letter: {{to: x}}}}" for name in names
    )
    bindings = "\n".join(f"  - {{source: x, destination: {name}}}" for name in names)
    everything = router(
        f"exchanges: {{x: {{name: x, type: fanout}}}}\nqueues:\n{queues}\nbindings:\n{bindings}"
    )

    assert everything.dead_letter("q0", reason="expired", follow=True).dropped == "cycle"
