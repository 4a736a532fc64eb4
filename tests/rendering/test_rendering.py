"""Pictures hold all that there is, nothing lies on anything else, and findings are marked."""

from __future__ import annotations

import os
import re
import runpy
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from pydantic import ValidationError

from attune_mq.definitions import import_definitions
from attune_mq.lint import Finding, lint
from attune_mq.rendering import to_dot, to_mermaid, to_svg
from attune_mq.rendering.composing import compose
from attune_mq.rendering.diagram import DEAD, Diagram, EdgeKind
from attune_mq.rendering.layers import Item
from attune_mq.rendering.layout import Layout, lay_out
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from tests.topology.any_topology import topologies

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
DEFINITIONS = sorted((ROOT / "tests" / "definitions" / "fixtures").glob("*.json"))
CORPUS = Path(os.environ.get("ATTUNE_MQ_CORPUS") or ROOT.parent / "shared" / "corpus")
EVERYTHING = """\
version: 1
dead_letter: {exchange: ""}
exchanges:
  in:     {name: in, type: topic, alternate_exchange: lost}
  all:    {name: everywhere, type: fanout}
  one:    {name: loop.one, type: fanout}
  two:    {name: loop.two, type: fanout}
  lost:   {name: lost-and-found, type: headers}
  again:  {name: again, type: direct}
queues:
  orders:  {name: orders, retry: {attempts: 5, backoff: [1s, 10s]}}
  mails:   {name: mails, type: quorum, dead_letter: {to: again, routing_key: later}}
  wait:    {name: mails.wait, ttl: 30s, dead_letter: {to: "", routing_key: mails}}
  replies: {name: "", exclusive: true}
  odd:     {name: "<b>&\\"'{x}", dead_letter: false}
  gone:    {name: gone, dead_letter: false, arguments: {x-dead-letter-exchange: nowhere}}
bindings:
  - {source: in, destination: all, destination_type: exchange, routing_key: "#"}
  - {source: in, destination: orders, routing_keys: [a, b, c, d, e, f, g, h, i, j]}
  - {source: all, destination: mails}
  - {source: lost, destination: odd, arguments: {x-match: any, country: "NO"}}
  - {source: one, destination: two, destination_type: exchange}
  - {source: two, destination: one, destination_type: exchange, routing_key: back}
  - {source: two, destination: two, destination_type: exchange}
  - {source: again, destination: wait, routing_key: later}
  - {source: again, destination: orders, routing_key: orders}
  - {source: in, destination: replies, routing_key: reply}
messages:
  Ordered: {exchange: in, routing_key: a, publishers: [shop, "<office>"]}
  Told: {exchange: "", routing_key: mails, publishers: [shop]}
consumers:
  billing: {service: billing, queue: orders}
  dunning: {service: billing, queue: orders}
families:
  till:
    parameters: [till]
    queues: {q: {name: "till.{till}"}}
    bindings: [{source: in, destination: q, routing_key: "till.{till}"}]
    consumers: {"till-{till}": {service: till, queue: q}}
"""


def file_topology(path: str) -> Topology:
    return parse_topology((ROOT / path).read_text("utf-8"), file=path)


def everything() -> Topology:
    return parse_topology(EVERYTHING, file="everything.yaml")


def imported(path: Path) -> Topology:
    return import_definitions(path.read_bytes()).topology


FILES: dict[str, Callable[[], Topology]] = {
    "shipped": lambda: file_topology("topology.yaml"),
    "later": lambda: file_topology("examples/later-topology.yaml"),
    "everything": everything,
    **{path.stem: partial(imported, path) for path in DEFINITIONS},
}


# what is in a diagram


def edges(diagram: Diagram, kind: EdgeKind) -> set[tuple[str, str]]:
    title = {node_id: node.title for node_id, node in diagram.nodes.items()}
    return {(title[e.source], title[e.target]) for e in diagram.edges if e.kind is kind}


def test_the_picture_of_the_shipped_file_shows_who_publishes_and_who_consumes() -> None:
    diagram = compose(file_topology("topology.yaml"))

    assert ("sensor", "attune.executions") in edges(diagram, EdgeKind.PUBLISH)
    assert ("attune.executions.queue", "executor") in edges(diagram, EdgeKind.CONSUME)
    (executor,) = [n for n in diagram.nodes.values() if "executor.manager" in n.details]
    assert executor.details == ("executor.enforcement", "executor.scheduler", "executor.manager")


def test_only_what_dead_letters_alone_reach_is_in_their_part() -> None:
    diagram = compose(file_topology("topology.yaml"))

    assert {node.title for node in diagram.nodes.values() if node.part == DEAD} == {
        "attune.dlx",
        "attune.dlx.direct",
        "attune.events.queue.dlq",
        "attune.executions.queue.dlq",
        "attune.notifications.queue.dlq",
        "worker.{worker_id}.cancel.dlq",
    }
    assert ("worker.{worker_id}.executions", "attune.executions") in edges(
        diagram, EdgeKind.DEAD_LETTER
    )


def test_a_retry_is_a_way_there_and_a_way_back() -> None:
    diagram = compose(everything())

    assert edges(diagram, EdgeKind.RETRY) == {
        ("orders", "orders.retry.1s"),
        ("orders.retry.1s", "orders"),
        ("orders", "orders.retry.10s"),
        ("orders.retry.10s", "orders"),
    }


def test_an_exchange_that_nobody_declared_is_shown_as_missing() -> None:
    diagram = compose(everything())

    (missing,) = [node for node in diagram.nodes.values() if node.is_missing]
    assert (missing.title, missing.warning_details) == ("nowhere", ("not declared",))


def test_a_message_to_the_default_exchange_leads_to_its_queue() -> None:
    diagram = compose(everything())

    assert ("default exchange", "mails") in edges(diagram, EdgeKind.BINDING)


def test_expanding_first_makes_no_difference() -> None:
    topology = file_topology("examples/later-topology.yaml")

    assert to_svg(expand(topology)) == to_svg(topology)


# where things stand


def items(layout: Layout) -> list[Item]:
    return [item for panel in (layout.main, layout.dead) for item in panel.items]


def boxes(layout: Layout) -> list[Item]:
    return [item for item in items(layout) if item.shape != "bend"]


def overlap(one: Item, other: Item, gap: float = 0.0) -> bool:
    return (
        one.x < other.right + gap
        and other.x < one.right + gap
        and one.y < other.bottom + gap
        and other.y < one.bottom + gap
    )


def assert_nothing_overlaps(layout: Layout) -> None:
    for one, other in combinations(boxes(layout), 2):
        assert not overlap(one, other, gap=4.0), (one, other)
    for item in items(layout):
        assert 0 <= item.x <= item.right <= layout.width
        assert 0 <= item.y <= item.bottom <= layout.height
    assert layout.main.bottom <= layout.dead.top or not layout.dead.nodes


def crossed(layout: Layout) -> Iterator[tuple[Item, tuple[float, float]]]:
    """Boxes through which a way leads that neither begins nor ends there."""
    for detour in layout.detours:
        ends = {detour.edge.source, detour.edge.target}
        for (x1, y1), (x2, y2) in pairwise(detour.points):
            for box in boxes(layout):
                own = (box.node is not None and box.node.id in ends) or box.edge is detour.edge
                inside = (
                    min(x1, x2) < box.right - 1
                    and max(x1, x2) > box.x + 1
                    and min(y1, y2) < box.bottom - 1
                    and max(y1, y2) > box.y + 1
                )
                if inside and not own:
                    yield box, (x1, y1)


def assert_lines_keep_their_distance(layout: Layout) -> None:
    """Within a column a line is level, at the height of its own item, which overlaps no other."""
    for panel in (layout.main, layout.dead):
        for column in panel.columns:
            for upper, lower in pairwise(sorted(column, key=lambda item: item.y)):
                assert upper.bottom <= lower.y + 0.01
    assert list(crossed(layout)) == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_lies_on_anything_else(name: str) -> None:
    topology = FILES[name]()

    layout = lay_out(compose(topology))

    assert_nothing_overlaps(layout)
    assert_lines_keep_their_distance(layout)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_public_projects_are_drawn(path: Path) -> None:
    topology = imported(path)

    layout = lay_out(compose(topology, lint(topology)))

    assert_nothing_overlaps(layout)
    assert_lines_keep_their_distance(layout)


@given(topologies())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_lies_on_anything_else_in_any_picture(topology: Topology) -> None:
    try:
        diagram = compose(topology)
    except ValidationError:  # a name so long that its dead letter queue's is too long
        assume(False)
    layout = lay_out(diagram)

    assert_nothing_overlaps(layout)
    assert_lines_keep_their_distance(layout)
    ET.fromstring(to_svg(topology))
    to_mermaid(topology)
    to_dot(topology)


def test_messages_are_read_from_the_left_to_the_right() -> None:
    layout = lay_out(compose(file_topology("examples/later-topology.yaml")))

    for panel in (layout.main, layout.dead):
        for strand in panel.strands:
            for left, right in pairwise(strand.items):
                assert left.right < right.x


# SVG


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def classes(svg: str) -> set[str]:
    return {
        name for element in ET.fromstring(svg).iter() for name in element.get("class", "").split()
    }


@pytest.mark.parametrize("name", ["shipped", "later"])
def test_every_name_and_every_key_can_be_read(name: str) -> None:
    whole = expand(FILES[name]())

    shown = texts(to_svg(whole))

    for exchange in whole.exchanges.values():
        assert exchange.name in shown
    for queue in whole.queues.values():
        assert not queue.name or queue.name in shown
    for binding in whole.bindings:
        assert not binding.routing_key or binding.routing_key in shown
    for tag in whole.consumers:
        assert tag in shown
    for message_type in whole.messages:
        assert message_type in shown


def test_text_fits_into_its_box() -> None:
    """By the widest of the usual fonts: DejaVu has 0.602 of the size for each character."""
    root = ET.fromstring(to_svg(file_topology("examples/later-topology.yaml")))
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]

    assert len(groups) > 40
    for group in groups:
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        right = float(rect.get("x", 0)) + float(rect.get("width", 0))
        for text in group.findall(f"{SVG}text"):
            if "mono" in text.get("class", ""):
                size = 12.5 if "name" in text.get("class", "") else 11.0
                end = float(text.get("x", 0)) + 0.602 * size * len(text.text or "")
                assert end <= right - 5.0


def test_dead_letters_and_retries_have_colours_of_their_own() -> None:
    assert {"dead-line", "retry-line", "binding-line"} <= classes(to_svg(everything()))
    without = parse_topology("version: 1\nqueues: {q: {name: q}}\n")
    assert not {"dead-line", "retry-line"} & classes(to_svg(without))


def test_the_picture_follows_the_readers_wish_for_light_or_dark_on_its_own_ground() -> None:
    svg = to_svg(everything())

    assert "@media (prefers-color-scheme: dark)" in svg
    first = next(iter(ET.fromstring(svg).iter(f"{SVG}rect")))
    assert first.get("class") == "ground"


def test_the_picture_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    svg = to_svg(everything())

    root = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "style", "rect", "text", "path", "polygon", "circle", "g", "title",
    }  # fmt: skip
    assert svg.count("http") == 1  # the namespace
    assert root.get("aria-label", "").startswith("Message topology with 8 exchanges, 11 queues")


def test_many_keys_are_cut_short_in_the_picture_and_whole_in_the_tooltip() -> None:
    svg = to_svg(everything())

    assert "and 3 more" in texts(svg)
    titles = [element.text for element in ET.fromstring(svg).iter(f"{SVG}title")]
    assert "\n".join("abcdefghij") in titles


def test_the_same_topology_gives_the_same_picture() -> None:
    assert to_svg(everything()) == to_svg(everything())


# findings

FAULTY = """\
version: 1
exchanges:
  dead: {name: dead, type: direct}
queues:
  work: {name: work, dead_letter: {to: dead}}
  rest: {name: rest, ttl: 24h}
bindings:
  - {source: dead, destination: rest, routing_key: "#"}
consumers:
  worker: {service: worker, queue: work}
"""


def findings_of(topology: Topology, rule: str) -> list[Finding]:
    found = [finding for finding in lint(topology) if finding.rule == rule]
    assert found
    return found


def test_a_finding_is_marked_where_it_is_and_told_below() -> None:
    topology = parse_topology(FAULTY, file="faulty.yaml")
    found = findings_of(topology, "wildcard-on-direct-exchange")

    diagram = compose(topology, found)
    svg = to_svg(topology, found)

    assert [edge.labels for edge in diagram.edges if edge.marks] == [("#",)]
    assert [node.title for node in diagram.nodes.values() if node.marks] == []
    assert "mark-error" in classes(svg)
    assert "wildcard-on-direct-exchange" in texts(svg)


def test_a_finding_about_a_queue_marks_the_queue_and_not_what_was_added_for_it() -> None:
    topology = parse_topology(FAULTY.replace("{to: dead}", '{exchange: ""}'), file="faulty.yaml")
    where = topology.where("queues", "work", "dead_letter")
    finding = Finding("some-rule", "warning", where, "something is wrong", "mend it")

    diagram = compose(topology, [finding])

    assert [node.title for node in diagram.nodes.values() if node.marks] == ["work"]


def test_a_finding_in_a_key_with_dots_marks_just_that() -> None:
    topology = parse_topology('version: 1\nqueues: {a: {name: a}, "a.b": {name: b}}\n', file="f")
    finding = Finding("r", "error", topology.where("queues", "a.b", "name"), "wrong", "mend")

    diagram = compose(topology, [finding])

    assert [node.title for node in diagram.nodes.values() if node.marks] == ["b"]


@pytest.mark.parametrize("draw", [to_mermaid, to_dot])
def test_findings_are_told_in_text_pictures_too(draw: Any) -> None:
    topology = parse_topology(FAULTY, file="faulty.yaml")

    text = draw(topology, findings_of(topology, "wildcard-on-direct-exchange"))

    assert "⚠1" in text
    assert "wildcard-on-direct-exchange" in text


# Mermaid and DOT

SMALL = """\
version: 1
exchanges: {orders: {name: orders, type: topic}, dead: {name: dead, type: fanout}}
queues: {work: {name: work, ttl: 5m, dead_letter: {to: dead}}, rest: {name: rest}}
bindings:
  - {source: orders, destination: work, routing_key: "order.*"}
  - {source: dead, destination: rest}
messages: {Ordered: {exchange: orders, routing_key: order.new, publishers: [shop]}}
consumers: {worker: {service: worker, queue: work}}
"""


def test_mermaid_says_the_same_as_the_file() -> None:
    lines = to_mermaid(parse_topology(SMALL)).splitlines()

    assert lines[:19] == [
        "flowchart LR",
        '  exchange_orders{{"<b>orders</b><br/>topic"}}:::exchange',
        '  queue_work[("<b>work</b><br/>ttl 5m")]:::queue',
        '  service_shop(["<b>shop</b>"]):::service',
        '  consumer_worker_of_queue_work("<b>worker</b><br/>worker"):::consumer',
        '  subgraph part1["dead letters"]',
        '    exchange_dead{{"<b>dead</b><br/>fanout"}}:::dead',
        '    queue_rest[("<b>rest</b>")]:::dead',
        "  end",
        "  style part1 fill:none,stroke:#cf222e,stroke-dasharray:5 4",
        '  exchange_orders -->|"order.#42;"| queue_work',
        "  exchange_dead --> queue_rest",
        '  service_shop -->|"Ordered"| exchange_orders',
        "  queue_work --> consumer_worker_of_queue_work",
        "  queue_work -.-> exchange_dead",
        "  classDef service fill:#f6f8fa,stroke:#818b98,color:#1f2328",
        "  classDef exchange fill:#eef2ff,stroke:#6366f1,color:#1f2328",
        "  classDef queue fill:#ecfeff,stroke:#0e7490,color:#1f2328",
        "  classDef consumer fill:#f0fdf4,stroke:#15803d,color:#1f2328",
    ]
    assert lines[-1] == "  linkStyle 1,4 stroke:#cf222e"


def test_mermaid_takes_no_name_for_a_sign_of_its_own() -> None:
    text = to_mermaid(everything())

    assert "<b>#60;b#62;#38;#34;'{x}</b>" in text
    for line in text.splitlines():
        assert line.count('"') % 2 == 0


def test_dot_says_the_same_as_the_file() -> None:
    text = to_dot(parse_topology(SMALL))

    assert text.startswith("digraph topology {\n  rankdir=LR;\n")
    for statement in (
        '"queue work" [label="work\\nttl 5m", fillcolor="#ecfeff", color="#0e7490", '
        'style="filled"];',
        '"exchange orders" -> "queue work" [color="#6366f1", label="order.*"];',
        '"queue work" -> "exchange dead" [color="#cf222e", constraint=false];',
        '"exchange dead" -> "queue rest" [color="#cf222e"];',
    ):
        assert f"  {statement}\n" in text


def test_dot_quotes_whatever_a_name_holds() -> None:
    topology = parse_topology('version: 1\nqueues: {q: {name: "a\\\\N\\"b\\nc"}}\n')

    statement = next(line for line in to_dot(topology).splitlines() if "label=" in line)

    assert 'label="a\\\\N\\"b·c"' in statement
    assert len(re.findall(r'(?<!\\)"', statement)) % 2 == 0


# the documentation


def test_the_pictures_and_the_schema_of_the_documentation_are_current() -> None:
    outdated = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))["outdated"]

    assert outdated() == [], "make pictures"
