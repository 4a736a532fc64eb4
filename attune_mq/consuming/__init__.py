"""Consuming: handlers, and the consumers that run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.consuming.consumer import *
    from attune_mq.consuming.handlers import *
    from attune_mq.consuming.pausing import *
    from attune_mq.consuming.status import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "status handlers pausing consumer")

__all__ = [
    "DEFAULT_STOP_DEADLINE_S",
    "LONGEST_PAUSE_S",
    "Consumer",
    "ConsumerStatus",
    "Handlers",
]
