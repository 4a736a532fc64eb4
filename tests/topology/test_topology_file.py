"""Which file is meant, reading it, and what the shipped one says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attune_mq import expand, load_topology
from attune_mq.topology_file import TopologyFileError

ROOT = Path(__file__).parents[2]


def test_the_shipped_file_says_the_topology_of_the_original_fix() -> None:
    topology = load_topology(ROOT / "topology.yaml", environment={})

    exchanges = {exchange.name: exchange.type for exchange in topology.exchanges.values()}
    assert exchanges == {
        "attune.events": "topic",
        "attune.executions": "direct",
        "attune.notifications": "fanout",
        "attune.dlx": "fanout",
    }
    queues = {key: queue.name for key, queue in topology.queues.items()}
    assert set(queues.values()) == {
        "attune.events.queue",
        "attune.executions.queue",
        "attune.notifications.queue",
    }
    bindings = {
        (topology.exchange_name(b.source), queues[b.destination], b.routing_key)
        for b in topology.bindings
    }
    assert bindings == {
        ("attune.events", "attune.events.queue", "#"),
        ("attune.executions", "attune.executions.queue", "execution"),
        ("attune.notifications", "attune.notifications.queue", ""),
    }
    assert all(e.durable for e in topology.exchanges.values())
    assert all(q.durable for q in topology.queues.values())


def test_of_the_shipped_file_each_main_queue_has_a_dead_letter_queue_of_24_hours() -> None:
    topology = expand(load_topology(ROOT / "topology.yaml", environment={}))

    kept = {q.name: q.ttl_ms for q in topology.queues.values() if q.purpose == "dead_letter"}
    assert kept == {
        "attune.events.queue.dlq": 86_400_000,
        "attune.executions.queue.dlq": 86_400_000,
        "attune.notifications.queue.dlq": 86_400_000,
    }


def test_three_components_compete_on_the_executions_queue_each_with_a_tag_of_its_own() -> None:
    topology = load_topology(ROOT / "topology.yaml", environment={})

    tags = {tag: one.queue for tag, one in topology.consumers.items() if one.service == "executor"}
    assert tags == dict.fromkeys(
        ("executor.enforcement", "executor.scheduler", "executor.manager"), "executions"
    )


def test_without_a_name_the_environment_decides_then_the_folder_then_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named.yaml"
    named.write_text("version: 1\nqueues: {named: {name: named}}\n")
    monkeypatch.chdir(tmp_path)

    assert "executions" in load_topology(environment={}).queues
    (tmp_path / "topology.yaml").write_text("version: 1\nqueues: {here: {name: here}}\n")
    assert list(load_topology(environment={}).queues) == ["here"]
    environment = {"ATTUNE_MQ_TOPOLOGY": str(named)}
    assert list(load_topology(environment=environment).queues) == ["named"]


def test_a_missing_file_is_an_error_that_says_how_to_name_another() -> None:
    with pytest.raises(TopologyFileError, match="found none; name another with --topology"):
        load_topology("nowhere.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TopologyFileError, match="cannot be read: Is a directory"):
        load_topology(tmp_path)


def test_an_unreadable_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text("version: 1")
    file.chmod(0)
    if os.access(file, os.R_OK):  # root reads everything: a device that cannot be read stands in
        file = Path("/proc/self/mem")
    with pytest.raises(TopologyFileError, match="cannot be read"):
        load_topology(file)


def test_a_file_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(TopologyFileError, match=r"topology.yaml:2: expected text in UTF-8.*0xe9"):
        load_topology(file)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\r\nqueues:\r\n  q: {name: q}\r\n")

    topology = load_topology(file)

    assert topology.queues["q"].name == "q"
    assert topology.where("queues", "q").line == 3
