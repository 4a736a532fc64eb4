"""AMQP connections: their settings, their loop, and all that knows pika."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.amqp.connection import *
    from attune_mq.amqp.io_loop import *
    from attune_mq.amqp.settings import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "settings io_loop connection")

__all__ = [
    "DEFAULT_HEARTBEAT_S",
    "DEFAULT_URL",
    "BrokerSettings",
    "Connection",
    "InvalidBrokerUrl",
    "IoLoop",
    "redacted",
    "virtual_host",
]
