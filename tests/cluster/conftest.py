from __future__ import annotations

from collections.abc import Iterator

import pytest

from attune_mq.broker import EmbeddedCluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[EmbeddedCluster]:
    """Three nodes for all tests of this package. Each test leaves them running."""
    with EmbeddedCluster() as cluster:
        yield cluster


@pytest.fixture
def urls(cluster: EmbeddedCluster) -> Iterator[tuple[str, ...]]:
    """A virtual host that only this test knows, by each node."""
    cluster.wait_until_whole()
    with cluster.fresh_vhost() as urls:
        yield urls
