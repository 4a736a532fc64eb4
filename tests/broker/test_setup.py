"""``setup_infrastructure`` against a real broker: idempotent, and honest about what it finds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.report import ConflictingInfrastructure, MissingInfrastructure, SetupReport
from attune_mq.errors import BrokerUnavailable, LoginRefused, VirtualHostRefused
from attune_mq.topology.families import instantiate
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from attune_mq.topology_file import load_topology

ROOT = Path(__file__).parents[2]
SHIPPED = load_topology(ROOT / "topology.yaml", environment={})


@pytest.fixture
def channel(broker_url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def as_user(broker: EmbeddedBroker, broker_url: str) -> Iterator[Callable[[str, str, str], str]]:
    """The URL of a user with just these permissions: configure, write, read."""
    made: list[str] = []

    def make(configure: str, write: str, read: str) -> str:
        name = f"limited-{len(made)}-{virtual_host(broker_url)}"
        broker.rabbitmqctl("add_user", name, "secret")
        made.append(name)
        vhost = virtual_host(broker_url)
        broker.rabbitmqctl("set_permissions", "-p", vhost, name, configure, write, read)
        return broker_url.replace("guest:guest", f"{name}:secret")

    yield make
    for name in made:
        broker.rabbitmqctl("delete_user", name)


def names(outcomes: tuple[object, ...]) -> list[str]:
    return [outcome.declaration.name for outcome in outcomes]  # type: ignore[attr-defined]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_first_run_creates_everything_and_a_second_finds_it_unchanged_without_a_warning(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = setup_infrastructure(SHIPPED, broker_url)
    with caplog.at_level(logging.INFO):
        second = setup_infrastructure(SHIPPED, broker_url)

    assert len(first.created) == 18
    assert not first.unchanged
    assert names((*second.unchanged, *second.ensured)) == names(first.created)
    assert {one.declaration.kind for one in second.ensured} == {"binding"}
    assert not second.created
    assert warnings(caplog) == []


def test_the_log_reads_like_the_story(broker_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        setup_infrastructure(SHIPPED, broker_url)

    said = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("attune_mq.broker.")
    ]
    assert said[0] == "Setting up RabbitMQ infrastructure"
    assert "Queue 'attune.events.queue' declared with dead letter exchange 'attune.dlx'" in said


def test_a_dead_letter_reaches_the_queue_of_its_own_and_no_other_through_a_fanout_exchange(
    broker_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    setup_infrastructure(SHIPPED, broker_url)
    channel.confirm_delivery()
    channel.basic_publish("attune.executions", "execution", b"poison", mandatory=True)
    method, _, _ = channel.basic_get("attune.executions.queue")
    assert method is not None
    channel.basic_nack(method.delivery_tag or 0, requeue=False)

    resting = consume_one(channel, "attune.executions.queue.dlq")
    counts = {
        queue: channel.queue_declare(queue, passive=True).method.message_count
        for queue in ("attune.events.queue.dlq", "attune.notifications.queue.dlq")
    }

    assert resting == b"poison"
    assert set(counts.values()) == {0}


def consume_one(
    channel: pika.adapters.blocking_connection.BlockingChannel, queue: str
) -> bytes | None:
    for method, _, body in channel.consume(queue, inactivity_timeout=10):
        if method is not None:
            channel.basic_ack(method.delivery_tag or 0)
        channel.cancel()
        return body
    return None


def test_a_dead_letter_queue_has_its_time_to_live_on_the_broker(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    setup_infrastructure(SHIPPED, broker_url)

    listed = broker.rabbitmqctl(
        "-q", "list_queues", "-p", virtual_host(broker_url), "name", "arguments"
    )

    line = next(one for one in listed.splitlines() if one.startswith("attune.events.queue.dlq"))
    assert "86400000" in line


def test_what_is_different_is_named_by_field_and_line_and_takes_nothing_along(
    broker_url: str,
    channel: pika.adapters.blocking_connection.BlockingChannel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel.exchange_declare("attune.events", "direct", durable=True)
    channel.queue_declare("attune.executions.queue.dlq", durable=True)

    report = setup_infrastructure(SHIPPED, broker_url)

    exchange, queue = report.conflicts
    assert (exchange.field, exchange.expected, exchange.found) == ("type", "topic", "direct")
    assert exchange.where.line == SHIPPED.where("exchanges", "events", "type").line
    assert (queue.field, queue.expected, queue.found) == ("x-message-ttl", "86400000", "none")
    assert queue.where.path == "dead_letter.ttl"
    assert len(report.created) + len(report.ensured) + len(report.unchanged) == 16
    assert len(warnings(caplog)) == 2


def test_a_caller_can_ask_to_fail_on_a_conflict(
    broker_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    channel.queue_declare("attune.events.queue", durable=False)

    with pytest.raises(ConflictingInfrastructure, match="expected durable true, the broker has"):
        setup_infrastructure(SHIPPED, broker_url, on_conflict="fail")


def test_verify_only_creates_nothing_and_names_all_that_is_missing(
    broker_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    channel.exchange_declare("attune.events", "topic", durable=True)

    with pytest.raises(MissingInfrastructure) as caught:
        setup_infrastructure(SHIPPED, broker_url, mode="verify")

    objects = [one for one in caught.value.report.missing if one.declaration.kind != "binding"]
    assert len(objects) == 10
    assert len(caught.value.report.missing) == 17  # with the bindings, whose queues are not there
    assert names(caught.value.report.unchanged) == ["attune.events"]
    assert "queue 'attune.events.queue' does not exist" in str(caught.value)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare("attune.events.queue", passive=True)


def test_verify_only_is_content_where_everything_is_there(broker_url: str) -> None:
    """Bindings are not seen over AMQP, and are not called unchanged."""
    setup_infrastructure(SHIPPED, broker_url)

    report = setup_infrastructure(SHIPPED, broker_url, mode="verify")

    assert not report.missing
    assert len(report.unchanged) == 11
    assert {one.declaration.kind for one in report.unknown} == {"binding"}
    assert len(report.unknown) == 7


def test_without_permission_start_goes_on_where_everything_exists(
    broker_url: str,
    as_user: Callable[[str, str, str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup_infrastructure(SHIPPED, broker_url)

    report = setup_infrastructure(SHIPPED, as_user("", "", ".*"))

    assert len(report.refused) == 18
    assert {one.permission for one in report.refused} >= {"configure", "write"}
    assert "permission is missing" in warnings(caplog)[0]


def test_without_permission_and_infrastructure_the_error_names_each_missing_object(
    as_user: Callable[[str, str, str], str],
) -> None:
    with pytest.raises(MissingInfrastructure) as caught:
        setup_infrastructure(SHIPPED, as_user("attune.events.*", ".*", ".*"))

    assert "queue 'attune.executions.queue'" in str(caught.value)
    assert "configure permission is missing" in str(caught.value)
    assert "'attune.events.queue'" not in str(caught.value)


def test_only_what_a_service_needs_is_set_up(broker_url: str) -> None:
    report = setup_infrastructure(SHIPPED, broker_url, service="executor")

    queues = [n for n in names(report.created) if n.endswith((".queue", ".dlq"))]
    assert queues == ["attune.executions.queue", "attune.executions.queue.dlq"]


def test_one_instance_of_a_family_is_set_up(broker_url: str) -> None:
    report = setup_infrastructure(instantiate(SHIPPED, "worker", worker_id=7), broker_url)

    assert "worker.7.executions" in names(report.created)
    assert "attune.executions -> worker.7.executions [execution.dispatch.worker.7]" in names(
        report.created
    )


def test_an_open_connection_is_used_and_stays_open(broker_url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))

    report = setup_infrastructure(SHIPPED, connection)

    assert len(report.created) == 18
    assert connection.is_open
    connection.close()


def test_many_services_that_start_at_the_same_moment_all_succeed(broker_url: str) -> None:
    together = threading.Barrier(8)
    reports: list[SetupReport] = []

    def start() -> None:
        together.wait()
        reports.append(setup_infrastructure(SHIPPED, broker_url))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(reports) == 8
    for report in reports:
        assert not report.conflicts
        assert len(report.created) + len(report.ensured) + len(report.unchanged) == 18


def test_an_exchange_type_that_the_broker_lacks_takes_nothing_along(broker_url: str) -> None:
    """RabbitMQ 3.10 closes the whole connection for it."""
    topology = parse_topology(
        """
        version: 1
        exchanges:
          odd: {name: odd, type: x-no-such-type}
          good: {name: good, type: direct}
        queues: {q: {name: q}}
        """
    )

    with pytest.raises(
        MissingInfrastructure, match="exchange 'odd': the broker does not"
    ) as caught:
        setup_infrastructure(topology, broker_url)

    assert names(caught.value.report.created) == ["good", "q"]


def test_a_renamed_queue_is_what_is_made(broker_url: str) -> None:
    text = (ROOT / "topology.yaml").read_text()
    renamed = parse_topology(text.replace("attune.executions.queue", "renamed"))

    report = setup_infrastructure(renamed, broker_url)

    assert {"renamed", "renamed.dlq"} <= set(names(report.created))
    assert "attune.executions.queue" not in names(report.created)


def test_retry_queues_bring_a_message_back_after_their_delay(
    broker_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    topology = parse_topology(
        "version: 1\nqueues: {work: {name: work, retry: {backoff: [100ms]}}}\n"
    )
    setup_infrastructure(topology, broker_url)

    channel.basic_publish("", "work.retry.100ms", b"again")

    assert consume_one(channel, "work") == b"again"


def test_a_wrong_password_says_what_to_do_and_is_not_shown(broker_url: str) -> None:
    with pytest.raises(LoginRefused, match="refuses this user and password") as caught:
        setup_infrastructure(SHIPPED, broker_url.replace("guest:guest", "guest:hunter2"))

    assert "hunter2" not in str(caught.value)


def test_a_vhost_that_does_not_exist_says_how_to_make_it(broker: EmbeddedBroker) -> None:
    with pytest.raises(VirtualHostRefused, match="rabbitmqctl add_vhost nowhere"):
        setup_infrastructure(SHIPPED, broker.url_of("nowhere"))


def test_a_vhost_that_the_user_may_not_enter_says_how_to_grant_it(
    broker: EmbeddedBroker, broker_url: str, as_user: Callable[[str, str, str], str]
) -> None:
    url = as_user("", "", "")
    user = url.partition("://")[2].partition(":")[0]
    broker.rabbitmqctl("clear_permissions", "-p", virtual_host(broker_url), user)

    with pytest.raises(VirtualHostRefused, match="rabbitmqctl set_permissions"):
        setup_infrastructure(SHIPPED, url)


def test_a_broker_that_is_not_there_is_an_error_that_names_each_host() -> None:
    hosts = "amqp://guest:hidden@localhost:1/%2F, amqp://guest:hidden@no.such.host.invalid/%2F"

    with pytest.raises(BrokerUnavailable) as caught:
        setup_infrastructure(SHIPPED, hosts)

    assert "localhost:1/%2F: the broker cannot be reached: connection refused" in str(caught.value)
    assert "no.such.host.invalid/%2F: the broker cannot be reached" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_of_several_hosts_one_that_lives_is_enough(broker_url: str) -> None:
    settings = BrokerSettings(urls=("amqp://guest:guest@localhost:1/%2F", broker_url))

    for _ in range(4):  # the order is random
        report = setup_infrastructure(SHIPPED, settings)
        assert not report.missing


def test_the_topology_type_is_what_a_path_becomes(broker_url: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nqueues: {mine: {name: mine}}\n")

    assert isinstance(load_topology(file), Topology)
    assert names(setup_infrastructure(file, broker_url).created) == ["mine"]


def test_a_long_name_that_cuts_the_brokers_answer_off_is_still_different_not_missing(
    broker_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    name = "q" * 200
    channel.queue_declare(name, arguments={"x-message-ttl": 1})
    topology = parse_topology(f"version: 1\nqueues: {{q: {{name: {name}, ttl: 2s}}}}\n")

    report = setup_infrastructure(topology, broker_url)

    assert report.conflicts[0].declaration.name == name
    assert not report.missing


def test_what_only_other_services_need_may_be_missing_where_we_may_not_make_it(
    as_user: Callable[[str, str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = r"attune\.(notifications|dlx).*"
    url = as_user(notifier, notifier, notifier)

    report = setup_infrastructure(SHIPPED, url, required_by="notifier")

    assert "attune.notifications.queue" in names(report.created)
    assert "Only other services need this: " in caplog.text
    assert "'attune.executions.queue'" in caplog.text
    with pytest.raises(MissingInfrastructure):
        setup_infrastructure(SHIPPED, url, required_by="executor")
