"""A private cluster: one broker with several addresses, of which one may fail."""

from __future__ import annotations

import pika
import pytest

from attune_mq.broker.embedded_cluster import EmbeddedCluster
from attune_mq.errors import BrokerUnavailable, InvalidInput
from tests.administration import virtual_host_of
from tests.leftovers import processes_of, wait_until

QUORUM = {"x-queue-type": "quorum"}


def declare(url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_declare(queue, durable=True, arguments=QUORUM)


def put(url: str, queue: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, mandatory=True)


def test_what_one_node_took_another_gives_out_when_the_leader_was_killed(
    cluster: EmbeddedCluster, urls: tuple[str, ...]
) -> None:
    declare(urls[0], "orders")
    put(urls[1], "orders", b"kept")
    leader = cluster.leader_of("orders", virtual_host_of(urls[0]))

    leader.kill()
    try:
        vhost = virtual_host_of(urls[0])
        (url, _) = [node.url_of(vhost) for node in cluster.nodes if node.running]
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            consumed = connection.channel().consume("orders", inactivity_timeout=60)
            body = next(consumed)[2]
    finally:
        cluster.start()

    assert body == b"kept"
    assert all(node.running for node in cluster.nodes)


def test_a_queue_that_is_not_there_has_no_leader(cluster: EmbeddedCluster) -> None:
    with pytest.raises(BrokerUnavailable, match="no node leads a queue 'nowhere'"):
        cluster.leader_of("nowhere")


def test_a_cluster_of_no_nodes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one node or more, got 0"):
        EmbeddedCluster(0)


def test_a_stopped_cluster_leaves_no_process_and_no_directory() -> None:
    cluster = EmbeddedCluster(1).start()
    (node,) = cluster.nodes
    directory = node.directory
    assert processes_of(directory)

    cluster.stop()

    assert not directory.exists()
    wait_until(lambda: not processes_of(directory), "its processes are gone")
