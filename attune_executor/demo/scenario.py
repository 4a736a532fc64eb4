"""What happens in the demonstration, and when it is over."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from attune_executor.demo.picture import Picture, summary
from attune_executor.demo.processes import Processes, examples_folder
from attune_executor.demo.tally import Counter, Tally
from attune_executor.migrations import migrate
from attune_mq import (
    AttuneError,
    BrokerSettings,
    Envelope,
    Publisher,
    expand,
    load_topology,
    setup_infrastructure,
)
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.transactional import create_database_engine

LIMIT_S = 90.0
"""A demonstration that takes longer has failed, and says what is missing."""
DISPATCH_TTL = "5s"
"""How long a dispatch waits for its worker, here; five minutes otherwise."""
KILLED = "worker-2"


class DemoFailed(AttuneError):
    """Something did not happen that should have."""


def run_demo(*, enforcements: int, url: str | None, as_json: bool) -> int:
    """Runs it; prints the summary; returns the exit code.

    Raises :class:`DemoFailed` with the end of the log that tells why.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        picture = stack.enter_context(Picture(enforcements))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attune-demo-")))
        if url is None:
            picture.say("starting a private RabbitMQ node")
            url = stack.enter_context(EmbeddedBroker()).url
        tally = _play(stack, folder, url, enforcements, picture)
    seconds = time.monotonic() - began
    text = json.dumps(tally.as_json(seconds)) if as_json else summary(tally, seconds)
    sys.stdout.write(f"{text}\n")
    return 0


def _play(stack: ExitStack, folder: Path, url: str, wanted: int, picture: Picture) -> Tally:
    database_url = f"sqlite:///{folder / 'attune.db'}"
    environment = {
        "ATTUNE_MQ_URL": url,
        "ATTUNE_DATABASE_URL": database_url,
        "ATTUNE_RULES": str(examples_folder() / "rules.yaml"),
        "ATTUNE_SCHEDULING_DELAY_S": "0.5",
        "ATTUNE_HEALTH_PORT": "0",  # somebody may have an executor of their own on the default one
        "ATTUNE_DISPATCH_TTL": DISPATCH_TTL,
        "ATTUNE_DISPATCH_GRACE_S": "2",
        "ATTUNE_WORKER_ABSENCE_S": "2",
    }
    engine = create_database_engine(database_url)
    migrate(engine)
    stack.callback(engine.dispose)
    topology = load_topology()
    setup_infrastructure(topology, url)
    processes = Processes(folder, environment)
    stack.callback(processes.stop)
    counter = Counter(engine, expand(topology), BrokerSettings.of(url), processes)
    stack.callback(counter.close)
    watch = _Watch(counter, picture, processes)

    picture.say("starting the executor, two workers and the notifier")
    processes.start("executor", "-m", "attune_executor", "run")
    processes.example("notifier", "notifier.py")
    processes.example("worker-1", "worker.py", "--id", "1")
    processes.example(KILLED, "worker.py", "--id", "2")
    watch.until("both workers are registered", lambda tally: tally.messages_handled >= 2)
    picture.say(f"the sensor publishes {wanted} enforcements")
    processes.example("sensor", "sensor.py", "--count", str(wanted))
    _publish_poison(url)
    picture.say("a poisonous message is published: an enforcement that lacks all its fields")
    third = wanted // 3
    watch.until("a third is finished", lambda tally: tally.finished >= third)
    processes.kill(KILLED)
    picture.say(f"{KILLED} is killed; what it held fails when its time is over ({DISPATCH_TTL})")
    return watch.until(
        "all is finished",
        lambda tally: (
            tally.enforcements == tally.finished == tally.notifications == wanted
            and tally.dead_letters == 1
        ),
    )


def _publish_poison(url: str) -> None:
    message_id = str(uuid4())
    poison = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        message_type="EnforcementCreated",
        timestamp=datetime.now(UTC),
        payload={"nonsense": True},
    )
    with Publisher(load_topology(), url, source_service="sensor") as publisher:
        publisher.publish(poison)


class _Watch:
    """Looks a few times a second, shows what it sees, and knows when something takes too long."""

    def __init__(self, counter: Counter, picture: Picture, processes: Processes) -> None:
        self._counter = counter
        self._picture = picture
        self._processes = processes
        self._deadline = time.monotonic() + LIMIT_S

    def until(self, what: str, holds: Callable[[Tally], bool]) -> Tally:
        while True:
            tally = self._counter.count()
            self._picture.show(tally)
            if holds(tally):
                return tally
            died = self._processes.died()
            if died is not None:
                raise DemoFailed(f"{died} ended unexpectedly:\n{self._processes.log(died)}")
            if time.monotonic() > self._deadline:
                log = self._processes.log("executor")
                raise DemoFailed(f"expected that {what} by now, found {tally}; executor:\n{log}")
            time.sleep(0.2)
