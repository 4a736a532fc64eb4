"""What the library needs of pika's inside: another version of pika fails here, and says so."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pika
import pytest
from pika import exceptions as pika_errors, frame, spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.channel import Channel
from pika.connection import Connection

from attune_mq.amqp import pika_link
from attune_mq.amqp.pika_link import PikaLink

OVERRIDDEN = {
    "_adapter_add_callback_threadsafe": ["self", "callback"],
    "_adapter_call_later": ["self", "delay", "callback"],
    "_adapter_connect_stream": ["self"],
    "_adapter_disconnect_stream": ["self"],
    "_adapter_emit_data": ["self", "data"],
    "_adapter_remove_timeout": ["self", "timeout_id"],
}
CALLED: dict[tuple[type, str], list[str]] = {
    (Connection, "_on_stream_connected"): ["self"],
    (Connection, "_on_data_available"): ["self", "data_in"],
    (Connection, "_on_stream_terminated"): ["self", "error"],
    (Connection, "_terminate_stream"): ["self", "error"],
    (Channel, "_rpc"): ["self", "method", "callback", "acceptable_replies"],
}
READ = {"_impl"}
"""Of a ``BlockingConnection`` and a ``BlockingChannel``: what they stand on."""


def parameters_of(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(("name", "parameters"), OVERRIDDEN.items())
def test_pika_asks_an_adapter_for_what_it_did(name: str, parameters: list[str]) -> None:
    assert parameters_of(getattr(Connection, name)) == parameters
    assert parameters_of(getattr(PikaLink, name)) == parameters


def test_pika_asks_an_adapter_for_nothing_else() -> None:
    assert getattr(Connection, "__abstractmethods__") == frozenset(OVERRIDDEN)  # noqa: B009


@pytest.mark.parametrize(("where", "parameters"), CALLED.items())
def test_pika_has_what_is_called(where: tuple[type, str], parameters: list[str]) -> None:
    assert parameters_of(getattr(*where)) == parameters


def test_a_blocking_connection_and_its_channel_stand_on_what_they_did(broker_url: str) -> None:
    connection: Any = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        channel: Any = connection.channel()
        assert BlockingChannel in type(channel).__mro__
        assert isinstance(connection._impl, Connection)
        assert isinstance(channel._impl, Channel)
    finally:
        connection.close()


def test_no_other_private_name_of_pika_is_used() -> None:
    """That no other file uses one is held by the linter (SLF001)."""
    tree = ast.parse(Path(pika_link.__file__).read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    pikas = {
        name
        for kind in (Connection, Channel, pika.BlockingConnection, BlockingChannel)
        for name in vars(kind)
        if name.startswith("_")
    } | READ
    used = {name for name in names & pikas if not name.startswith("__")}
    assert used - defined == {name for _, name in CALLED} | READ
    assert defined & pikas - {"__init__"} == set(OVERRIDDEN)


# What it does with them.


@pytest.fixture
def link() -> PikaLink:
    link = PikaLink(pika.ConnectionParameters(heartbeat=10))
    link.connect(now_s=0.0)
    return link


def say(link: PikaLink, *methods: Any) -> None:
    for method in methods:
        link.receive(frame.Method(0, method).marshal())


def opened(link: PikaLink) -> PikaLink:
    start = spec.Connection.Start(0, 9, {"version": "4.0.1"}, "PLAIN", "en_US")
    say(link, start, spec.Connection.Tune(7, 4_096, 60), spec.Connection.OpenOk())
    link.out.clear()
    return link


def pass_to(link: PikaLink, now_s: float) -> None:
    link.now_s = now_s
    link.tick()


def test_the_handshake_needs_bytes_alone(link: PikaLink) -> None:
    assert link.out == [frame.ProtocolHeader().marshal()]

    opened(link)

    assert link.is_open
    assert (link.version, link.frame_max, link.channel_max) == ("4.0.1", 4_096, 7)


def test_a_heartbeat_is_sent_when_its_time_has_come(link: PikaLink) -> None:
    opened(link)

    pass_to(link, 4.9)
    assert link.out == []
    pass_to(link, 5.1)
    assert link.out == [frame.Heartbeat().marshal()]
    assert link.due_s == pytest.approx(10.1)


def test_it_is_over_when_nothing_came_for_longer_than_the_heartbeat(link: PikaLink) -> None:
    opened(link)

    link.bytes_received += 1
    pass_to(link, 15.1)
    assert link.failure is None
    pass_to(link, 31.0)
    assert isinstance(link.failure, pika_errors.AMQPHeartbeatTimeout)
    assert not link.is_open


def test_an_alarm_blocks_and_its_end_unblocks(link: PikaLink) -> None:
    opened(link)

    say(link, spec.Connection.Blocked("low on memory"))
    assert link.blocked
    say(link, spec.Connection.Unblocked())
    assert not link.blocked


def test_it_is_over_when_the_broker_agrees_to_its_closing(link: PikaLink) -> None:
    opened(link)

    link.close()
    assert link.failure is None
    say(link, spec.Connection.CloseOk())
    assert isinstance(link.failure, pika_errors.ConnectionClosedByClient)
    assert link.due_s == float("inf") or all(t.callback is None for t in link._timers)


def test_what_the_broker_says_as_it_closes_is_the_failure(link: PikaLink) -> None:
    opened(link)

    say(link, spec.Connection.Close(320, "maintenance", 0, 0))

    assert isinstance(link.failure, pika_errors.ConnectionClosedByBroker)
    assert link.failure.reply_text == "maintenance"


def test_a_stream_that_ends_in_the_handshake_tells_of_a_wrong_password(link: PikaLink) -> None:
    say(link, spec.Connection.Start(0, 9, {}, "PLAIN", "en_US"))

    link.lost(pika_errors.StreamLostError("its peer ended it"))

    assert isinstance(link.failure, pika_errors.ProbableAuthenticationError)
