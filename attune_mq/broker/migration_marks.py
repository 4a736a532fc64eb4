"""What of a broker says that a queue is being migrated, for whoever sets up meanwhile.

A migration (:mod:`attune_mq.migration`) puts an exchange of its own, the ingress, between a queue
and what it is bound to. Who bound the queue directly in that time would have messages delivered
that are parked as well, so doubled; and who declared it in the moment between its deletion and its
new declaration might make it as it was. :func:`ingress_name` exists while the queue is being
migrated, :data:`MARK` while any queue of the virtual host is.
"""

from __future__ import annotations

MARK = "attune-mq.migrating"
"""An exchange that is deleted by the broker itself with the last ingress bound to it."""


def ingress_name(queue: str) -> str:
    return f"{queue}.migrating"
