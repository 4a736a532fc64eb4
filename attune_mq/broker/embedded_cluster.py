"""A private cluster of RabbitMQ nodes, to see what a failing node does to a service.

    with EmbeddedCluster() as cluster:
        settings = BrokerSettings(urls=cluster.urls)
        cluster.leader_of("orders").kill()

Its nodes are :class:`~attune_mq.broker.embedded.EmbeddedBroker`: each can be killed, restarted,
paused and resumed by itself. They share a cookie and an Erlang port mapper, listen on the loopback
address alone, and are gone when their owner is.

A node that is paused keeps its connections: to the others, and to clients, its network stands
still. The leaders that it had are replaced within seconds. After ``net_ticktime``, a minute unless
``config`` says otherwise, the others take it for gone; when it is resumed later than that, it finds
itself alone and stops serving until it sees the others again (``pause_minority``).

Sources: https://www.rabbitmq.com/docs/cluster-formation, https://www.rabbitmq.com/docs/partitions.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.embedded_node import Installation, Ports, free_ports, is_free
from attune_mq.broker.embedded_processes import POLL_S, GuardedProcesses
from attune_mq.errors import BrokerUnavailable, InvalidInput

EPMD_STARTS_S = 30.0


class Member(EmbeddedBroker):
    """A node of a cluster, with whose others it shares a cookie and an epmd that is not its own.
    ``names``: of all nodes of the cluster."""

    def __init__(
        self, name: str, names: tuple[str, ...], cookie: str, epmd_port: int, **options: Any
    ) -> None:
        self._epmd_port = epmd_port
        super().__init__(**options)
        self.node_name = name
        self._names = names
        self._cookie = cookie

    def _choose_ports(self) -> Ports:
        return replace(Ports.choose(), epmd=self._epmd_port, shares_epmd=True)

    def _start_epmd(self, system: Installation, processes: GuardedProcesses) -> None:
        """The cluster has started it."""


class EmbeddedCluster:
    """A private cluster. ``with`` or ``start()`` starts it; the end of ``with`` or ``stop()`` ends
    it and deletes its data.

    ``size``: how many nodes; three is the least with which one may fail.
    ``management``, ``config``, ``server``, ``root``: of each node, as for ``EmbeddedBroker``.
    ``start_timeout_s``: for all of them. Usual are 10 s on RabbitMQ 4, 25 on 3.10.

    One object is for one thread. Raises ``InvalidInput`` for a size below one.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        management: bool = False,
        config: Mapping[str, str | int] | None = None,
        server: Path | None = None,
        root: Path | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        if size < 1:
            raise InvalidInput(f"size: expected one node or more, got {size}")
        names = tuple(f"attune-{secrets.token_hex(4)}@localhost" for _ in range(size))
        self._installation = (server, root)
        self._epmd_port = next(free_ports())
        self._epmd: GuardedProcesses | None = None
        cookie = secrets.token_hex(16)
        self.nodes = tuple(
            Member(
                name,
                names,
                cookie,
                self._epmd_port,
                management=management,
                config={**_formation(names), **(config or {})},
                server=server,
                root=root,
                start_timeout_s=start_timeout_s,
            )
            for name in names
        )
        """Its nodes, whether they run or not."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the virtual host ``/``, one of each node, also of one that does not run."""
        return self.urls_of("/")

    def urls_of(self, vhost: str) -> tuple[str, ...]:
        """Of another virtual host. It need not exist."""
        return tuple(node.url_of(vhost) for node in self.nodes)

    def start(self) -> Self:
        """Start all nodes at once and return when each is ready: they are one cluster then.

        Nodes that do not run, such as those that were killed, are started again. Raises
        ``RabbitMQNotInstalled``, and ``BrokerNotStarted`` with what a node printed to say why; a
        cluster that does not start for the first time leaves nothing behind.
        """
        is_first = self._epmd is None
        try:
            if is_first:
                self._start_epmd()
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(EmbeddedBroker.start, self.nodes))
        except BaseException:
            if is_first:
                self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all nodes at once, delete their data, and return when all are gone."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(EmbeddedBroker.stop, self.nodes))
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def running_node(self) -> EmbeddedBroker:
        """One that runs. Raises ``BrokerUnavailable`` where none does."""
        for node in self.nodes:
            if node.running:
                return node
        raise BrokerUnavailable("no node of the private cluster runs")

    def wait_until_whole(self, timeout_s: float = 120.0) -> None:
        """Return when each node sees all the others, such as after ``resume()`` of one, which only
        then finds out that it was left. Raises ``BrokerUnavailable`` where it takes longer."""
        deadline = time.monotonic() + timeout_s
        while not all(self._sees_all(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"the private cluster was not whole in {timeout_s} s")
            time.sleep(POLL_S)

    def _sees_all(self, node: EmbeddedBroker) -> bool:
        try:
            status = json.loads(node.rabbitmqctl("--quiet", "cluster_status", "--formatter=json"))
        except (BrokerUnavailable, ValueError):  # it is just starting, or pauses itself
            return False
        return len(status["running_nodes"]) == len(self.nodes) and not status["partitions"]

    def leader_of(self, queue: str, vhost: str = "/") -> EmbeddedBroker:
        """The node on which the leader of a quorum queue or a stream is now.

        No node may be paused meanwhile. It takes a second. Raises ``BrokerUnavailable`` for a
        queue that has none, such as a classic one, or one that is not there.
        """
        asked = ("list_queues", "--vhost", vhost, "--formatter", "json", "name", "leader")
        rows = json.loads(self.running_node().rabbitmqctl("--quiet", *asked))
        leaders = {row["name"]: row["leader"] for row in rows}
        for node in self.nodes:
            if node.node_name == leaders.get(queue):
                return node
        raise BrokerUnavailable(f"no node leads a queue '{queue}' in virtual host '{vhost}'")

    @contextmanager
    def fresh_vhost(self) -> Iterator[tuple[str, ...]]:
        """A new, empty virtual host while the context lasts: its URL on each node."""
        with self.running_node().fresh_vhost() as url:
            yield self.urls_of(url.rpartition("/")[2])

    def _start_epmd(self) -> None:
        system = Installation.find(*self._installation)
        processes = self._epmd = GuardedProcesses(system.temporary_directory)
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        processes.start("epmd", system.epmd_command(self._epmd_port), path)
        processes.wait_until("epmd", lambda: not is_free(self._epmd_port), EPMD_STARTS_S)


def _formation(names: tuple[str, ...]) -> dict[str, str | int]:
    members = {
        f"cluster_formation.classic_config.nodes.{number}": name
        for number, name in enumerate(names, start=1)
    }
    return {
        "cluster_formation.peer_discovery_backend": "classic_config",
        **members,
        "cluster_partition_handling": "pause_minority",
    }
