"""Brokers: what is set up, compared and observed on them, and embedded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.broker.embedded import *
    from attune_mq.broker.embedded_cluster import *
    from attune_mq.broker.infrastructure import *
    from attune_mq.broker.inspection import *
    from attune_mq.broker.management import *
    from attune_mq.broker.observation import *
    from attune_mq.broker.planning import *
    from attune_mq.broker.report import *
    from attune_mq.broker.status import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(
        __name__,
        "report observation inspection management status planning infrastructure embedded "
        "embedded_cluster",
    )

__all__ = [
    "MIGRATION_MARK",
    "Absent",
    "AmqpObservation",
    "ConflictingInfrastructure",
    "ConsumerPresence",
    "EmbeddedBroker",
    "EmbeddedCluster",
    "Health",
    "Indeterminate",
    "InvalidManagementUrl",
    "ManagementClient",
    "ManagementObservation",
    "MissingInfrastructure",
    "ObservedQueue",
    "Plan",
    "QueueCounts",
    "QueueInspector",
    "QueueReport",
    "QueueStatus",
    "SetupReport",
    "check",
    "ingress_name",
    "management_client",
    "observe_by_management",
    "plan",
    "setup_infrastructure",
]
