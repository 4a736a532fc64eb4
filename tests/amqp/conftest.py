from __future__ import annotations

from collections.abc import Iterator

import pytest

from attune_mq.amqp.io_loop import IoLoop
from attune_mq.amqp.runtime import SYSTEM
from tests.amqp.simulated import HEARTBEAT_S, MemoryStream, SimulatedTime, User, loop_of


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


@pytest.fixture
def user() -> User:
    return User()


@pytest.fixture
def stream(time: SimulatedTime) -> MemoryStream:
    return MemoryStream(time)


@pytest.fixture
def loop(stream: MemoryStream, time: SimulatedTime, user: User) -> IoLoop:
    return loop_of(stream, time, user, heartbeat_s=HEARTBEAT_S)


@pytest.fixture
def waiting() -> MemoryStream:
    """On which a thread waits for another one."""
    return MemoryStream()


@pytest.fixture
def threaded(waiting: MemoryStream, user: User) -> Iterator[IoLoop]:
    """A loop for several threads."""
    loop = loop_of(waiting, SYSTEM, user)
    yield loop
    loop.close_stream()
