"""Fixtures for the tests of a service that uses this library; pytest finds them by itself.

* ``attune_topology``: the service's topology.
* ``attune_broker``: a private RabbitMQ node for the run, started when a test first asks for it.
* ``attune_broker_url``: the URL of an empty virtual host on it, for one test.

Each can be overridden by a fixture of the same name in a ``conftest.py``, such as ``attune_broker``
by one that starts a node with other plugins. What needs no fixture is in ``attune_mq.testing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# pytest imports this file in every run of every project beside us: what a fixture needs, it
# imports itself.
if TYPE_CHECKING:
    from attune_mq.broker.embedded import EmbeddedBroker
    from attune_mq.topology.model import Topology

TOPOLOGY_OPTION = "attune_topology"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        TOPOLOGY_OPTION,
        "the topology file of the tests, from the root directory of the run (default: the file "
        "that attune_mq takes anywhere: ATTUNE_MQ_TOPOLOGY, ./topology.yaml, the packaged copy)",
        default="",
    )


@pytest.fixture(scope="session")
def attune_topology(pytestconfig: pytest.Config) -> Topology:
    """The topology of the file that the option ``attune_topology`` of pytest's configuration
    names, or of the default file. Raises ``InvalidInput`` for one that is missing or wrong."""
    from attune_mq.topology_file import load_topology

    path = str(pytestconfig.getini(TOPOLOGY_OPTION))
    return load_topology(pytestconfig.rootpath / path if path else None)


@pytest.fixture(scope="session")
def attune_broker() -> Iterator[EmbeddedBroker]:
    """A private RabbitMQ node, on free ports of the loopback address, gone after the run.

    It takes some 5 seconds to start. The test fails with ``RabbitMQNotInstalled`` where there is
    no server to start; the error says how to get one.
    """
    from attune_mq.broker.embedded import EmbeddedBroker

    with EmbeddedBroker(management=True) as node:  # with management a virtual host takes 50 ms
        yield node


@pytest.fixture
def attune_broker_url(attune_broker: EmbeddedBroker) -> Iterator[str]:
    """The URL of an empty virtual host on ``attune_broker``, deleted after the test."""
    with attune_broker.fresh_vhost() as url:
        yield url
