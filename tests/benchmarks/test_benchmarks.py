"""That the benchmarks run, at a size at which they measure nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attune_mq.broker import EmbeddedBroker
from benchmarks import broker as bench_broker
from benchmarks.clients.__main__ import client
from benchmarks.clients.measuring import BODY_BYTES, PlainEnvelope, Task, body
from benchmarks.drawing import svg
from benchmarks.results import Ratio, Section, interleave, table

COUNT = 40


def test_every_message_has_the_same_size() -> None:
    assert {len(body(number)) for number in (0, 9, 12_345)} == {BODY_BYTES}
    assert PlainEnvelope.model_validate_json(body(7)).payload.enforcement_id == 7


@pytest.mark.parametrize("name", ["attune", "pika", "pika-ack-32"])
def test_a_client_that_consumes_takes_every_message(broker: EmbeddedBroker, name: str) -> None:
    with broker.fresh_vhost() as url:
        bench_broker.make_queue(url)
        bench_broker.fill(url, COUNT)
        timing = client(name)(Task(url, bench_broker.QUEUE, COUNT, COUNT))
        bench_broker.wait_for_depth(url, 0)
    assert timing.messages == COUNT


@pytest.mark.parametrize(
    ("name", "more"),
    [("attune-many", 1), ("attune-one-by-one", 1), ("attune-8-threads", 1), ("pika-confirm", 0),
     ("pika-unconfirmed", 0), ("pika-select-500", 0)],
)  # fmt: skip
def test_a_client_that_publishes_fills_the_queue(
    broker: EmbeddedBroker, name: str, more: int
) -> None:
    """Ours publish one message more, before the clock runs."""
    with broker.fresh_vhost() as url:
        bench_broker.make_queue(url)
        client(name)(Task(url, bench_broker.QUEUE, COUNT, 0))
        bench_broker.wait_for_depth(url, COUNT + more)


def test_a_peer_that_fails_is_noted_and_the_others_go_on() -> None:
    def fails() -> float:
        raise RuntimeError("not installed")

    section = interleave(Section("s", "S", "messages/s"), 2, {"a": lambda: 1.0, "b": fails})

    assert section.series == {"a": [1.0, 1.0]}
    assert section.notes == ["b failed: not installed"]


def test_a_table_says_which_ratios_are_reached() -> None:
    section = Section("s", "S", "messages/s", {"a": [30.0, 10.0, 20.0], "b": [10.0]})
    section.ratios = [Ratio("a", "b", at_least=1.7), Ratio("a", "b", at_most=1.2)]
    section.ratios.append(Ratio("a", "not measured", at_least=1.0))

    assert "| a : b | ≥ 1.7 | 2.00 | reached |" in table(section)
    assert "| a : b | ≤ 1.2 | 2.00 | **not reached** |" in table(section)
    assert [one["found"] for one in section.as_json()["ratios"]] == [2.0, 2.0]
    assert svg([section]).count("<rect") == 3


def test_what_the_page_shows_is_what_was_measured() -> None:
    root = Path(__file__).parents[2]
    results = json.loads((root / "benchmarks" / "results.json").read_text())
    page = (root / "docs" / "performance.md").read_text()
    for section in results["sections"]:
        assert f"### {section['title']}" in page
