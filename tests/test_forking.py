"""A fork opens connections of its own, and never touches those of its parent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attune_mq import Envelope
from attune_mq.message import encode
from tests.children import handed_on
from tests.forking_programs import CHILDREN, MESSAGES
from tests.messaging.bench import QUEUE, Bench, request, topology_of
from tests.waiting import wait_until

DEADLINE_S = 120
"""Against hanging, not a claim about speed."""
WORKERS = 3


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.set_up(topology_of())
    yield bench
    bench.close()


def run(program: str, url: str, folder: str = "") -> list[dict[str, Any]]:
    """What its processes said."""
    command = [sys.executable, "-m", "tests.forking_programs", program, url, folder]
    done = subprocess.run(
        command, env=handed_on(), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(bench: Bench) -> Counter[str]:
    return Counter(str(one.properties.message_id) for one in bench.take_all(QUEUE))


@pytest.mark.parametrize("program", ["publish_in_forks", "publish_by_multiprocessing"])
def test_a_publisher_works_on_in_every_fork_and_each_receipt_is_of_a_message_that_is_there(
    bench: Bench, program: str
) -> None:
    said = run(program, bench.url)

    errors = [error for one in said for error in one.get("errors", ())]
    receipts = [receipt for one in said for receipt in one.get("receipts", ())]
    assert errors == []
    assert len({one["pid"] for one in said if "receipts" in one}) == 1 + CHILDREN
    assert len(receipts) >= (1 + CHILDREN) * MESSAGES
    assert ids(bench) == Counter(receipts)


def test_a_fork_costs_the_parent_no_connection(bench: Bench) -> None:
    assert (
        run("publish_in_forks", bench.url)[-1].items()
        >= {"connections": 1, "unexpected": 0}.items()
    )


def test_a_publisher_that_a_fork_closes_stays_open_in_its_parent(bench: Bench) -> None:
    said = run("close_in_a_fork", bench.url)

    assert [one for one in said if "closed" in one]
    assert [one["errors"] for one in said if "errors" in one] == [[], []]
    assert said[-1]["connections"] == 1


def test_what_a_parent_started_says_so_in_its_fork_and_runs_on(
    bench: Bench, tmp_path: Path
) -> None:
    child, parent = run("use_what_the_parent_started", bench.url, str(tmp_path))

    assert set(child["errors"].values()) == {"ForkedProcess"}
    assert set(child["errors"]) == {"consumer", "service", "health", "relay", "watch"}
    assert not child["verified"]
    assert child["states"] == ["stopped", "stopped"]
    assert child["consumers"] == 2
    assert child["receipt"]
    assert parent["states"] == ["consuming", "consuming"]
    assert parent["consumers"] == 2
    assert parent["phase"] == "running"


def test_a_consumer_that_was_not_started_yet_consumes_in_a_fork(bench: Bench) -> None:
    assert [one["ended"] for one in run("consume_in_forks", bench.url)] == [True, True]


def test_a_private_node_is_its_parents_alone(bench: Bench) -> None:
    child, parent = run("use_a_node_of_the_parent", bench.url)

    assert child["error"] == "ForkedProcess"
    assert parent["running"] is True


def test_the_broker_sees_the_end_of_a_parent_whose_fork_lives_on(bench: Bench) -> None:
    """Else what the parent held would be given to nobody until the heartbeat notices."""
    bench.put(QUEUE, encode(Envelope.of(request(1))))
    command = [
        sys.executable,
        "-m",
        "tests.forking_programs",
        "leave_a_child_behind",
        bench.url,
        "",
    ]
    parent = subprocess.Popen(command, env=handed_on(), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = json.loads(parent.stdout.readline())["child"]
    try:
        parent.wait(DEADLINE_S)
        wait_until(lambda: bench.depth(QUEUE) == 1, "the message is given back", deadline_s=20)
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


@contextmanager
def gunicorn(url: str) -> Iterator[str]:
    """With workers that are forked from a process that has published; where it listens."""
    options = ["--preload", "--workers", str(WORKERS), "--threads", "4", "--bind", "127.0.0.1:0"]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        *options,
        "tests.preloaded_application:application",
    ]
    environment = {**handed_on(), "BROKER_URL": url}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    listening = threading.Event()
    assert process.stderr is not None

    def read(lines: Iterator[str]) -> None:
        for line in lines:
            log.append(line)
            if sum("Booting worker" in one for one in log) == WORKERS:
                listening.set()
        listening.set()

    reader = threading.Thread(target=read, args=(iter(process.stderr),))
    reader.start()
    try:
        assert listening.wait(DEADLINE_S)
        place = re.search(r"Listening at: (\S+)", "".join(log))
        assert place is not None, "".join(log)
        yield place[1]
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        reader.join(DEADLINE_S)


def test_workers_of_gunicorn_with_preload_publish_with_what_they_inherited(bench: Bench) -> None:
    with gunicorn(bench.url) as place, ThreadPoolExecutor(12) as pool:

        def ask(_number: int) -> tuple[str, str]:
            with urllib.request.urlopen(place, timeout=DEADLINE_S) as answer:
                pid, message_id = answer.read().decode().split()
            return pid, message_id

        answers: list[tuple[str, str]] = []
        while len({pid for pid, _ in answers}) < WORKERS:
            answers += pool.map(ask, range(60))
            assert len(answers) < 6_000

    found = ids(bench)
    assert all(found[message_id] == 1 for _, message_id in answers)
    assert found.total() == len(answers) + 1  # with that of the module
    assert str(os.getpid()) not in {pid for pid, _ in answers}
