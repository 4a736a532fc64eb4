"""A roll-out under load, as the Deployment's strategy has it: one more before one less."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attune_mq import Publisher
from tests.deployment.files import ROOT, manifest
from tests.deployment.pods import Pod, Volumes
from tests.executor.harness import Harness, enforcement, running, settings_for

BATCH = 10
BACKLOG = 100


class Load:
    """Enforcements without a pause, and never more than a backlog ahead of their notifications."""

    def __init__(self, harness: Harness, publisher: Publisher) -> None:
        self.published = 0
        self._harness = harness
        self._publisher = publisher
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for first in itertools.count(step=BATCH):
            if self._stopping.is_set():
                return
            numbers = range(first, first + BATCH)
            self._publisher.publish_many(enforcement(number) for number in numbers)
            self.published = first + BATCH
            done = self._harness.seen.notifications
            self._harness.seen.until(
                lambda done=done: len(done) >= self.published - BACKLOG,  # type: ignore[misc]
                within_s=60,
            )


@contextmanager
def pods(volumes: Volumes) -> Iterator[list[Pod]]:
    """The replicas of the Deployment; whoever is left at the end is killed."""
    replicas = manifest("Deployment")["spec"]["replicas"]
    running_pods = [Pod(f"old-{number}", volumes) for number in range(replicas)]
    try:
        for one in running_pods:
            one.until_ready()
        yield running_pods
    finally:
        for one in running_pods:
            one.kill()


def roll_out(replicas: list[Pod], volumes: Volumes) -> list[int]:
    """The exit codes of those that were replaced."""
    codes = []
    for number in range(len(replicas)):
        replicas.append(Pod(f"new-{number}", volumes))
        replicas[-1].until_ready()
        codes.append(replicas.pop(0).delete())
    return codes


def test_a_rolling_restart_under_load_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, broker_url: str, postgresql_url: str
) -> None:
    volumes = Volumes(tmp_path, broker_url, postgresql_url)
    settings = settings_for(tmp_path, broker_url, ROOT / "topology.yaml", postgresql_url)
    with running(settings) as harness:
        pass  # makes database and topology, and serves for looking at them afterwards
    with (
        harness.worker(),
        harness.notifier(),
        harness.publisher() as publisher,
        pods(volumes) as replicas,
    ):
        with Load(harness, publisher) as load:
            codes = roll_out(replicas, volumes)
        total = load.published
        harness.seen.until(lambda: len(harness.seen.notifications) >= total, within_s=60)
        codes += [replicas.pop().delete() for _ in range(len(replicas))]

    assert codes == [0] * 4
    assert harness.enforcements() == {"processed": total}
    assert harness.executions() == {"completed": total}
    dispatched = Counter(dispatch.execution_id for dispatch in harness.seen.dispatches)
    assert len(dispatched) == total
    assert [one for one, times in dispatched.items() if times > 1] == []
    assert len(harness.seen.notifications) == total
