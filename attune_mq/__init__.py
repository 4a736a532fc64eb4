"""One declarative RabbitMQ topology that every service sets up, checks and travels on.

::

    from attune_mq import Message, Service, payloads

    service = Service("notifier")

    @service.on(payloads.NotificationCreated)
    def tell(message: Message[payloads.NotificationCreated]) -> None:
        print(message.payload.activity)

    service.run()

``__all__`` lists what services and their operators use daily; the packages below export the rest,
each with an ``__all__`` of its own. Each name is imported when it is first used, so that a command
line which needs few of them starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.amqp import *
    from attune_mq.broker import *
    from attune_mq.consuming import *
    from attune_mq.dead_letters import *
    from attune_mq.errors import *
    from attune_mq.health import *
    from attune_mq.message import *
    from attune_mq.migration import *
    from attune_mq.publishing import *
    from attune_mq.service import *
    from attune_mq.topology import *
    from attune_mq.topology_file import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(
        __name__,
        "errors topology topology_file amqp broker message publishing consuming dead_letters "
        "migration health service",
    )

__all__ = [
    "AttuneError",
    "BrokerSettings",
    "BrokerUnavailable",
    "ConsumeError",
    "Consumer",
    "DependencyUnavailable",
    "Envelope",
    "Handlers",
    "HealthServer",
    "InfrastructureError",
    "InvalidInput",
    "InvalidTopology",
    "LifecycleError",
    "MalformedMessage",
    "Message",
    "NotConfirmed",
    "Payload",
    "PublishError",
    "PublishManyFailed",
    "PublishRefused",
    "Publisher",
    "Receipt",
    "Reject",
    "RetryLater",
    "Route",
    "Service",
    "Telemetry",
    "Topology",
    "Unroutable",
    "check",
    "expand",
    "instantiate",
    "list_dead_letters",
    "load_topology",
    "migrate",
    "parse_topology",
    "plan",
    "purge_dead_letters",
    "replay_dead_letters",
    "setup_infrastructure",
    "show_dead_letters",
]


def __dir__() -> list[str]:
    return sorted(__all__)
