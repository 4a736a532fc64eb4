"""A function whose body does not run when it is called is never taken for one that has run."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sqlite3
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from attune_mq.consuming.handlers import Handlers
from attune_mq.dead_letters.operations import replay_dead_letters
from attune_mq.errors import NotSynchronous
from attune_mq.health.server import HealthServer
from attune_mq.message.delivery import Delivery, Message
from attune_mq.message.envelope import Envelope
from attune_mq.message.settlement import Failed, Outcome, Unavailable
from attune_mq.message.telemetry import Telemetries, Telemetry
from attune_mq.migration.migrating import migrate
from attune_mq.payloads import ExecutionRequested
from attune_mq.service import Service
from attune_mq.testing import Acknowledge, DeadLetter, TryAgain, deliver
from attune_mq.topology.model import Topology
from tests.messaging.bench import CLOSED_URL, DEAD, QUEUE, Bench, request, topology_of
from tests.messaging.deliveries import delivery

REQUEST = request(1)
AnyCallable = Callable[..., Any]


async def coroutine(*_: Any) -> bool:
    return True


def generator(*_: Any) -> Iterator[bool]:
    yield True


async def asynchronous_generator(*_: Any) -> AsyncIterator[bool]:
    yield True


class Handler:
    async def method(self, _message: Message[Any]) -> None: ...

    @classmethod
    async def of_class(cls, _message: Message[Any]) -> None: ...

    @staticmethod
    def static(_message: Message[Any]) -> Iterator[None]:
        yield

    def plain(self, _message: Message[Any]) -> None: ...


class Called:
    async def __call__(self, _message: Message[Any]) -> None: ...


class Generating:
    def __call__(self, _message: Message[Any]) -> Iterator[None]:
        yield


NEVER_RUN: dict[str, Any] = {
    "coroutine function": coroutine,
    "generator function": generator,
    "asynchronous generator function": asynchronous_generator,
    "partial": functools.partial(coroutine),
    "partial of a partial": functools.partial(functools.partial(generator, 1), 2),
    "partial of an object": functools.partial(Called()),
    "method": Handler().method,
    "class method": Handler.of_class,
    "static method": Handler.static,
    "object": Called(),
    "object that generates": Generating(),
    "method of an object": Called().__call__,
    "class": Called,
    "mock": AsyncMock(),
    "nothing to call": None,
}
never_run = pytest.mark.parametrize("function", NEVER_RUN.values(), ids=NEVER_RUN)


@never_run
def test_a_handler_whose_body_would_not_run_is_refused_when_it_is_registered(function: Any) -> None:
    handlers = Handlers()

    with pytest.raises(NotSynchronous, match="handler for ExecutionRequested: expected a plain"):
        handlers.on(ExecutionRequested)(function)

    assert handlers.message_types == frozenset()


@never_run
def test_a_probe_or_a_sign_whose_body_would_not_run_is_refused(function: Any) -> None:
    if function is not None:
        with pytest.raises(NotSynchronous, match="probe of database"):
            Handlers().depends_on("database", ValueError, probe=function)
    with pytest.raises(NotSynchronous, match="sign of database"):
        Handlers().depends_on("database", function)


def passing_on(function: AnyCallable) -> AnyCallable:
    """A decorator that knows nothing of coroutines."""

    @functools.wraps(function)
    def pass_on(*args: Any) -> Any:
        return function(*args)

    return pass_on


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


def future_of_asyncio() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


RETURNED: dict[str, AnyCallable] = {
    "a coroutine": passing_on(coroutine),
    "a generator": passing_on(generator),
    "an asynchronous generator": passing_on(asynchronous_generator),
    "a coroutine of a lambda": lambda message: coroutine(message),
    "an awaitable object": lambda _: Awaitable(),
    "a future of asyncio": lambda _: future_of_asyncio(),
    "a future": lambda _: Future(),
    "coroutines": lambda message: [coroutine(message), coroutine(message)],
    "a map": lambda message: map(coroutine, [message]),
    "a lazy chain": lambda message: itertools.chain([message]),
    "a context manager": contextmanager(generator),
    "an asynchronous context manager": asynccontextmanager(asynchronous_generator),
    "a function": lambda _: coroutine,
    "a method": lambda _: Handler().plain,
    "a partial": lambda message: functools.partial(generator, message),
}
returned = pytest.mark.parametrize("function", RETURNED.values(), ids=RETURNED)


def handling(function: AnyCallable) -> Handlers:
    handlers = Handlers()
    handlers.on(ExecutionRequested)(function)
    return handlers


@returned
def test_what_shows_that_nothing_ran_is_a_failure_of_the_attempt(function: AnyCallable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "was never awaited"
        first = deliver(handling(function), REQUEST)
        last = deliver(handling(function), REQUEST, attempt=3)

    assert isinstance(first, TryAgain)
    assert isinstance(last, DeadLetter)
    for settlement in (first, last):
        assert settlement.error.type == "attune_mq.errors.NotSynchronous"
        assert "the handler returned a" in settlement.error.text


RAN: dict[str, AnyCallable] = {
    "nothing": lambda _: None,
    "a value": lambda _: {"rows": [1, 2]},
    "no values": lambda _: [],
    "rows": lambda _: [(1, "a"), (2, "b")],
    "a cursor": lambda _: sqlite3.connect(":memory:").execute("SELECT 1"),
    "a mock": MagicMock(),
    "a class of what it made": lambda _: ValueError,
    "a wrapper that runs its coroutine": functools.wraps(coroutine)(
        lambda message: asyncio.run(coroutine(message))
    ),
    "a method": Handler().plain,
    "a partial": functools.partial(Handler.plain, Handler()),
}


@pytest.mark.parametrize("function", RAN.values(), ids=RAN)
def test_a_handler_that_has_run_may_return_what_it_likes(function: AnyCallable) -> None:
    assert deliver(handling(function), REQUEST) == Acknowledge()


@returned
def test_a_probe_that_has_not_probed_leaves_the_dependency_away(function: AnyCallable) -> None:
    handlers = Handlers()
    handlers.depends_on("database", ValueError, probe=lambda: function(None))

    away = handlers.still_away("database")

    assert isinstance(away, Unavailable)
    assert away.error.type == "attune_mq.errors.NotSynchronous"


def test_a_sign_that_did_not_run_says_nothing_of_an_error() -> None:
    """A coroutine is true: each failing message would be held for ever."""

    def fail(_message: Message[Any]) -> None:
        raise ValueError("no")

    handlers = handling(fail)
    handlers.depends_on("database", lambda error: coroutine(error))  # type: ignore[arg-type, return-value]

    assert isinstance(deliver(handlers, REQUEST), TryAgain)


def test_a_message_whose_handler_returned_a_coroutine_is_dead_lettered(bench: Bench) -> None:
    service = Service("tests", topology_of(retry="{attempts: 1}"), bench.url)
    service.on(ExecutionRequested)(lambda message: coroutine(message))  # type: ignore[arg-type]
    service.start()
    try:
        service.publisher.publish(REQUEST)
        bench.wait_for_depth(DEAD, 1)
    finally:
        service.stop(5)

    assert bench.depth(QUEUE) == 0
    assert [one.handled for one in service.consumers] == [0]


# What else is given to be called.


def test_a_class_whose_claims_would_not_run_has_no_handler() -> None:
    class Claiming(ExecutionRequested):
        @classmethod
        async def claims(cls, data: Mapping[str, object]) -> bool:  # type: ignore[override]
            return False

    with pytest.raises(NotSynchronous, match="claims of Claiming"):
        Handlers().on(Claiming)(lambda _: None)


class Listening(Telemetry):
    async def handled(  # type: ignore[override]
        self, delivery: Delivery, envelope: Envelope, outcome: Outcome, seconds: float
    ) -> None: ...


def test_telemetry_that_would_not_run_is_refused() -> None:
    with pytest.raises(NotSynchronous, match=r"Listening\.handled"):
        Telemetries([Listening()])


class Beside:
    async def start(self) -> None: ...

    def stop(self, deadline_s: float) -> None: ...


class StoppingBeside:
    def start(self) -> None: ...

    async def stop(self, deadline_s: float) -> None: ...


@pytest.mark.parametrize(("beside", "named"), [(Beside(), "start"), (StoppingBeside(), "stop")])
def test_what_would_not_run_beside_a_service_is_refused(
    topology: Topology, beside: Any, named: str
) -> None:
    service = Service("tests", topology, CLOSED_URL)

    with pytest.raises(NotSynchronous, match=f"{named} of"):
        service.add_background_task(beside)


class StartingLater:
    def start(self) -> Any:
        return coroutine()

    def stop(self, deadline_s: float) -> None: ...


def test_a_service_does_not_run_whose_background_did_not_start(
    broker_url: str, topology: Topology
) -> None:
    service = Service("tests", topology, broker_url)
    service.add_background_task(StartingLater())

    with pytest.raises(NotSynchronous, match="start of StartingLater returned an awaitable"):
        service.start()

    assert service.phase == "stopped"


def test_what_would_not_tell_of_its_trouble_is_not_watched(topology: Topology) -> None:
    health = HealthServer(Service("tests", topology, CLOSED_URL))

    with pytest.raises(NotSynchronous, match="watch of billing API"):
        health.watch("billing API", coroutine)  # type: ignore[arg-type]
    with pytest.raises(NotSynchronous, match="report of billing API"):
        health.report("billing API", coroutine)


@pytest.mark.parametrize("given", ["matching", "on_survey", "on_progress"])
def test_a_replay_is_refused_whose_callback_would_not_run(topology: Topology, given: str) -> None:
    """A coroutine is true: every dead letter would match."""
    with pytest.raises(NotSynchronous, match=given):
        replay_dead_letters(DEAD, topology, CLOSED_URL, **{given: coroutine})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["on_plan", "on_progress"])
def test_a_migration_is_refused_whose_callback_would_not_run(
    topology: Topology, given: str
) -> None:
    with pytest.raises(NotSynchronous, match=given):
        migrate(topology, CLOSED_URL, **{given: coroutine})  # type: ignore[arg-type]


def test_the_outcome_of_a_handler_that_did_not_run_is_a_failure() -> None:
    outcome = handling(RETURNED["a coroutine"]).handle(delivery())

    assert isinstance(outcome, Failed)
