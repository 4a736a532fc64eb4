"""Fixtures for the tests of a service that uses this library; pytest finds them by itself.

* ``attune_topology``: the service's topology.
* ``attune_broker``: a private RabbitMQ node for the run, started when a test first asks for it.
* ``attune_broker_url``: the URL of an empty virtual host on it, for one test.

Each can be overridden by a fixture of the same name in a ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# pytest imports this module in every run of every project: fixtures import what they need.
if TYPE_CHECKING:
    from attune_mq.broker.embedded import EmbeddedBroker
    from attune_mq.topology.model import Topology

TOPOLOGY_OPTION = "attune_topology"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        TOPOLOGY_OPTION,
        "topology file of the tests, relative to the root directory (default: "
        "ATTUNE_MQ_TOPOLOGY, else ./topology.yaml, else the packaged file)",
        default="",
    )


@pytest.fixture(scope="session")
def attune_topology(pytestconfig: pytest.Config) -> Topology:
    """The topology of the file that pytest's option ``attune_topology`` names, or of the default
    file. Raises ``InvalidInput`` if it is missing or invalid."""
    from attune_mq.topology_file import load_topology

    path = str(pytestconfig.getini(TOPOLOGY_OPTION))
    return load_topology(pytestconfig.rootpath / path if path else None)


@pytest.fixture(scope="session")
def attune_broker() -> Iterator[EmbeddedBroker]:
    """A private RabbitMQ node on free ports of the loopback address, stopped after the run. It
    takes some 5 seconds to start. Raises ``RabbitMQNotInstalled``, which says how to install it."""
    from attune_mq.broker.embedded import EmbeddedBroker

    with EmbeddedBroker(management=True) as node:  # with management a virtual host takes 50 ms
        yield node


@pytest.fixture
def attune_broker_url(attune_broker: EmbeddedBroker) -> Iterator[str]:
    """The URL of an empty virtual host on ``attune_broker``, deleted after the test."""
    with attune_broker.fresh_vhost() as url:
        yield url
