"""Reading a delivery, finding its handler, and what came of it: no broker needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from attune_mq import Handlers, Message, Payload
from attune_mq.consuming.processing import settlement_of
from attune_mq.errors import ConsumeError
from attune_mq.message import NOT_BEFORE
from attune_mq.message.settlement import Done, Failed, RetryPolicy, Unhandled, Unreadable
from attune_mq.payloads import ExecutionDispatch, ExecutionRequested
from attune_mq.testing import RepublishWithCount
from tests.messaging.bench import Calls
from tests.messaging.bodies import body
from tests.messaging.deliveries import delivery


def handling(work: Any = None) -> tuple[Handlers, Calls]:
    handlers, calls = Handlers(), Calls(work)
    handlers.on(ExecutionRequested)(calls)
    return handlers, calls


def test_a_handler_gets_payload_envelope_and_how_it_came() -> None:
    handlers, calls = handling()

    assert handlers.handle(delivery(headers={"x-attune-attempt": 1})) == Done()

    (message,) = calls.messages
    assert message.payload.execution_id == 1
    assert message.envelope.message_type == "ExecutionRequested"
    assert message.message_id == "m-1"
    assert message.attempt == 2
    assert message.consumer_tag == "worker@1"
    assert not message.is_dead_letter


def test_two_classes_of_one_message_type_have_a_handler_each() -> None:
    handlers, requests = handling()
    dispatches = Calls()
    handlers.on(ExecutionDispatch)(dispatches)
    dispatch = {
        "execution_id": 1,
        "worker_id": 7,
        "action_ref": "core.echo",
        "scheduled_attempt_updated_at": "2026-09-03T12:34:56Z",
    }

    handlers.handle(delivery())
    handlers.handle(delivery(body(payload=dispatch)))

    assert [type(m.payload).__name__ for m in requests.messages] == ["ExecutionRequested"]
    assert [type(m.payload).__name__ for m in dispatches.messages] == ["ExecutionDispatch"]
    assert handlers.message_types == {"ExecutionRequested"}


def test_a_second_handler_of_one_class_is_refused() -> None:
    handlers, _ = handling()

    with pytest.raises(ConsumeError, match="ExecutionRequested"):
        handlers.on(ExecutionRequested)(Calls())


@pytest.mark.parametrize(
    "unreadable",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        body("message_type"),
        body("timestamp"),
        body(payload={}),
    ],
    ids=["nothing", "no JSON", "no UTF-8", "too deep", "no type", "no time", "a field missing"],
)
def test_what_cannot_be_read_is_an_outcome(unreadable: bytes) -> None:
    handlers, calls = handling()

    assert isinstance(handlers.handle(delivery(unreadable)), Unreadable)
    assert calls.messages == []


def test_a_type_that_nobody_handles_is_an_outcome() -> None:
    handlers, calls = handling()

    assert handlers.handle(delivery(body(message_type="Strange"))) == Unhandled("Strange")
    assert calls.messages == []


def test_an_id_that_the_body_lacks_is_taken_from_the_properties() -> None:
    handlers, calls = handling()

    handlers.handle(delivery(body("message_id", "correlation_id"), correlation_id="story"))

    assert calls.messages[0].message_id == "m-1"
    assert calls.messages[0].envelope.correlation_id == "story"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_handler_raises_is_an_outcome(error: BaseException) -> None:
    def work(_message: Message[Any]) -> None:
        raise error

    outcome = handling(work)[0].handle(delivery())

    assert isinstance(outcome, Failed)
    assert outcome.error.type == type(error).__name__


def test_a_defect_in_a_payload_class_of_somebodys_own_is_an_outcome() -> None:
    class Broken(Payload):
        message_type: ClassVar[str] = "Broken"

        @classmethod
        def claims(cls, data: Mapping[str, object]) -> bool:
            raise RuntimeError("a defect")

    handlers = Handlers()
    handlers.on(Broken)(Calls())

    outcome = handlers.handle(delivery(body(message_type="Broken")))

    assert isinstance(outcome, Failed)
    assert outcome.error.text == "a defect"


def test_a_message_that_is_not_due_is_not_handled_but_waits_on() -> None:
    """Nobody holds a message for hours: it goes to the tail of its queue, its count unchanged."""
    handlers, calls = handling()
    waiting = delivery(headers={NOT_BEFORE: 2**62, "x-attune-redeliveries": 4})

    assert settlement_of(waiting, handlers, RetryPolicy()) == RepublishWithCount(4)
    assert calls.messages == []


def test_a_message_that_came_back_is_counted_before_its_handler_is_called() -> None:
    handlers, calls = handling()

    assert settlement_of(delivery(redelivered=True), handlers, RetryPolicy()) == RepublishWithCount(
        1
    )
    assert calls.messages == []


def test_a_message_that_a_quorum_queue_counted_is_handled_at_once() -> None:
    handlers, calls = handling()
    counted = delivery(redelivered=True, headers={"x-delivery-count": 1})

    settlement_of(counted, handlers, RetryPolicy())

    assert len(calls.messages) == 1
