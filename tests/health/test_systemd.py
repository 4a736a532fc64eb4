"""What systemd is told, on a real socket of its kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from attune_mq.consuming.consumer import Consumer
from attune_mq.consuming.handlers import Handlers
from attune_mq.health.monitor import Monitor
from attune_mq.health.systemd import Notifier, NotifySocket
from attune_mq.payloads import ExecutionRequested
from attune_mq.service import Service
from attune_mq.topology.model import Topology
from tests.messaging.bench import CLOSED_URL, Bench


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def environment_of(systemd: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), **more}


def hear(systemd: socket.socket, line: str) -> list[str]:
    """All lines up to this one, which comes."""
    heard: list[str] = []
    while line not in heard:
        heard += systemd.recv(4096).decode().split("\n")
    return heard


def test_systemd_hears_of_the_start_of_the_loops_and_of_the_end(
    systemd: socket.socket, bench: Bench, topology: Topology
) -> None:
    service = Service("tests", topology, bench.url)
    service.on(ExecutionRequested)(lambda _: None)
    monitor = Monitor(service)
    watchdog = {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(monitor, environment_of(systemd, **watchdog))
    monitor.start()
    notifier.start()
    try:
        before = hear(systemd, "WATCHDOG=1")
        assert any(line.startswith("STATUS=service: it is starting") for line in before)
        assert "READY=1" not in before
        service.start()
        hear(systemd, "READY=1")
        hear(systemd, "WATCHDOG=1")
        service.stop(2)
        assert "READY=1" not in hear(systemd, "STOPPING=1")
    finally:
        notifier.stop()
        monitor.stop()


def test_a_loop_that_is_dead_is_not_vouched_for(topology: Topology, systemd: socket.socket) -> None:
    service = Service("tests", topology, CLOSED_URL)
    service.phase = "running"
    monitor = Monitor(service)
    notifier = Notifier(monitor, environment_of(systemd, WATCHDOG_USEC="300000"))
    assert "WATCHDOG=1" in notifier._news()

    service._consumers.append(ended_consumer(topology))

    assert "WATCHDOG=1" not in notifier._news()


def ended_consumer(topology: Topology) -> Consumer:
    consumer = Consumer(topology, "worker", Handlers(), CLOSED_URL)
    consumer.start()
    consumer.stop(0)
    assert consumer.join(30)
    return consumer


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_the_watchdog_is_ours_to_feed_only_if_it_watches_us(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    assert NotifySocket(environment).watchdog_s == watchdog_s


def test_without_systemd_nobody_is_told() -> None:
    assert not NotifySocket({}).is_there


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0attune-test-{os.getpid()}")
        listening.settimeout(30)
        NotifySocket({"NOTIFY_SOCKET": f"@attune-test-{os.getpid()}"}).send("READY=1")

        assert listening.recv(100) == b"READY=1"


def test_a_supervisor_that_is_away_is_no_reason_to_stop(tmp_path: Path) -> None:
    NotifySocket({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")
