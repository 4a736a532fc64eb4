"""The least permissions of a service, as patterns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attune_mq.topology.acl import NOTHING, Permissions, acl
from attune_mq.topology.families import literal
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import UnknownName
from attune_mq.topology_file import load_topology

SHIPPED = load_topology(Path(__file__).parents[2] / "topology.yaml", environment={})


def names(pattern: str) -> list[str]:
    """The names that a pattern of names alone stands for."""
    assert pattern.startswith("^(")
    assert pattern.endswith(")$")
    return [name.replace("\\", "") for name in pattern[2:-2].split("|")]


def permissions(text: str, *, verify: bool = False) -> Permissions:
    return acl(parse_topology(f"version: 1\n{text}"), "s", verify=verify)


def test_who_only_publishes_configures_and_writes_the_exchanges() -> None:
    needed = acl(SHIPPED, "sensor")

    assert needed.configure == needed.write == r"^(attune\.events|attune\.executions)$"
    assert needed.read == NOTHING


def test_who_consumes_needs_its_queue_and_its_dead_letters_and_nothing_of_others() -> None:
    needed = acl(SHIPPED, "notifier")

    assert names(needed.configure) == [
        "attune.dlx",
        "attune.dlx.direct",
        "attune.notifications",
        "attune.notifications.queue",
        "attune.notifications.queue.dlq",
    ]
    assert names(needed.write) == [
        "amq.default",
        "attune.dlx",
        "attune.dlx.direct",
        "attune.notifications.queue",
        "attune.notifications.queue.dlq",
    ]
    assert names(needed.read) == [
        "attune.dlx",
        "attune.dlx.direct",
        "attune.notifications",
        "attune.notifications.queue",
    ]


def test_who_only_verifies_configures_and_binds_nothing() -> None:
    needed = acl(SHIPPED, "notifier", verify=True, version="4.0")

    assert needed.configure == NOTHING
    assert names(needed.write) == ["amq.default", "attune.dlx"]
    assert names(needed.read) == ["attune.notifications.queue"]


@pytest.mark.parametrize("version", ["4.3.6", None])
def test_where_looking_needs_a_permission_it_is_read(version: str | None) -> None:
    needed = acl(SHIPPED, "notifier", verify=True, version=version)

    assert names(needed.read) == [
        "attune.dlx.direct",
        "attune.notifications",
        "attune.notifications.queue",
        "attune.notifications.queue.dlq",
    ]


def test_the_version_that_the_file_expects_counts() -> None:
    text = """\
broker: {version: "3.10"}
exchanges: {x: {name: x, type: direct}}
queues: {q: {name: q}}
bindings: [{source: x, destination: q}]
consumers: {t: {service: s, queue: q}}
"""
    assert permissions(text, verify=True).read == "^(q)$"


def test_a_parameter_of_a_family_stands_for_one_word() -> None:
    needed = acl(SHIPPED, "worker")

    assert re.match(needed.configure, "worker.7.executions")
    assert re.match(needed.configure, "worker.a-b.cancel.dlq")
    for name in ("worker.7.8.executions", "worker..executions", "worker.7.executions.other"):
        assert not re.match(needed.configure, name)


def test_who_publishes_to_a_family_does_not_configure_its_queues() -> None:
    needed = acl(SHIPPED, "executor")

    assert not re.match(needed.configure, "worker.7.executions")
    assert not re.match(needed.read, "worker.7.executions")


@pytest.mark.parametrize("verify", [False, True])
def test_where_looking_needs_a_permission_who_publishes_to_a_family_writes_to_its_queues(
    verify: bool,
) -> None:
    later = acl(SHIPPED, "executor", version="4.3.6", verify=verify)
    before = acl(SHIPPED, "executor", version="4.0.5", verify=verify)

    for queue in ("worker.7.executions", "worker.7.cancel"):
        assert re.match(later.write, queue)
        assert not re.match(later.read, queue)
        assert not re.match(before.write, queue)
    assert not re.match(later.write, "worker.7.executions.dlq")


def test_an_alternate_exchange_is_read_from_and_written_to() -> None:
    needed = permissions("""\
exchanges:
  x: {name: x, type: direct, alternate_exchange: lost}
  lost: {name: lost, type: fanout}
messages: {ExecutionRequested: {exchange: x, publishers: [s]}}
""")
    assert names(needed.configure) == ["lost", "x"]
    assert names(needed.write) == ["lost", "x"]
    assert names(needed.read) == ["x"]


def test_dead_letters_by_the_default_exchange_are_written_to_it() -> None:
    needed = permissions("""\
dead_letter: {exchange: ""}
queues: {q: {name: q}}
consumers: {t: {service: s, queue: q}}
""")
    assert names(needed.configure) == ["q", "q.dlq"]
    assert names(needed.write) == ["amq.default"]
    assert names(needed.read) == ["q"]


def test_a_queue_that_the_server_names_is_one_of_its_pattern() -> None:
    needed = permissions("""\
exchanges: {x: {name: x, type: topic}}
queues: {own: {name: "", exclusive: true, auto_delete: true}}
bindings: [{source: x, destination: own, routing_keys: [a, b]}]
consumers: {t: {service: s, queue: own}}
""")
    for pattern in (needed.configure, needed.write, needed.read):
        assert re.match(pattern, "amq.gen-JzTY20BRgKO-HjmUJj0wLg")
        assert not re.match(pattern, "amq.topic")
    assert re.match(needed.read, "x")


def test_retry_queues_are_set_up_by_who_consumes() -> None:
    needed = permissions("""\
queues: {q: {name: q, retry: {backoff: [1s, 10s]}}}
consumers: {t: {service: s, queue: q}}
""")
    assert names(needed.configure) == ["q", "q.retry.10s", "q.retry.1s"]
    assert names(needed.read) == ["q", "q.retry.10s", "q.retry.1s"]


@pytest.mark.parametrize("name", ["a.b", "a|b", "^a$", "a(b)[c]{d}", "a\\b", "a*b+c?", "a b-#é/"])
def test_names_are_taken_literally(name: str) -> None:
    assert re.fullmatch(literal(name), name)
    assert not re.fullmatch(literal(name), "axb")


def test_patterns_are_anchored() -> None:
    pattern = acl(SHIPPED, "sensor").configure
    assert re.search(pattern, "attune.events")
    for other in ("attune.events.queue", "my.attune.events", "attuneXevents"):
        assert not re.search(pattern, other)


def test_every_need_says_what_asks_for_it() -> None:
    whys = {need.why for need in acl(SHIPPED, "executor").needs}

    assert {
        "publishes NotificationCreated",
        "consumes as executor.manager",
        "dead-letters what executor.scheduler gives up",
        "binds attune.executions -> attune.executions.queue [execution]",
    } <= whys


def test_a_service_of_which_the_file_does_not_speak_is_an_error() -> None:
    with pytest.raises(UnknownName, match="expected a service of the file"):
        acl(SHIPPED, "exekutor")
