"""Private RabbitMQ nodes: started, asked, killed, started again, and gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError

from attune_mq.broker import EmbeddedBroker
from attune_mq.broker.embedded_node import amqp_version, find_server
from attune_mq.errors import (
    BrokerNotStarted,
    BrokerUnavailable,
    InvalidInput,
    RabbitMQNotInstalled,
)
from tests.process_leaks import processes_of, wait_until_gone
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]

OWNER = """
import sys
from attune_mq.broker.embedded import EmbeddedBroker

broker = EmbeddedBroker().start()
print(broker.directory, flush=True)
sys.stdin.read()
broker.stop()
"""


@pytest.fixture(scope="module")
def node() -> Iterator[EmbeddedBroker]:
    """A node without management that the tests of this module may kill and restart."""
    with EmbeddedBroker() as node:
        yield node


@pytest.fixture
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nodes that are started now make their directories, so that leftovers are seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_channel(url: str) -> BlockingChannel:
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    return channel


def is_there(url: str, queue: str) -> bool:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
    return True


# several at once, and each alone


def test_two_nodes_run_at_once_and_know_nothing_of_each_other(
    broker: EmbeddedBroker, node: EmbeddedBroker
) -> None:
    open_channel(node.url).queue_declare("of-the-one")

    assert is_there(node.url, "of-the-one")
    assert not is_there(broker.url, "of-the-one")
    assert node.node_name != broker.node_name
    assert node.node_name in node.rabbitmqctl("cluster_status")
    assert broker.node_name not in node.rabbitmqctl("cluster_status")


def test_an_answer_on_its_port_counts_only_if_it_comes_from_the_node_itself(
    broker: EmbeddedBroker, node: EmbeddedBroker
) -> None:
    assert amqp_version(node.port, node.node_name) == node.version
    assert amqp_version(node.port, broker.node_name) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_node_listens_on_the_loopback_address_alone(broker: EmbeddedBroker) -> None:
    listening = listening_addresses(processes_of(broker.directory))

    assert len(listening) >= 4, "AMQP, the HTTP API, Erlang's distribution and epmd"
    assert set(listening) <= {"0100007F", f"{'0' * 24}01000000"}, "127.0.0.1 and ::1"


def listening_addresses(pids: list[int]) -> list[str]:
    """The local addresses of listening sockets, in the hexadecimal of /proc/net/tcp."""
    sockets = {str(link.readlink()) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        row.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for row in Path(table).read_text().splitlines()[1:]
    ]
    return [
        row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    ]


# its end


def test_a_stopped_node_leaves_no_process_and_no_directory() -> None:
    node = EmbeddedBroker().start()
    directory = node.directory
    assert processes_of(directory)

    node.stop()

    assert not directory.exists()
    wait_until(lambda: not processes_of(directory), "its processes are gone")
    node.stop()  # is fine
    assert not node.running


def test_a_node_dies_with_its_owner_and_leaves_no_trace_when_that_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    directory = Path(owner.stdout.readline().strip())
    assert len(processes_of(directory)) >= 2, "the node and its epmd"

    owner.kill()
    owner.communicate()

    wait_until_gone(directory)


def test_a_node_that_was_never_started_can_be_stopped_but_not_asked() -> None:
    node = EmbeddedBroker()

    node.stop()

    with pytest.raises(BrokerUnavailable, match="not started"):
        node.rabbitmqctl("status")


# its faults, made on purpose


def test_a_killed_node_keeps_durable_queues_and_persistent_messages(node: EmbeddedBroker) -> None:
    open_channel(node.url).queue_declare("durable", durable=True)
    node.restart()  # RabbitMQ has the queue on disk for certain only after it was stopped once
    channel = open_channel(node.url)
    channel.confirm_delivery()
    channel.basic_publish("", "durable", b"kept", pika.BasicProperties(delivery_mode=2))
    url = node.url

    node.kill()
    assert not node.running
    with pytest.raises(AMQPConnectionError):
        open_channel(url)

    node.start()
    assert node.url == url
    assert open_channel(url).basic_get("durable")[2] == b"kept"


def test_a_restarted_node_keeps_its_port_and_its_durable_queues(node: EmbeddedBroker) -> None:
    open_channel(node.url).queue_declare("durable-too", durable=True)
    url = node.url

    node.restart()

    assert is_there(url, "durable-too")


def test_a_paused_node_answers_nothing_until_it_is_resumed(node: EmbeddedBroker) -> None:
    node.pause()
    assert node.running
    assert amqp_version(node.port, node.node_name, timeout_s=0.5) is None

    node.resume()
    assert amqp_version(node.port, node.node_name, timeout_s=30) == node.version


# what it offers


def test_a_fresh_virtual_host_is_empty_and_gone_afterwards(
    broker: EmbeddedBroker, node: EmbeddedBroker
) -> None:
    for some in (broker, node):  # by the HTTP API, by rabbitmqctl
        open_channel(some.url).queue_declare("elsewhere", auto_delete=True)
        with some.fresh_vhost() as url:
            assert not is_there(url, "elsewhere")
            open_channel(url).queue_declare("here")

        with pytest.raises(AMQPConnectionError):
            open_channel(url)


def test_rabbitmqctl_refuses_in_the_error_tree(node: EmbeddedBroker) -> None:
    with pytest.raises(InvalidInput, match="no_such_command"):
        node.rabbitmqctl("no_such_command")


# a start that fails


def test_a_failing_start_says_what_the_node_printed_and_leaves_nothing(
    temporary_directory: Path,
) -> None:
    node = EmbeddedBroker(config={"no.such.setting": 1})

    with pytest.raises(BrokerNotStarted, match=r"exit code") as caught:
        node.start()

    assert "no.such.setting" in caught.value.output
    assert list(temporary_directory.iterdir()) == []


def test_a_start_that_takes_too_long_leaves_nothing(temporary_directory: Path) -> None:
    node = EmbeddedBroker(start_timeout_s=0.2)

    with pytest.raises(BrokerNotStarted, match=r"not ready in 0\.2 s"):
        node.start()

    assert list(temporary_directory.iterdir()) == []


def test_a_given_port_that_is_taken_is_named_before_anything_starts(
    temporary_directory: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerNotStarted, match=f"port {port} .* in use"):
            EmbeddedBroker(port=port).start()

    assert list(temporary_directory.iterdir()) == []


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(InvalidInput, match=f"1 to 65535, got {port}"):
        EmbeddedBroker(port=port)


def test_a_port_of_its_own_choice_that_is_taken_by_now_is_replaced() -> None:
    node = EmbeddedBroker()
    taken = node.port
    with socket.create_server(("127.0.0.1", taken)), node:
        assert node.port != taken
        assert open_channel(node.url).is_open


def test_a_missing_server_is_an_error_that_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RabbitMQNotInstalled) as caught:
        find_server(places=[tmp_path], path=str(tmp_path))

    for way in ("apt-get install rabbitmq-server", "brew install", "docker run", "ATTUNE_MQ_URL"):
        assert way in str(caught.value)


def test_a_server_that_is_not_where_the_caller_said_is_named(tmp_path: Path) -> None:
    with pytest.raises(RabbitMQNotInstalled, match=str(tmp_path)):
        EmbeddedBroker(server=tmp_path / "rabbitmq-server").start()


# another user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_node_runs_as_a_user_without_rights() -> None:
    python = python_for(NOBODY)
    owner = run_as(NOBODY, python, OWNER)

    directory = Path(owner.stdout.strip())
    assert directory.name.startswith("attune-mq-"), owner.stderr
    wait_until_gone(directory)


NOBODY = 65534


def run_as(uid: int, python: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", script],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def python_for(uid: int) -> str:
    """An interpreter that this user may run and that can read this repository."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            if run_as(uid, python, "import attune_mq.broker.embedded").returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no interpreter that another user can run, or a repository it cannot read")
