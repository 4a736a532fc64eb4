"""Dead letters as a daily tool, on a broker: none is lost, whatever is done with them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest

from attune_mq import (
    Envelope,
    Topology,
    instantiate,
    list_dead_letters,
    purge_dead_letters,
    replay_dead_letters,
    setup_infrastructure,
    show_dead_letters,
)
from attune_mq.broker import EmbeddedBroker
from attune_mq.dead_letters import DeadLetterCount, Replay
from attune_mq.errors import (
    AttuneError,
    InfrastructureError,
    InvalidInput,
    NotConfirmed,
    PermissionRefused,
    Reject,
)
from attune_mq.message import amqp_properties, encode
from attune_mq.topology import UnknownName
from tests.administration import Administration, url_for, virtual_host_of
from tests.messaging.bench import (
    DEAD,
    QUEUE,
    WAIT_S,
    Bench,
    Calls,
    consumer_of,
    failing,
    request,
    running,
    topology_of,
)
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

FROM_WORK = {"x-attune-exchange": "work", "x-attune-routing-key": "requested"}
"""What a consumer writes on what was published as the file says."""


def put_dead(bench: Bench, *ids: str, queue: str = DEAD, **headers: Any) -> None:
    """Dead letters as another program may have left them, each with its id; confirmed."""
    channel = bench.connection.channel()
    channel.confirm_delivery()
    for one in ids:
        envelope = Envelope.of(request(1), message_id=one)
        properties = amqp_properties(envelope)
        properties.headers = headers or dict(FROM_WORK)
        channel.basic_publish("", queue, encode(envelope), properties, mandatory=True)
    channel.close()


def die(bench: Bench, *ids: str) -> None:
    """Published as the file says, and rejected by a client that knows nothing of us."""
    for one in ids:
        envelope = Envelope.of(request(1), message_id=one)
        bench.channel.basic_publish(
            "work", "requested", encode(envelope), amqp_properties(envelope)
        )
        bench.wait_for_depth(QUEUE, 1)
        method, _, _ = bench.channel.basic_get(QUEUE)
        assert method is not None
        bench.channel.basic_reject(int(method.delivery_tag or 0), requeue=False)
    bench.wait_for_depth(DEAD, len(ids))


def ids_in(bench: Bench, queue: str, count: int) -> list[str]:
    """Of all that is in a queue, which is empty then."""
    bench.wait_for_depth(queue, count)
    return [str(message.properties.message_id) for message in bench.take_all(queue)]


def shown_ids(topology: Topology, bench: Bench, **options: Any) -> list[str | None]:
    letters = show_dead_letters(QUEUE, topology, bench.url, **options)
    return [letter.message_id for letter in letters]


def counts(replay: Replay) -> tuple[int, int, int]:
    return replay.replayed, replay.left, replay.unroutable


# Listing.


def test_each_queue_is_listed_with_its_dead_letters_and_a_missing_queue_without_a_count(
    bench: Bench,
) -> None:
    put_dead(bench, "1", "2")

    assert list_dead_letters(topology_of(WIDER), bench.url) == (
        DeadLetterCount(QUEUE, DEAD, 2),
        DeadLetterCount("note.queue", "note.queue.dlq", None),
    )


WIDER = """
version: 1
dead_letter: {exchange: dlx, ttl: 1h}
exchanges: {work: {name: work, type: direct}, dlx: {name: dlx, type: fanout}}
queues: {work: {name: work.queue}, note: {name: note.queue}}
"""


# Showing.


def test_what_a_consumer_gave_up_is_shown_with_what_is_needed_to_understand_why(
    bench: Bench, topology: Topology
) -> None:
    envelope = Envelope.of(request(1), message_id="m-1")
    with running(consumer_of(bench, topology, failing(Reject("no such action")))):
        bench.channel.basic_publish(
            "work", "requested", encode(envelope), amqp_properties(envelope)
        )
        bench.wait_for_depth(DEAD, 1)

    [letter] = show_dead_letters("work", topology, bench.url)

    assert (letter.message_id, letter.message_type) == ("m-1", "ExecutionRequested")
    assert (letter.reason, letter.attempts, letter.queue) == ("rejected", 1, QUEUE)
    assert letter.error == "attune_mq.errors.Reject: no such action"
    assert letter.origin == ("work", "requested")
    assert letter.body == encode(envelope)


def test_what_the_broker_dead_lettered_is_shown_by_its_words(
    bench: Bench, topology: Topology
) -> None:
    die(bench, "m-1")

    [letter] = show_dead_letters(QUEUE, topology, bench.url)

    assert (letter.reason, letter.queue, letter.attempts) == ("rejected", QUEUE, 1)
    assert letter.origin == ("work", "requested")
    assert letter.died_at is not None


def test_showing_changes_nothing_not_even_the_order(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"abcdef")

    for _ in range(3):
        assert shown_ids(topology, bench, limit=3) == ["a", "b", "c"]
        put_dead(bench, "x")

    assert shown_ids(topology, bench) == [*"abcdefxxx"]
    assert ids_in(bench, DEAD, 9) == [*"abcdefxxx"]


def test_no_more_are_shown_than_there_are_or_were_asked_for(
    bench: Bench, topology: Topology
) -> None:
    assert shown_ids(topology, bench) == []
    put_dead(bench, "a", "b")
    assert shown_ids(topology, bench, limit=0) == []
    assert shown_ids(topology, bench, limit=1) == ["a"]
    assert shown_ids(topology, bench, limit=9) == ["a", "b"]


def test_a_dead_letter_queue_of_an_instance_is_shown_by_its_name(
    bench: Bench, topology: Topology
) -> None:
    family = topology_of(FAMILY)
    setup_infrastructure(instantiate(family, "worker", id=7), bench.url)
    put_dead(bench, "m-1", queue="worker.7.dlq")

    for name in ("worker.7", "worker.7.dlq"):
        [letter] = show_dead_letters(name, family, bench.url)
        assert letter.message_id == "m-1"


FAMILY = """
version: 1
dead_letter: {exchange: dlx, ttl: 1h}
exchanges: {work: {name: work, type: direct}, dlx: {name: dlx, type: fanout}}
messages: {ExecutionRequested: {exchange: work, routing_key: requested}}
families:
  worker:
    parameters: [id]
    queues: {own: {name: "worker.{id}"}}
    bindings: [{source: work, destination: own, routing_key: "to.{id}"}]
    messages: {ExecutionRequested: {exchange: work, routing_key: "to.{id}"}}
"""


def test_a_queue_that_only_the_broker_has_is_looked_into(bench: Bench, topology: Topology) -> None:
    bench.channel.queue_declare("of.another.program")
    put_dead(bench, "m-1", queue="of.another.program")

    [letter] = show_dead_letters("of.another.program", topology, bench.url)

    assert letter.message_id == "m-1"


def test_a_name_that_neither_has_is_told_with_the_nearest(bench: Bench, topology: Topology) -> None:
    with pytest.raises(UnknownName, match=r"'work\.quue'.*did you mean 'work\.queue'"):
        show_dead_letters("work.quue", topology, bench.url)


def test_a_dead_letter_queue_that_is_missing_is_told(bench: Bench, topology: Topology) -> None:
    bench.channel.queue_delete(DEAD)
    with pytest.raises(InfrastructureError, match=r"no queue 'work\.queue\.dlq' on the broker"):
        show_dead_letters(QUEUE, topology, bench.url)
    with pytest.raises(InfrastructureError):
        purge_dead_letters(QUEUE, topology, bench.url)


def test_a_stream_cannot_be_looked_into(bench: Bench, topology: Topology) -> None:
    stream = {"x-queue-type": "stream"}
    bench.channel.queue_declare("a.stream", durable=True, arguments=stream)
    with pytest.raises(InvalidInput, match="not supported by stream"):
        show_dead_letters("a.stream", topology, bench.url)


def test_a_missing_permission_is_told(
    bench: Bench, topology: Topology, broker: EmbeddedBroker
) -> None:
    admin = Administration(broker)
    with admin.user() as user:
        vhost = virtual_host_of(bench.url)
        admin.allow(vhost, user, {"configure": "", "write": "", "read": ""})
        with pytest.raises(PermissionRefused, match=r"work\.queue\.dlq.*read"):
            show_dead_letters(QUEUE, topology, url_for(user, bench.url))


# Replaying: where to.


def test_a_replayed_message_is_as_it_was_before_it_died(bench: Bench, topology: Topology) -> None:
    envelope = Envelope.of(request(7), message_id="m-1", correlation_id="c-1")
    properties = amqp_properties(envelope)
    properties.headers = {"traceparent": "00-1"}
    properties.priority = 3
    properties.reply_to = "answers"
    with running(consumer_of(bench, topology, failing(Reject("no")))):
        bench.channel.basic_publish("work", "requested", encode(envelope), properties)
        bench.wait_for_depth(DEAD, 1)

    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (1, 0, 0)

    message = bench.take_when_there(QUEUE)
    assert message.headers == {"traceparent": "00-1"}
    assert message.body == encode(envelope)
    for name in ("message_id", "correlation_id", "priority", "reply_to", "content_type"):
        assert getattr(message.properties, name) == getattr(properties, name), name
    assert message.properties.timestamp == properties.timestamp
    assert message.properties.delivery_mode == 2
    assert bench.depth(DEAD) == 0


def test_a_replayed_message_is_tried_as_often_as_a_new_one(
    bench: Bench, topology: Topology
) -> None:
    counted: dict[str, Any] = {"x-attune-attempt": 5, "x-attune-redeliveries": 20}
    put_dead(bench, "m-1", **FROM_WORK, **counted)
    calls = Calls()

    replay_dead_letters(QUEUE, topology, bench.url)

    with running(consumer_of(bench, topology, calls)):
        [message] = calls.wait_for(1)
    assert message.attempt == 1
    assert message.delivery.redeliveries == 0
    assert message.message_id == "m-1"


def test_what_only_the_broker_wrote_on_goes_back_by_its_oldest_death(
    bench: Bench, topology: Topology
) -> None:
    die(bench, "a", "b")

    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (2, 0, 0)

    messages = bench.take_all(QUEUE)
    assert [message.properties.message_id for message in messages] == ["a", "b"]
    assert [message.headers for message in messages] == [{}, {}]


def test_what_does_not_say_where_it_came_from_goes_where_its_type_is_published(
    bench: Bench, topology: Topology
) -> None:
    put_dead(bench, "m-1", own="kept")

    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (1, 0, 0)

    assert bench.take_when_there(QUEUE).headers == {"own": "kept"}


def test_in_the_queue_of_an_instance_its_type_goes_where_the_instance_gets_it(
    bench: Bench,
) -> None:
    family = topology_of(FAMILY)
    setup_infrastructure(instantiate(family, "worker", id=7), bench.url)
    put_dead(bench, "m-1", queue="worker.7.dlq", own="kept")

    assert counts(replay_dead_letters("worker.7", family, bench.url)) == (1, 0, 0)

    assert ids_in(bench, "worker.7", 1) == ["m-1"]


def test_what_came_by_a_key_of_an_instance_or_straight_to_a_queue_goes_there_again(
    bench: Bench,
) -> None:
    family = topology_of(FAMILY)
    setup_infrastructure(instantiate(family, "worker", id=7), bench.url)
    by_key = {"x-attune-exchange": "work", "x-attune-routing-key": "to.7"}
    straight = {"x-attune-exchange": "", "x-attune-routing-key": "worker.7"}
    put_dead(bench, "a", queue="worker.7.dlq", **by_key)
    put_dead(bench, "b", queue="worker.7.dlq", **straight)

    assert counts(replay_dead_letters("worker.7", family, bench.url)) == (2, 0, 0)

    assert ids_in(bench, "worker.7", 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"x-attune-exchange": "old", "x-attune-routing-key": "k"}, "no exchange 'old'"),
        ({"x-attune-exchange": "work", "x-attune-routing-key": "old"}, "no queue of topology.yaml"),
        ({"x-attune-exchange": "dlx", "x-attune-routing-key": QUEUE}, "only come back to this"),
        ({"x-attune-exchange": "", "x-attune-routing-key": "gone"}, "no queue of topology.yaml"),
    ],
)
def test_what_no_longer_routes_is_said_before_anything_is_sent_and_stays(
    headers: dict[str, str], why: str, bench: Bench, topology: Topology
) -> None:
    put_dead(bench, "a")
    put_dead(bench, "b", **headers)
    put_dead(bench, "c")
    surveys: list[tuple[Replay, int]] = []

    replay = replay_dead_letters(
        QUEUE,
        topology,
        bench.url,
        on_survey=lambda survey: surveys.append((survey, bench.depth(QUEUE))),
    )

    [(survey, sent_before)] = surveys
    assert sent_before == 0
    assert counts(survey) == counts(replay) == (2, 1, 1)
    [(said, count)] = survey.obstacles
    assert why in said
    assert count == 1
    assert ids_in(bench, QUEUE, 2) == ["a", "c"]
    assert ids_in(bench, DEAD, 1) == ["b"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"message_type": "Unheard"}', "does not say where 'Unheard' is published"),
        (b"\xff", "neither where it came from nor its type"),
    ],
)
def test_what_cannot_be_sent_anywhere_is_said_and_stays(
    body: bytes, why: str, bench: Bench, topology: Topology
) -> None:
    bench.put(DEAD, body)

    replay = replay_dead_letters(QUEUE, topology, bench.url)

    assert counts(replay) == (0, 1, 1)
    assert why in replay.obstacles[0][0]
    assert bench.depth(DEAD) == 1


def test_what_the_broker_returns_against_the_file_stays(bench: Bench, topology: Topology) -> None:
    put_dead(bench, "a", "b")
    bench.channel.queue_unbind(QUEUE, "work", "requested")

    replay = replay_dead_letters(QUEUE, topology, bench.url)

    assert counts(replay) == (0, 2, 2)
    [(why, count)] = replay.obstacles
    assert count == 2
    assert "no queue takes it" in why
    assert ids_in(bench, DEAD, 2) == ["a", "b"]


def test_what_a_full_queue_refuses_stays_and_is_not_unroutable(bench: Bench) -> None:
    full = topology_of(max_length="1", overflow="reject-publish")
    bench.channel.queue_delete(QUEUE)
    bench.set_up(full)
    put_dead(bench, "a", "b", "c")

    replay = replay_dead_letters(QUEUE, full, bench.url)

    assert counts(replay) == (1, 2, 0)
    assert [count for _, count in replay.obstacles] == [2]
    assert ids_in(bench, DEAD, 2) == ["b", "c"]


def test_copies_for_others_are_not_sent_once_more(bench: Bench, topology: Topology) -> None:
    bench.channel.queue_declare("other")
    envelope = Envelope.of(request(1), message_id="m-1")
    properties = amqp_properties(envelope)
    properties.headers = {"CC": ["other"]}
    bench.put(DEAD, encode(envelope), properties)
    assert bench.take_when_there("other").headers["CC"] == ["other"]

    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (1, 0, 0)

    assert ids_in(bench, QUEUE, 1) == ["m-1"]
    assert bench.depth("other") == 0


def test_who_published_it_is_left_out_since_the_broker_would_check_it(
    bench: Bench, topology: Topology, broker: EmbeddedBroker
) -> None:
    properties = pika.BasicProperties(user_id="guest", headers=FROM_WORK, expiration="3600000")
    bench.put(DEAD, b"{}", properties)
    admin = Administration(broker)
    with admin.user() as user:
        admin.allow(virtual_host_of(bench.url), user, dict.fromkeys(PERMISSIONS, ".*"))

        replay = replay_dead_letters(QUEUE, topology, url_for(user, bench.url))

    assert counts(replay) == (1, 0, 0)
    arrived = bench.take_when_there(QUEUE).properties
    assert (arrived.user_id, arrived.expiration) == (None, None)


PERMISSIONS = ("configure", "write", "read")


# Replaying: which, and how far.


def test_only_those_asked_for_are_sent_and_the_others_stay_in_their_order(
    bench: Bench, topology: Topology
) -> None:
    put_dead(bench, *"abcdefg")

    replay = replay_dead_letters(
        QUEUE, topology, bench.url, matching=lambda letter: letter.message_id in ("b", "e", "f")
    )

    assert counts(replay) == (3, 4, 0)
    assert ids_in(bench, QUEUE, 3) == ["b", "e", "f"]
    put_dead(bench, "x")
    assert ids_in(bench, DEAD, 5) == [*"acdgx"]


def test_no_more_than_asked_for_are_sent_the_oldest_first(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"abcd")

    assert counts(replay_dead_letters(QUEUE, topology, bench.url, limit=0)) == (0, 4, 0)
    assert counts(replay_dead_letters(QUEUE, topology, bench.url, limit=2)) == (2, 2, 0)
    assert ids_in(bench, QUEUE, 2) == ["a", "b"]
    assert counts(replay_dead_letters(QUEUE, topology, bench.url, limit=9)) == (2, 0, 0)
    assert ids_in(bench, QUEUE, 2) == ["c", "d"]


def test_a_dry_run_says_what_would_be_and_does_nothing(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"abc")
    put_dead(bench, "d", **{"x-attune-exchange": "old", "x-attune-routing-key": "k"})

    survey = replay_dead_letters(QUEUE, topology, bench.url, dry_run=True)

    assert counts(survey) == (3, 1, 1)
    assert survey.destinations == ((("work", "requested", True), 3),)
    assert bench.depth(QUEUE) == 0
    assert ids_in(bench, DEAD, 4) == [*"abcd"]


def test_a_replay_right_after_another_look_sees_all_that_is_given_back(
    bench: Bench, topology: Topology
) -> None:
    ids = [str(number) for number in range(200)]
    put_dead(bench, *ids)

    surveys = [replay_dead_letters(QUEUE, topology, bench.url, dry_run=True) for _ in range(4)]

    assert [counts(survey) for survey in surveys] == [(200, 0, 0)] * 4
    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (200, 0, 0)
    assert ids_in(bench, QUEUE, 200) == ids


def test_it_ends_though_each_message_dies_again_at_once(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"abc")
    calls = failing(Reject("as before"))
    with running(consumer_of(bench, topology, calls)):
        replay = replay_dead_letters(QUEUE, topology, bench.url)
        calls.wait_for(3)
        bench.wait_for_depth(DEAD, 3)

    assert replay.replayed == 3
    assert sorted(ids_in(bench, DEAD, 3)) == [*"abc"]


def test_it_ends_though_others_take_dead_letters_meanwhile(
    bench: Bench, topology: Topology
) -> None:
    put_dead(bench, *"abcd")

    def take_them(_survey: Replay) -> None:
        assert ids_in(bench, DEAD, 4) == [*"abcd"]

    replay = replay_dead_letters(QUEUE, topology, bench.url, on_survey=take_them)

    assert counts(replay) == (0, 0, 0)


def test_it_leaves_alone_what_dies_after_its_start(bench: Bench, topology: Topology) -> None:
    put_dead(bench, "a", "b")

    replay = replay_dead_letters(
        QUEUE, topology, bench.url, on_progress=lambda sent: put_dead(bench, f"later {sent}")
    )

    assert counts(replay) == (2, 0, 0)
    assert ids_in(bench, DEAD, 2) == ["later 1", "later 2"]


# Replaying: interrupted.


def assert_nothing_is_lost(bench: Bench, ids: Sequence[str], *, doubled: int) -> None:
    """Each is in one of the queues; ``doubled`` of them at most are in both."""

    def settled() -> bool:
        return bench.depth(QUEUE) + bench.depth(DEAD) >= len(ids)

    wait_until(settled, "all messages are ready")
    sent = [str(one.properties.message_id) for one in bench.take_all(QUEUE)]
    left = [str(one.properties.message_id) for one in bench.take_all(DEAD)]
    assert set(sent) | set(left) == set(ids)
    twice = [one for one, count in Counter(sent + left).items() if count > 1]
    assert len(twice) <= doubled
    assert left == sorted(left, key=int), "they are in another order"


@contextmanager
def replaying_process(url: str, say_at: int) -> Iterator[subprocess.Popen[str]]:
    """It has sent so many when the block begins, and is dead at its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.messaging.killed_replay", url, str(say_at)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"{say_at} sent\n"
        yield process
    finally:
        process.kill()
        process.wait(WAIT_S)
        process.stdout.close()


def test_a_replay_that_is_killed_loses_nothing_and_doubles_one_at_most(bench: Bench) -> None:
    ids = [str(number) for number in range(200)]
    put_dead(bench, *ids)

    with replaying_process(bench.url, 40):
        pass

    wait_until(lambda: bench.depth(QUEUE) + bench.depth(DEAD) >= 200, "all are ready again")
    assert bench.depth(QUEUE) >= 40
    assert_nothing_is_lost(bench, ids, doubled=1)


def test_a_replay_that_was_killed_is_finished_by_another(bench: Bench, topology: Topology) -> None:
    ids = [str(number) for number in range(100)]
    put_dead(bench, *ids)
    with replaying_process(bench.url, 1):
        pass

    wait_until(lambda: bench.depth(QUEUE) + bench.depth(DEAD) >= 100, "all are ready again")
    replay = replay_dead_letters(QUEUE, topology, bench.url)

    assert replay.left == 0
    assert_nothing_is_lost(bench, ids, doubled=1)


def test_asked_to_stop_it_ends_after_the_message_in_flight(
    bench: Bench, topology: Topology
) -> None:
    put_dead(bench, *"0123")
    stop = threading.Event()

    def stop_after_two(sent: int) -> None:
        if sent == 2:
            stop.set()

    replay = replay_dead_letters(QUEUE, topology, bench.url, stop=stop, on_progress=stop_after_two)

    assert counts(replay) == (2, 2, 0)
    assert replay.stopped
    assert_nothing_is_lost(bench, "0123", doubled=0)


def test_asked_to_stop_before_it_begins_it_does_nothing(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"0123")
    stop = threading.Event()
    stop.set()

    replay = replay_dead_letters(QUEUE, topology, bench.url, stop=stop)

    assert (counts(replay), replay.stopped) == ((0, 4, 0), True)
    assert ids_in(bench, DEAD, 4) == [*"0123"]


def test_an_interrupt_in_the_middle_gives_everything_back(bench: Bench, topology: Topology) -> None:
    put_dead(bench, *"0123")

    def interrupt(_sent: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_dead_letters(QUEUE, topology, bench.url, on_progress=interrupt)

    assert_nothing_is_lost(bench, "0123", doubled=0)


def test_a_connection_that_is_lost_in_the_middle_loses_no_message(
    bench: Bench, topology: Topology, proxy: Proxy
) -> None:
    ids = [str(number) for number in range(20)]
    put_dead(bench, *ids)

    def cut_after_five(sent: int) -> None:
        if sent == 5:
            proxy.cut()

    with pytest.raises(AttuneError):
        replay_dead_letters(QUEUE, topology, proxy.url, on_progress=cut_after_five)

    assert_nothing_is_lost(bench, ids, doubled=1)


def test_a_message_that_is_not_confirmed_in_time_stays_where_it_is(
    bench: Bench, topology: Topology
) -> None:
    put_dead(bench, *"0123")

    with pytest.raises(NotConfirmed):
        replay_dead_letters(QUEUE, topology, bench.url, timeout_s=0)

    assert_nothing_is_lost(bench, "0123", doubled=1)


# Quorum queues, which count.

LIMITED = """
version: 1
dead_letter: {to: dlx}
exchanges:
  work: {name: work, type: direct}
  dlx: {name: dlx, type: fanout}
queues:
  work: {name: work.queue}
  dead: {name: dead, type: quorum, delivery_limit: 4, dead_letter: false}
bindings:
  - {source: work, destination: work, routing_key: requested}
  - {source: dlx, destination: dead}
messages:
  ExecutionRequested: {exchange: work, routing_key: requested}
"""


@pytest.fixture
def limited(broker_url: str) -> Iterator[tuple[Bench, Topology]]:
    """A quorum queue for dead letters that drops what was returned five times."""
    topology = topology_of(LIMITED)
    bench = Bench(broker_url)
    bench.set_up(topology)
    yield bench, topology
    bench.close()


def test_a_dead_letter_outlives_being_looked_at_beyond_the_delivery_limit(
    limited: tuple[Bench, Topology],
) -> None:
    bench, topology = limited
    put_dead(bench, "a", "b", queue="dead")

    for _ in range(12):
        assert set(shown_ids(topology, bench)) == {"a", "b"}
        survey = replay_dead_letters(QUEUE, topology, bench.url, matching=lambda _: False)
        assert counts(survey) == (0, 2, 0)

    assert counts(replay_dead_letters(QUEUE, topology, bench.url)) == (2, 0, 0)
    arrived = bench.take_all(QUEUE)
    assert {message.properties.message_id for message in arrived} == {"a", "b"}
    assert [message.headers for message in arrived] == [{}, {}]


def test_the_copy_of_a_dead_letter_keeps_what_it_says(limited: tuple[Bench, Topology]) -> None:
    bench, topology = limited
    put_dead(bench, "a", queue="dead", **FROM_WORK, CC=["work.queue"], own="kept")
    [before] = show_dead_letters(QUEUE, topology, bench.url)
    bench.take_all(QUEUE)

    for _ in range(6):
        show_dead_letters(QUEUE, topology, bench.url)

    [after] = show_dead_letters(QUEUE, topology, bench.url)
    assert after == before
    assert bench.depth(QUEUE) == 0, "a copy went where CC says"


# Purging.


def test_purging_deletes_the_dead_letters_of_one_queue(bench: Bench, topology: Topology) -> None:
    put_dead(bench, "a", "b")
    put_dead(bench, "c", queue=QUEUE)

    assert purge_dead_letters("work", topology, bench.url) == (DEAD, 2)

    assert bench.depth(DEAD) == 0
    assert bench.depth(QUEUE) == 1


def test_only_dead_letter_queues_of_the_file_are_purged(bench: Bench, topology: Topology) -> None:
    bench.channel.queue_declare("of.another.program")
    put_dead(bench, "a", queue="of.another.program")

    with pytest.raises(UnknownName):
        purge_dead_letters("of.another.program", topology, bench.url)

    assert bench.depth("of.another.program") == 1
