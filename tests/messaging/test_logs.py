"""Logs: text for people, an object a line for machines, and which message each line is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from attune_mq import Envelope, Message, Topology, logs
from attune_mq.message import encode, log_context as handling
from attune_mq.testing import ErrorReport
from tests.messaging.bench import Bench, Calls, consumer_of, request, running
from tests.messaging.deliveries import delivery
from tests.waiting import wait_until

logger = logging.getLogger("billing")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, pika = logging.getLogger(), logging.getLogger("pika")
    before = (root.handlers[:], root.level, pika.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    pika.setLevel(before[2])


class Written(io.StringIO):
    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def written(format: logs.Format) -> Written:
    stream = Written()
    logs.configure("info", format=format, stream=stream)
    return stream


def test_text_is_a_line_for_people() -> None:
    log = written("text")
    logger.warning("no mail server for %s", "order 4")

    assert log.lines[0][8:] == " WARNING billing: no mail server for order 4"


def test_json_is_an_object_a_line() -> None:
    log = written("json")
    logger.warning("no mail server", extra={"server": "mail-1", "tries": 3})

    [told] = log.objects
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "warning",
        "logger": "billing",
        "message": "no mail server",
        "server": "mail-1",
        "tries": 3,
    }


def test_every_line_of_a_handling_says_which_message_it_is_about(
    bench: Bench, topology: Topology
) -> None:
    """Also of the service's own loggers, and of the library where it decides what becomes of it."""
    log = written("json")

    def work(message: Message[Any]) -> None:
        logger.info("begun", extra={"queue": "its own word"} if message.attempt > 1 else None)
        if message.attempt == 1:
            raise ValueError("not yet")

    envelope = Envelope.of(request(1), correlation_id="a story")
    with running(consumer_of(bench, topology, Calls(work), instance="host-1")):
        bench.put("work.queue", encode(envelope))
        wait_until(lambda: 'attempt": 2' in log.getvalue(), "it is tried again")

    first, failed, second = (told for told in log.objects if "attempt" in told)
    fields = {
        "message_id": envelope.message_id,
        "correlation_id": "a story",
        "message_type": "ExecutionRequested",
        "consumer_tag": "worker@host-1",
        "queue": "work.queue",
    }
    assert first.items() >= (fields | {"attempt": 1, "message": "begun"}).items()
    assert failed.items() >= (fields | {"attempt": 1, "level": "warning"}).items()
    assert second.items() >= (fields | {"attempt": 2, "queue": "its own word"}).items()


def test_a_line_outside_of_a_handling_says_nothing_of_a_message() -> None:
    log = written("json")
    handling.current.reset(handling.current.set(handling.Handling(delivery())))
    logger.info("idle")

    assert set(log.objects[0]) == {"time", "level", "logger", "message"}


def test_what_cannot_be_read_is_known_by_its_properties() -> None:
    log = written("text")
    token = handling.current.set(handling.Handling(delivery(b"no envelope", queue="work.queue")))
    logger.info("unreadable")
    handling.current.reset(token)

    assert "[message=m-1 " in log.lines[0]
    assert log.lines[0].endswith("tag=worker@1 queue=work.queue attempt=1]")


FORGED = "m-1\r\n12:00:00 ERROR   billing: forged\x1b[2J\x00\x9b\u2028\u202e"


@pytest.mark.parametrize("format", logs.FORMATS)
def test_an_id_forges_no_line_and_moves_no_cursor(format: logs.Format) -> None:
    log = written(format)
    token = handling.current.set(handling.Handling(delivery(b"", message_id=FORGED)))
    logger.info("message %s", FORGED)
    handling.current.reset(token)

    assert not any(line.startswith("12:00:00 ERROR") for line in log.lines)
    assert not any(char in log.getvalue() for char in "\x1b\x00\x9b\u2028\u202e\r")
    assert (
        len(log.lines) == 1
        if format == "json"
        else all(line.startswith("  | ") for line in log.lines[1:])
    )


@pytest.mark.parametrize("format", logs.FORMATS)
def test_an_error_forges_no_line_either(format: logs.Format) -> None:
    log = written(format)
    try:
        raise ValueError("no\n12:00:00 ERROR   billing: forged\x1b[2J")
    except ValueError:
        logger.exception("it failed")

    assert "ValueError: no" in log.getvalue()
    assert not any(line.startswith("12:00:00 ERROR") for line in log.lines)
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize("format", logs.FORMATS)
@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:%s@host/%%2F",
        "amqps://us%%20er:%s@host:5671",
        "postgresql+psycopg://user:%s@host/db?sslmode=require",
        "http://user:%s@proxy.host:3128/",
        "redis://:%s@host:6379/0",
    ],
)
def test_the_password_of_a_url_is_masked_wherever_it_comes_from(
    format: logs.Format, url: str
) -> None:
    log = written(format)
    whole = url % "p4:ss@w0rd"
    try:
        raise ValueError(whole)
    except ValueError:
        logger.exception("cannot reach %s", whole, extra={"server": whole})

    assert "w0rd" not in log.getvalue()
    assert "host" in log.getvalue()


def test_an_error_of_pydantic_is_told_without_values() -> None:
    """Its text has them, and the text of an error goes to logs and to headers of dead letters."""

    class Order(BaseModel):
        number: int

    try:
        try:
            Order.model_validate({"number": "of-a-payl0ad"})
        except ValueError as error:
            raise RuntimeError("it cannot be read") from error
    except RuntimeError as error:
        report, cause = ErrorReport.of(error), ErrorReport.of(error.__cause__ or error)

    assert cause.text == (
        "number: Input should be a valid integer, unable to parse string as an integer"
    )
    assert "payl0ad" not in cause.trace.replace('"number": "of-a-payl0ad"', "")
    assert "payl0ad" not in report.trace.replace('"number": "of-a-payl0ad"', "")


def test_pika_is_heard_only_where_something_of_its_own_breaks() -> None:
    log = written("text")
    logging.getLogger("pika.connection").error("it says what we say better")

    assert log.lines == []
