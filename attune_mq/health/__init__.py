"""Health that tells the truth: whether a service consumes, publishes and is set up *now*.

Standard library only. Every answer is given from memory: what takes time (the broker, a database)
is asked all the time by threads of its own, and an answer that does not come is itself an answer,
since each is stale after :data:`~attune_mq.health.checks.ANSWER_MAX_AGE_S` seconds. So no request
to the server waits, and no fault is seen later than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.health.checks import *
    from attune_mq.health.client import *
    from attune_mq.health.server import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "checks client server")

__all__ = [
    "HealthAnswer",
    "HealthReport",
    "HealthServer",
    "ask_health",
]
