"""The endpoints, as a probe sees them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from attune_mq import HealthServer, InvalidInput, Service, ask_health
from attune_mq.payloads import ExecutionRequested
from attune_mq.topology.model import Topology
from tests.messaging.bench import CLOSED_URL, Bench
from tests.waiting import wait_until

PASSWORD = "planted-hunter2"


@pytest.fixture
def running(bench: Bench, topology: Topology) -> Iterator[HealthServer]:
    service = Service("tests", topology, bench.url, instance="one")
    service.on(ExecutionRequested)(lambda _: None)
    with HealthServer(service, port=0) as health:
        service.start()
        yield health
        service.stop(2)


@pytest.fixture
def waiting(topology: Topology) -> Iterator[HealthServer]:
    """Of a service that has not started, whose broker is not there."""
    url = CLOSED_URL.replace("guest:guest", f"guest:{PASSWORD}")
    with HealthServer(Service("tests", topology, url), port=0) as health:
        yield health


def get(health: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", health.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if body else {}


def test_a_service_that_consumes_is_ready(running: HealthServer) -> None:
    wait_until(lambda: get(running, "/readyz")[0] == 200, "ready")

    _, body = get(running, "/readyz")

    assert body == {
        "ok": True,
        "troubles": [],
        "warnings": [],
        "checks": ["service", "consumer worker@one", "publisher", "topology"],
    }
    assert get(running, "/readyz", "HEAD") == (200, {})
    assert get(running, "/livez") == (
        200,
        {"ok": True, "troubles": [], "warnings": [], "checks": ["consumer worker@one"]},
    )


def test_one_that_is_not_ready_says_what_is_wrong_and_since_when(waiting: HealthServer) -> None:
    first = get(waiting, "/readyz")
    status, body = get(waiting, "/readyz")

    assert (first[0], status) == (503, 503)
    assert body["troubles"][0]["check"] == "service"
    assert body["troubles"][0]["why"] == "it is starting"
    assert body["troubles"][0]["since"] == first[1]["troubles"][0]["since"]
    assert get(waiting, "/livez")[0] == 200


def test_a_service_can_make_its_readiness_depend_on_more(waiting: HealthServer) -> None:
    waiting.watch("billing API", lambda: "it does not answer")
    waiting.watch("a check with a defect", lambda: str(1 / 0))

    whys = {one["check"]: one["why"] for one in get(waiting, "/readyz")[1]["troubles"]}

    assert whys["billing API"] == "it does not answer"
    assert whys["a check with a defect"] == "the check failed: ZeroDivisionError"


def test_the_status_has_everything_and_no_password(
    running: HealthServer, waiting: HealthServer
) -> None:
    running.report("outbox", lambda: {"messages": 3})
    wait_until(lambda: get(running, "/readyz")[0] == 200, "ready")

    status, body = get(running, "/status")

    assert status == 200
    assert body["service"] == "tests"
    assert body["outbox"] == {"messages": 3}
    [consumer] = body["consumers"]
    assert consumer["tag"] == "worker@one"
    assert consumer["queue"] == "work.queue"
    assert consumer["broker_answered_ago_s"] < 60
    assert PASSWORD not in json.dumps(get(waiting, "/status"))
    assert PASSWORD not in json.dumps(get(waiting, "/readyz"))


def test_metrics_are_there_where_somebody_gives_them(topology: Topology) -> None:
    service = Service("tests", topology, CLOSED_URL)
    with HealthServer(service, port=0) as without:
        assert get(without, "/metrics")[0] == 404
    with HealthServer(service, port=0, metrics=lambda: ("text/plain", b'{"up": 1}')) as health:
        assert get(health, "/metrics") == (200, {"up": 1})


def test_other_paths_say_which_there_are(waiting: HealthServer) -> None:
    status, body = get(waiting, "/health")

    assert status == 404
    assert "/readyz" in body["paths"]


def test_only_this_machine_is_answered_unless_said_otherwise(waiting: HealthServer) -> None:
    assert waiting._server is not None
    assert waiting._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(
    topology: Topology, waiting: HealthServer
) -> None:
    other = HealthServer(Service("tests", topology, CLOSED_URL), port=waiting.port)

    with pytest.raises(InvalidInput, match=rf"port {waiting.port} .* taken.*0 for none"):
        other.start()


def test_an_address_of_another_machine_is_refused(topology: Topology) -> None:
    other = HealthServer(Service("tests", topology, CLOSED_URL), host="192.0.2.1", port=0)

    with pytest.raises(InvalidInput, match="expected an address of this machine"):
        other.start()


def test_a_client_that_says_nothing_keeps_nobody_waiting(waiting: HealthServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", waiting.port)) for _ in range(20)]

    assert get(waiting, "/livez")[0] == 200
    for one in silent:
        one.close()


def test_asking_tells_good_from_bad_and_from_nobody(
    running: HealthServer, waiting: HealthServer
) -> None:
    wait_until(lambda: ask_health(f"http://127.0.0.1:{running.port}/readyz").is_good, "ready")

    bad = ask_health(f"http://127.0.0.1:{waiting.port}/readyz")
    nobody = ask_health("http://127.0.0.1:1/readyz")
    other = ask_health(f"http://127.0.0.1:{waiting.port}/elsewhere")

    assert not bad.is_good
    assert bad.lines[0].startswith("service: it is starting (for ")
    assert not nobody.is_good
    assert "does not answer" in nobody.lines[0]
    assert not other.is_good
    with pytest.raises(InvalidInput, match="expected a URL"):
        ask_health("localhost:8090")
