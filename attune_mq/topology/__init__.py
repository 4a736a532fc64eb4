"""The topology as values: its file, what it expands to, and how a broker routes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.topology.contracts import *
    from attune_mq.topology.dead_lettering import *
    from attune_mq.topology.declaration import *
    from attune_mq.topology.durations import *
    from attune_mq.topology.equivalence import *
    from attune_mq.topology.expansion import *
    from attune_mq.topology.families import *
    from attune_mq.topology.flow import *
    from attune_mq.topology.loading import *
    from attune_mq.topology.model import *
    from attune_mq.topology.objects import *
    from attune_mq.topology.permissions import *
    from attune_mq.topology.routing import *
    from attune_mq.topology.schema import *
    from attune_mq.topology.selection import *
    from attune_mq.topology.source import *
    from attune_mq.topology.writing import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(
        __name__,
        "source durations objects contracts model loading families expansion selection "
        "declaration equivalence routing dead_lettering flow permissions writing schema",
    )

__all__ = [
    "MAX_DURATION_MS",
    "REASONS",
    "Answer",
    "Binding",
    "BindingDeclaration",
    "BrokerExpectation",
    "BrokerRules",
    "ConsumerSpec",
    "DeadLetterQueue",
    "DeadLetterTo",
    "Death",
    "Declaration",
    "Defaults",
    "Difference",
    "Equal",
    "Exchange",
    "ExchangeDeclaration",
    "ExpandedTopology",
    "Family",
    "Flow",
    "Inequivalent",
    "InvalidTopology",
    "Loss",
    "MessageContract",
    "OwnDeadLetterQueue",
    "Permissions",
    "Problem",
    "Queue",
    "QueueDeclaration",
    "QueueDefaults",
    "Reason",
    "Retry",
    "Route",
    "Router",
    "Routing",
    "SilentlyIgnored",
    "Topology",
    "UnknownName",
    "Where",
    "acl",
    "answer_to_exchange",
    "answer_to_queue",
    "declarations",
    "expand",
    "format_duration",
    "instantiate",
    "needed_by",
    "parse_topology",
    "private_declarations",
    "queue_arguments",
    "topology_schema",
    "trace",
    "write_topology",
]
