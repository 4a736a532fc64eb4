"""``setup``: each object of the file is in one list, and none is called what was not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, assume, given, settings
from pika.adapters.blocking_connection import BlockingChannel
from pika.compat import long

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import MIGRATION_MARK, ingress_name
from attune_mq.broker.plan import make_plan, observe
from attune_mq.broker.report import MissingInfrastructure, SetupReport
from attune_mq.cli.plan import as_json as plan_as_json
from attune_mq.cli.setup import as_json
from attune_mq.topology.declarations import declarations
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from tests.administration import Administration, url_for
from tests.cli.running import Ran, Run, runner
from tests.topology.any_topology import topologies

# What happens to an object is in its name.
MIXED = """\
version: 1
exchanges:
  new:      {name: x.new, type: topic}
  equal:    {name: x.equal, type: topic}
  other:    {name: x.different, type: topic}
  odd:      {name: x.invalid, type: x-no-such-type}
  reserved: {name: amq.invalid, type: topic}
  foo:      {name: x.uncompared, type: topic, arguments: {x-foo: 1}}
queues:
  new:      {name: q.new}
  equal:    {name: q.equal, ttl: 5m, dead_letter: false}
  other:    {name: q.different, max_length: 1}
  odd:      {name: q.invalid, arguments: {x-overflow: x}}
  foo:      {name: q.uncompared, arguments: {x-foo: 1}}
  migrated: {name: q.migrated}
bindings:
  - {source: equal, destination: new, routing_key: created}
  - {source: new, destination: equal, routing_key: created}
  - {source: equal, destination: equal, routing_key: there}
  - {source: equal, destination: equal, routing_key: not.there}
  - {source: equal, destination: other, destination_type: exchange, routing_key: not.there}
  - {source: equal, destination: odd, routing_key: queue.invalid}
  - {source: odd, destination: equal, routing_key: exchange.invalid}
  - {source: reserved, destination: equal, routing_key: exchange.invalid}
  - {source: equal, destination: migrated, routing_key: migrated}
"""
INVALID = {
    "version": "version: 1\n",
    "invalid": "  odd: {name: q.invalid, arguments: {x-overflow: x}}\n",
    "different": "  other: {name: q.different, max_length: 1}\n",
    "equal": "  equal: {name: q.equal, ttl: 5m, dead_letter: false}\n",
}


@pytest.fixture
def channel(broker_url: str) -> Iterator[BlockingChannel]:
    """Of a virtual host that has some of it."""
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    channel = connection.channel()
    channel.exchange_declare("x.equal", "topic", durable=True)
    channel.exchange_declare("x.different", "direct", durable=True)
    channel.exchange_declare("x.uncompared", "topic", durable=True)
    channel.queue_declare("q.equal", durable=True, arguments={"x-message-ttl": 300_000})
    channel.queue_declare("q.different", durable=True)
    channel.queue_declare("q.uncompared", durable=True)
    channel.queue_declare("q.migrated", durable=True)
    channel.queue_bind("q.equal", "x.equal", "there")
    yield channel
    connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(MIXED)
    return path


@pytest.fixture
def by_amqp(file: Path, broker_url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", str(file), "--url", broker_url)


@pytest.fixture
def by_management(
    file: Path, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> Run:
    api = broker.management_url or ""
    return runner(capsys, "--topology", str(file), "--url", broker_url, "--management-url", api)


def lists_of(ran: Ran) -> dict[str, str]:
    """In which list each object is: in one, and in one only."""
    found: dict[str, str] = {}
    for name, objects in ran.json.items():
        for one in objects:
            key = f"{one['kind']} {one['name']}"
            assert key not in found, f"{key} is in {found[key]} and in {name}"
            found[key] = name
    assert set(found) == {
        f"{one.kind} {one.name}" for one in declarations(expand(parse_topology(MIXED)))
    }
    return found


def of_kind(lists: dict[str, str], kind: str) -> dict[str, str]:
    start = f"{kind} "
    return {key.removeprefix(start): name for key, name in lists.items() if key.startswith(start)}


OBJECTS = {
    "exchange x.new": "created",
    "exchange x.equal": "unchanged",
    "exchange x.different": "conflicts",
    "exchange x.invalid": "invalid",
    "exchange amq.invalid": "invalid",
    "exchange x.uncompared": "unknown",
    "queue q.new": "created",
    "queue q.equal": "unchanged",
    "queue q.different": "conflicts",
    "queue q.invalid": "invalid",
    "queue q.uncompared": "unknown",
    "queue q.migrated": "unchanged",
}
BINDINGS = {
    "x.equal -> q.new [created]": "created",
    "x.new -> q.equal [created]": "created",
    "x.equal -> q.equal [there]": "ensured",
    "x.equal -> q.equal [not.there]": "ensured",
    "x.equal -> x.different [not.there]": "ensured",
    "x.equal -> q.invalid [queue.invalid]": "missing",
    "x.invalid -> q.equal [exchange.invalid]": "missing",
    "amq.invalid -> q.equal [exchange.invalid]": "missing",
    "x.equal -> q.migrated [migrated]": "ensured",
}


@pytest.mark.usefixtures("channel")
def test_over_amqp_a_binding_that_was_agreed_to_is_ensured(by_amqp: Run) -> None:
    lists = lists_of(by_amqp("setup", "--format", "json"))

    assert {key: name for key, name in lists.items() if not key.startswith("binding")} == OBJECTS
    assert of_kind(lists, "binding") == BINDINGS


@pytest.mark.usefixtures("channel")
def test_with_the_http_api_it_is_known_whether_a_binding_was_there(by_management: Run) -> None:
    lists = lists_of(by_management("setup", "--format", "json"))

    assert of_kind(lists, "binding") == BINDINGS | {
        "x.equal -> q.equal [there]": "unchanged",
        "x.equal -> q.equal [not.there]": "created",
        "x.equal -> x.different [not.there]": "created",
        "x.equal -> q.migrated [migrated]": "created",
    }


@pytest.mark.usefixtures("channel")
def test_verify_calls_unchanged_what_it_compared_and_nothing_else(
    by_amqp: Run, by_management: Run
) -> None:
    over_amqp = lists_of(by_amqp("setup", "--verify", "--format", "json"))
    over_http = lists_of(by_management("setup", "--verify", "--format", "json"))

    there = {key: name for key, name in OBJECTS.items() if name not in ("created", "invalid")}
    for lists in (over_amqp, over_http):
        objects = {key: name for key, name in lists.items() if not key.startswith("binding")}
        assert objects == {key: there.get(key, "missing") for key in OBJECTS}
    ends_are_there = [key for key, name in BINDINGS.items() if name == "ensured"]
    assert of_kind(over_amqp, "binding") == {
        key: "unknown" if key in ends_are_there else "missing" for key in BINDINGS
    }
    assert of_kind(over_http, "binding") == {
        key: "unchanged" if "[there]" in key else "missing" for key in BINDINGS
    }


@pytest.mark.parametrize("option", [(), ("--verify",)])
def test_what_is_being_migrated_is_unknown_with_its_bindings(
    by_amqp: Run, channel: BlockingChannel, option: tuple[str, ...]
) -> None:
    for name in (MIGRATION_MARK, ingress_name("q.migrated")):
        channel.exchange_declare(name, "fanout")

    lists = lists_of(by_amqp("setup", *option, "--format", "json"))

    assert lists["queue q.migrated"] == "unknown"
    assert lists["binding x.equal -> q.migrated [migrated]"] == "unknown"


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("option", [(), ("--verify",)])
@pytest.mark.parametrize("configure", ["", r"[xq]\.(equal|new)"])
def test_without_permissions_no_object_is_left_out_either(
    file: Path,
    broker: EmbeddedBroker,
    broker_url: str,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
    configure: str,
) -> None:
    administration = Administration(broker)
    with administration.user() as user:
        allowed = {"configure": configure, "write": configure, "read": ".*"}
        administration.allow(virtual_host(broker_url), user, allowed)
        limited = runner(capsys, "--topology", str(file), "--url", url_for(user, broker_url))

        ran = limited("setup", *option, "--format", "json")

    lists = lists_of(ran)
    assert lists["queue q.different"] == ("unknown" if option else "refused")
    assert lists["queue q.equal"] == (
        "unchanged" if configure else "unknown" if option else "refused"
    )


@pytest.mark.usefixtures("channel")
def test_what_is_invalid_says_what_the_broker_says(by_amqp: Run) -> None:
    ran = by_amqp("setup", "--format", "json")

    details = {one["name"]: one["detail"] for one in ran.json["invalid"]}
    assert "invalid arg 'x-overflow'" in details["q.invalid"]
    assert "reserved prefix" in details["amq.invalid"]
    assert {"there is no queue 'q.invalid'", "there is no exchange 'x.invalid'"} <= {
        one["detail"] for one in ran.json["missing"]
    }


def test_people_are_told_as_much(by_amqp: Run, file: Path, channel: BlockingChannel) -> None:
    file.write_text("version: 1\nqueues:\n" + INVALID["invalid"] + INVALID["different"])

    ran = by_amqp("setup")

    lines = ran.out.splitlines()
    assert lines[0].startswith(f"invalid    {file}:3:3 queues.odd: queue 'q.invalid': the broker ")
    assert lines[1].startswith(f"different  {file}:4:30 queues.other.max_length: queue 'q.diff")
    assert lines[2:] == ["1 different, 1 invalid"]


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize(
    ("objects", "code"),
    [
        (("equal",), 0),
        (("invalid",), 1),
        (("invalid", "equal"), 1),
        (("invalid", "different"), 5),
        (("different", "invalid"), 5),
    ],
)
def test_the_exit_code_tells_of_a_conflict_whatever_else_there_is(
    by_amqp: Run, file: Path, objects: tuple[str, ...], code: int
) -> None:
    file.write_text("version: 1\nqueues:\n" + "".join(INVALID[one] for one in objects))

    assert by_amqp("setup").code == code


@pytest.mark.usefixtures("channel")
def test_a_refusal_hides_what_else_was_found_and_no_conflict(
    file: Path, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    administration = Administration(broker)
    with administration.user() as user:
        allowed = {"configure": "q.(invalid|different)", "write": "", "read": ".*"}
        administration.allow(virtual_host(broker_url), user, allowed)
        setup = runner(capsys, "--topology", str(file), "--url", url_for(user, broker_url))
        codes = []
        for objects in (("equal", "invalid"), ("equal", "invalid", "different")):
            file.write_text("version: 1\nqueues:\n" + "".join(INVALID[one] for one in objects))
            codes.append(setup("setup").code)

    assert codes == [4, 5]


def wide(channel: BlockingChannel, number: int) -> dict[str, Any]:
    """As an import of definitions stores it: in 64 bits."""
    arguments = {"n": long(number)}
    channel.queue_bind("q.equal", "x.equal", "k", arguments)
    return arguments


def bindings_with_key(broker: EmbeddedBroker, broker_url: str, key: str) -> int:
    client = ManagementClient(broker.management_url or "")
    listed = client.bindings(virtual_host(broker_url))
    return sum(1 for one in listed if one["routing_key"] == key)


NUMBERED = """\
version: 1
exchanges: {equal: {name: x.equal, type: topic}}
queues:
  equal: {name: q.equal, ttl: 5m, dead_letter: false}
bindings:
  - {source: equal, destination: equal, routing_key: k, arguments: {n: 5}}
"""


def test_a_binding_that_is_there_with_a_wider_number_gets_no_second_where_that_is_seen(
    by_amqp: Run,
    by_management: Run,
    file: Path,
    channel: BlockingChannel,
    broker: EmbeddedBroker,
    broker_url: str,
) -> None:
    wide(channel, 5)
    file.write_text(NUMBERED)

    planned = by_management("plan", "--format", "json").json
    seen = by_management("setup", "--format", "json").json

    assert [one["kind"] for one in planned["unchanged"]] == ["exchange", "queue", "binding"]
    assert seen["unchanged"] == planned["unchanged"]
    assert bindings_with_key(broker, broker_url, "k") == 1

    unseen = by_amqp("setup", "--format", "json").json
    assert [one["kind"] for one in unseen["ensured"]] == ["binding"]
    assert bindings_with_key(broker, broker_url, "k") == 2


def test_many_objects_that_are_there_are_told_apart_as_one_is(
    by_amqp: Run, file: Path, channel: BlockingChannel
) -> None:
    """They are declared many at once."""
    names = [f"q.{number}" for number in range(60)]
    for name in names:
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "x.equal", name)
    odd = ", arguments: {x-foo: 1}"
    file.write_text(
        "version: 1\nexchanges: {x: {name: x.equal, type: topic}}\nqueues:\n"
        + "".join(f"  {name}: {{name: {name}{odd if name == 'q.7' else ''}}}\n" for name in names)
        + "bindings:\n"
        + "".join(f"  - {{source: x, destination: {n}, routing_key: {n}}}\n" for n in names)
    )

    told = by_amqp("setup", "--format", "json").json

    assert [one["name"] for one in told["unknown"]] == ["q.7"]
    assert len(told["unchanged"]) == 60
    assert len(told["ensured"]) == 60


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(topology=topologies())
def test_the_lists_of_setup_and_of_plan_hold_each_object_of_any_file_once(
    broker: EmbeddedBroker, topology: Topology
) -> None:
    """Also where the broker takes hardly any of them. RabbitMQ 4.3 does not answer at all to a
    quorum queue with a line break in its name."""
    wanted = Counter((one.kind, one.name) for one in declarations(expand(topology)))
    assume(all(name.isprintable() for _, name in wanted))
    with broker.fresh_vhost() as url:
        for mode in ("verify", "create", "create", "verify"):
            planned = make_plan(topology, observe(topology, BrokerSettings.of(url)))
            told = plan_as_json(planned)
            in_plan = (told[name] for name in ("create", "unchanged", "conflicts", "unknown"))
            assert counted(in_plan) == wanted
            assert counted(as_json(report_of(topology, url, mode)).values()) == wanted


def counted(lists: Iterable[list[dict[str, Any]]]) -> Counter[tuple[str, str]]:
    return Counter((one["kind"], one["name"]) for some in lists for one in some)


def report_of(topology: Topology, url: str, mode: Any) -> SetupReport:
    try:
        return setup_infrastructure(topology, url, mode=mode)
    except MissingInfrastructure as error:
        return error.report
