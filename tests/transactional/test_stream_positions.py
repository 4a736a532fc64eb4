"""The position in a stream that is committed with the effect: exact, wherever a process ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy import Engine

from attune_mq.consuming import stream_seeking
from attune_mq.consuming.consumer import Consumer
from attune_mq.errors import ConsumeError, Reject
from attune_mq.message.delivery import Message
from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.stream_positions import StreamDelivery, StreamPosition
from attune_mq.payloads import ExecutionRequested
from attune_mq.service import Service
from tests.messaging.bench import Bench, Calls, handlers_of, request, running, wait_for_state
from tests.messaging.deliveries import delivery
from tests.messaging.proxy import Proxy
from tests.transactional.dying_stream_consumer import POINTS
from tests.transactional.stream_effects import SHORT, STREAM, Effects, topology_of_stream
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
CONSUMER = "reader"


@pytest.fixture
def effects(engine: Engine) -> Effects:
    effects = Effects(engine)
    effects.create()
    return effects


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.set_up(topology_of_stream())
    yield bench
    bench.close()


def publish(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.put(STREAM, encode(Envelope.of(request(number))))


def consumer_of(url: str, effects: Effects, work: Any = None, **options: Any) -> Consumer:
    calls = Calls(work or effects.handle)
    topology = options.pop("topology", topology_of_stream())
    return Consumer(
        topology, CONSUMER, handlers_of(calls), url, positions=effects.positions, **options
    )


def wait_for_effects(effects: Effects, *numbers: int) -> None:
    wait_until(lambda: effects.numbers() == list(numbers), f"the effects are {numbers}")


def position(offset: int, fingerprint: str = "f", generation: int = 0) -> StreamPosition:
    return StreamPosition(offset, fingerprint, generation)


def declare_anew(bench: Bench, *, arguments: str | None = None) -> None:
    bench.channel.queue_delete(STREAM)
    bench.set_up(topology_of_stream(arguments) if arguments else topology_of_stream())


# What is stored.


def test_nothing_is_stored_of_a_consumer_that_never_was_there(effects: Effects) -> None:
    assert effects.positions.read(STREAM, CONSUMER) is None


def test_a_position_moves_on_and_never_back(effects: Effects) -> None:
    positions = effects.positions
    positions.store(STREAM, CONSUMER, position(7, "seven"))
    positions.store(STREAM, CONSUMER, position(5, "five"))

    assert positions.read(STREAM, CONSUMER) == position(7, "seven")
    assert positions.read(STREAM, "another") is None
    assert positions.read("another", CONSUMER) is None


def test_a_position_of_a_stream_that_is_gone_moves_nothing_in_the_one_that_followed(
    effects: Effects,
) -> None:
    positions = effects.positions
    positions.store(STREAM, CONSUMER, position(7))
    positions.store(STREAM, CONSUMER, position(7).next_generation())
    positions.store(STREAM, CONSUMER, position(8))

    assert positions.read(STREAM, CONSUMER) == position(-1, "", 1)


def handed_out(offset: int) -> Message[Any]:
    payload = request(offset)
    plain = replace(delivery(), queue=STREAM, consumer_tag=CONSUMER)
    given = StreamDelivery.like(plain, offset=offset, failures=0)
    return Message(payload, Envelope.of(payload), given)


def test_a_position_is_rolled_back_with_the_effect(engine: Engine, effects: Effects) -> None:
    with engine.connect() as tx:
        assert effects.positions.advance(tx, handed_out(3))
        tx.rollback()

    with engine.begin() as tx:
        assert effects.positions.advance(tx, handed_out(3))
        assert not effects.positions.advance(tx, handed_out(3))
        assert not effects.positions.advance(tx, handed_out(2))


def test_one_of_two_instances_that_handle_a_message_at_once_has_its_effect(
    engine: Engine, effects: Effects
) -> None:
    both = Barrier(2)

    def handle() -> None:
        both.wait(30)
        effects.handle(handed_out(3))

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(handle), pool.submit(handle)]:
            running.result(60)

    assert effects.numbers() == [3]


def test_a_message_of_a_queue_has_no_position(engine: Engine, effects: Effects) -> None:
    payload = request(1)
    message = Message(payload, Envelope.of(payload), delivery())

    with engine.begin() as tx, pytest.raises(ConsumeError, match="of a stream"):
        effects.positions.advance(tx, message)


# Restarts.


def test_a_service_goes_on_behind_what_it_handled_last(bench: Bench, effects: Effects) -> None:
    publish(bench, 0, 1)

    def service() -> Service:
        service = Service("tests", topology_of_stream(), bench.url, positions=effects.positions)
        service.on(ExecutionRequested)(effects.handle)
        return service

    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
        publish(bench, *expected[2:][-2:])
        one = service()
        one.start()
        wait_for_effects(effects, *expected)
        one.stop(5)


@contextmanager
def killed_at(point: str, database_url: str, url: str, folder: Path) -> Iterator[None]:
    """Within the block the consumer stands at the point; then it is killed (SIGKILL)."""
    module = "tests.transactional.dying_stream_consumer"
    command = [sys.executable, "-m", module, database_url, url, point, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT)

    def stands_there() -> bool:
        assert process.poll() is None, "the consumer ended by itself"
        return (folder / "reached").exists()

    try:
        wait_until(stands_there, f"the consumer stands {point}")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("point", POINTS)
def test_a_consumer_that_is_killed_has_each_effect_exactly_once(
    bench: Bench, effects: Effects, database_url: str, tmp_path: Path, point: str
) -> None:
    publish(bench, *range(6))
    with killed_at(point, database_url, bench.url, tmp_path):
        pass
    by_then = effects.numbers()
    consumer = consumer_of(bench.url, effects)

    with running(consumer):
        wait_until(lambda: 5 in effects.numbers(), "the last one is handled")

    assert by_then == ([0, 1] if point.startswith("before") else [0, 1, 2])
    assert effects.numbers() == [0, 1, 2, 3, 4, 5]


def test_a_handler_that_stores_nothing_is_behind_its_messages_after_a_stop(
    bench: Bench, effects: Effects
) -> None:
    publish(bench, 0, 1, 2)
    calls = Calls()
    with running(consumer_of(bench.url, effects, calls)):
        calls.wait_for(3)
        wait_until(lambda: calls.ids == [0, 1, 2], "all are handled")

    publish(bench, 3)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 3)


def test_a_message_that_was_passed_over_is_behind_the_consumer(
    bench: Bench, effects: Effects
) -> None:
    publish(bench, 0, 1)

    def work(message: Message[Any]) -> None:
        if message.payload.execution_id == 1:
            raise Reject("never")
        effects.handle(message)

    consumer = consumer_of(bench.url, effects, work)
    with running(consumer):
        wait_until(lambda: consumer.status.dead_lettered == 1, "it is passed over")

    publish(bench, 2)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0, 2)


@pytest.mark.parametrize(
    ("offset", "expected"), [(1, [0, 1, 2, 2]), (-1, [0, 0, 1, 1, 2, 2]), (2, [0, 1, 2])]
)
def test_a_position_that_was_chosen_is_gone_on_from(
    bench: Bench, effects: Effects, engine: Engine, offset: int, expected: list[int]
) -> None:
    publish(bench, 0, 1, 2)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0, 1, 2)

    with engine.begin() as tx:
        effects.positions.place(tx, STREAM, CONSUMER, offset)
    publish(bench, 3)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, *expected, 3)


# What becomes of the stream while nobody reads it.


def test_what_the_retention_dropped_while_the_consumer_was_away_is_said_to_be_lost(
    bench: Bench, effects: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    declare_anew(bench, arguments=SHORT)
    publish(bench, 0)
    short = topology_of_stream(SHORT)
    with running(consumer_of(bench.url, effects, topology=short)):
        wait_for_effects(effects, 0)

    publish(bench, *range(1, 200))
    with running(consumer_of(bench.url, effects, topology=short)):
        wait_until(lambda: 199 in effects.numbers(), "the last one is handled")

    [said] = re.findall(r"lost up to (\d+) messages of stream 'log'", caplog.text)
    assert 0 < 200 - len(effects.numbers()) <= int(said)


@pytest.mark.parametrize("fewer", [True, False], ids=["fewer messages", "more messages"])
def test_a_stream_that_was_declared_anew_is_read_whole(
    bench: Bench,
    effects: Effects,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fewer: bool,
) -> None:
    monkeypatch.setattr(stream_seeking, "SILENCE_S", 1.0)
    publish(bench, 0, 1, 2)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0, 1, 2)

    declare_anew(bench)
    new = [10, 11] if fewer else [10, 11, 12, 13]
    publish(bench, *new)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0, 1, 2, *new)
    assert "was declared anew" in caplog.text

    publish(bench, 20)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0, 1, 2, *new, 20)


def test_an_empty_stream_is_not_taken_for_a_new_one(
    bench: Bench, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_seeking, "SILENCE_S", 0.5)
    publish(bench, 0)
    with running(consumer_of(bench.url, effects)):
        wait_for_effects(effects, 0)

    declare_anew(bench)
    consumer = consumer_of(bench.url, effects)
    with running(consumer):
        wait_until(lambda: "has no message" in str(consumer.status.detail), "it says so")
        assert consumer.status.state == "connecting"
        publish(bench, 10)
        wait_for_effects(effects, 0, 10)


def test_what_is_still_handled_of_a_stream_that_is_gone_hides_nothing_of_the_new_one(
    bench: Bench, effects: Effects, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_seeking, "SILENCE_S", 1.0)
    proxy = Proxy(broker_url)
    entered, let_through = Event(), Event()

    def work(message: Message[Any]) -> None:
        if message.payload.execution_id == 5:
            entered.set()
            assert let_through.wait(60)
        effects.handle(message)

    publish(bench, *range(6))
    consumer = consumer_of(proxy.url, effects, work)
    with running(consumer):
        assert entered.wait(60)
        proxy.refuse()
        declare_anew(bench)
        publish(bench, 10, 11)
        proxy.forward()
        wait_until(lambda: consumer.status.connections == 2, "it reads the new stream")
        let_through.set()
        wait_until(lambda: 11 in effects.numbers(), "the new ones are handled")
    proxy.close()

    assert effects.numbers() == [0, 1, 2, 3, 4, 10, 11]


# The database.


def test_a_consumer_waits_for_the_database_that_knows_its_position(
    bench: Bench, effects: Effects
) -> None:
    publish(bench, 0)
    effects.drop()
    consumer = consumer_of(bench.url, effects)

    with running(consumer):
        wait_for_state(consumer, "connecting")
        wait_until(lambda: "positions" in str(consumer.status.detail), "it says what is missing")
        effects.create()
        wait_for_effects(effects, 0)
