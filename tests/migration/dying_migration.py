"""A process of its own that migrates, and kills itself before the so many-th thing that it does to
the broker in one of its steps. It says on standard output when a step begins, and in the end how
much it did in each.

    python -m tests.migration.dying_migration URL MANAGEMENT_URL TOPOLOGY [STEP ACT]
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.control import Control
from attune_mq.migration.migrating import migrate
from attune_mq.migration.queue_reader import QueueReader
from attune_mq.migration.report import Progress, Step
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.loading import parse_topology

QUIET = ("counts", "has_exchange")
"""Of the control: these only look."""
ACTS = [
    *((Control, name) for name in vars(Control) if not name.startswith("_") and name not in QUIET),
    (Publisher, "send"),
    (QueueReader, "__init__"),
    (QueueReader, "acknowledge"),
    (QueueReader, "wait_for_cancel"),
    (QueueReader, "close"),
]
NAMES = ("work",)
"""Of the queue, and of the exchange. Its dead letter queue would double the time."""
STATISTICS_AGE_S = 2.0
"""The nodes of the tests gather statistics every half second."""


def main(url: str, management_url: str, topology: str, step: str = "", act: str = "0") -> None:
    acts = Acts(step, int(act))
    for owner, name in ACTS:
        setattr(owner, name, acts.counted(getattr(owner, name)))
    result = migrate(
        parse_topology(topology, file="topology.yaml", environment={}),
        url,
        names=NAMES,
        management_url=management_url,
        timeouts=MigrationTimeouts(statistics_age_s=STATISTICS_AGE_S),
        on_progress=acts.see,
    )
    assert not result.has_differences, result.skipped
    print(json.dumps(acts.done), flush=True)  # noqa: T201


class Acts:
    """What is done before the first step counts to that."""

    def __init__(self, dies_in: str, dies_before: int) -> None:
        self.done: Counter[str] = Counter()
        self._step = Step.PREPARE.name
        self._death = dies_in, dies_before

    def see(self, progress: Progress) -> None:
        if progress.step.name != self._step:
            self._step = progress.step.name
            print(self._step, flush=True)  # noqa: T201

    def counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(act)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.done[self._step] += 1
            if (self._step, self.done[self._step]) == self._death:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return wrapped


if __name__ == "__main__":
    main(*sys.argv[1:])
