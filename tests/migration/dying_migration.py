"""A process of its own that migrates, and kills itself before the so many-th thing that it does to
the broker. It says on standard output what that was, or how many things it did in all."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.control import Control
from attune_mq.migration.intake import Intake
from attune_mq.migration.migrating import Patience, migrate
from attune_mq.topology.loading import parse_topology

QUIET = ("close", "counts", "has_exchange")
"""Of the control: these only look."""
ACTS = [
    *((Control, name) for name in vars(Control) if not name.startswith("_") and name not in QUIET),
    (Publisher, "send"),
    (Intake, "__init__"),
    (Intake, "acknowledge"),
    (Intake, "wait_for_cancel"),
    (Intake, "close"),
]


def main(url: str, topology: str, dies_before: int, settle_s: float) -> None:
    acts = Acts(dies_before)
    for owner, name in ACTS:
        setattr(owner, name, acts.counted(name, getattr(owner, name)))
    migrate(
        parse_topology(topology, file="topology.yaml", environment={}),
        url,
        patience=Patience(settle_s=settle_s),
    )
    print(acts.done, flush=True)  # noqa: T201


class Acts:
    def __init__(self, dies_before: int) -> None:
        self.done = 0
        self._dies_before = dies_before

    def counted(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(act)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.done += 1
            if self.done == self._dies_before:
                print(name, str(arguments[1:])[:100], flush=True)  # noqa: T201
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return wrapped


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
