"""A private cluster: what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import pytest

from attune_mq.broker import EmbeddedCluster
from attune_mq.errors import BrokerUnavailable, InvalidInput
from tests.process_leaks import processes_of
from tests.waiting import wait_until


def test_a_cluster_of_no_nodes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one node or more, got 0"):
        EmbeddedCluster(0)


def test_a_stopped_cluster_leaves_no_process_and_no_directory() -> None:
    cluster = EmbeddedCluster(1).start()
    (node,) = cluster.nodes
    directory = node.directory
    assert processes_of(directory)
    with pytest.raises(BrokerUnavailable, match="no node leads a queue 'nowhere'"):
        cluster.leader_of("nowhere")

    cluster.stop()

    assert not directory.exists()
    wait_until(lambda: not processes_of(directory), "its processes are gone")
