"""A policy of the broker for as long as a test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attune_mq.broker import EmbeddedBroker
from tests.administration import Administration, virtual_host_of
from tests.messaging.bench import Bench


@contextmanager
def policy(
    bench: Bench,
    broker: EmbeddedBroker,
    definition: dict[str, Any],
    pattern: str = r"migrating\.",
    kind: str = "policies",
) -> Iterator[None]:
    """One called ``p``, by default for the temporary queues alone."""
    path = (kind, virtual_host_of(bench.url), "p")
    administration = Administration(broker)
    administration.put(
        *path, **{"pattern": pattern, "definition": definition, "apply-to": "queues"}
    )
    try:
        yield
    finally:
        administration.delete(*path)
