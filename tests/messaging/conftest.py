from __future__ import annotations

from collections.abc import Iterator

import pytest

from attune_mq import Topology
from tests.messaging.bench import Bench, Gate, topology_of
from tests.messaging.proxy import Proxy


@pytest.fixture
def topology() -> Topology:
    return topology_of()


@pytest.fixture
def bench(broker_url: str, topology: Topology) -> Iterator[Bench]:
    """A look into a fresh virtual host in which ``topology`` is set up."""
    bench = Bench(broker_url)
    bench.set_up(topology)
    yield bench
    bench.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_through.set()


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    proxy = Proxy(broker_url)
    yield proxy
    proxy.close()
