"""A web application whose module publishes when it is imported, which ``gunicorn --preload`` does
once, before it forks its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from attune_mq import Publisher
from tests.messaging.bench import request, topology_of

publisher = Publisher(topology_of(), os.environ["BROKER_URL"])
publisher.publish(request(0))


def application(_environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """Answers with the process, and with the id of a message that got its receipt."""
    receipt = publisher.publish(request(1))
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {receipt.message_id}".encode()]
