"""What the processes that tests start are told of their surroundings."""

from __future__ import annotations

import os

HANDED_ON = ("PATH", "HOME", "LANG", "RABBITMQ_TEST_ROOT")


def handed_on() -> dict[str, str]:
    """Where programs are found, and which RabbitMQ private nodes run; no setting of ours."""
    return {name: os.environ[name] for name in HANDED_ON if name in os.environ}
