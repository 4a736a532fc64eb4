"""Runs of migrations under traffic, while policies come and go whose pattern matches all that
begins with the queue's name, so the temporary queues too.

Such a policy may destroy what no library can bring back. A migration may therefore refuse, or stop;
what it calls migrated has to be complete. The queue dead-letters into one that no policy matches:
what a policy does to the queue itself is accounted for there.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from attune_mq import (
    AttuneError,
    MalformedMessage,
    ManagementClient,
    MigrationTimeouts,
    migrate,
    parse_topology,
    setup_infrastructure,
)
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.message.envelope import decode
from tests.administration import Administration, virtual_host_of
from tests.faults.accounts import Account
from tests.faults.run import Verdict
from tests.messaging.bench import QUEUE, Bench
from tests.migration.dying_migration import STATISTICS_AGE_S
from tests.migration.traffic import Traffic

logger = logging.getLogger(__name__)

FILE = """
version: 1
exchanges:
  work: {name: work, type: direct}
  dead: {name: dead, type: fanout}
queues:
  work: {name: work.queue, type: %s, dead_letter: {to: dead}}
  kept: {name: kept, dead_letter: false}
bindings:
  - {source: work, destination: work, routing_key: requested}
  - {source: dead, destination: kept}
messages:
  ExecutionRequested: {exchange: work, routing_key: requested, publishers: [api]}
consumers:
  worker: {service: tests, queue: work, prefetch: 10}
"""
TYPES = ("classic", "quorum")
PATTERNS = (r"^work\.queue", r"^(?!kept$)")
"""All that begins with the name of the queue; and whatever else a migration makes."""
POLICY = "a policy on the temporary queues of a migration"
CALLED_MIGRATED = "migrations were called migrated"
STOPPED = "were refused, or stopped"
GONE = "were stopped after a policy had destroyed messages"
IN_FLIGHT = 2
PATIENCE = MigrationTimeouts(stall_s=60.0, statistics_age_s=STATISTICS_AGE_S)
MOST_CALLS = 3
LONGEST_HELD_S = 12.0
QUIET_FOR_S = 10.0
"""When nothing came for so long, nothing will."""
POLL_S = 0.2
STATISTICS = {"collect_statistics_interval": 500}
"""Of the node: a migration waits until the HTTP API has counted anew."""

Limits = Mapping[str, tuple[int, int]]
POLICIES: tuple[Limits, ...] = (
    {"expires": (3_000, 6_000)},
    {"message-ttl": (1_000, 8_000)},
    {"max-length": (5, 50)},
    {"max-length-bytes": (5_000, 50_000)},
    {"expires": (3_000, 6_000), "message-ttl": (500, 4_000)},
)
"""The least and the most of each. A queue that has a consumer does not expire."""
PLACES = ("policies", "operator-policies")


def migrating(broker: EmbeddedBroker, seed: str, seconds: float) -> Verdict:
    """One migration after the other, until ``seconds`` are over."""
    rng, began_s = random.Random(seed), time.monotonic()
    verdict = Verdict()
    words: Counter[str] = Counter()
    while not words or time.monotonic() - began_s < seconds:
        _round(broker, rng, verdict, words)
    verdict.lasted_s = time.monotonic() - began_s
    verdict.notes.append(", ".join(f"{count} {word}" for word, count in sorted(words.items())))
    return verdict


class Word(NamedTuple):
    """What a migration said last."""

    is_migrated: bool
    text: str


def _round(
    broker: EmbeddedBroker, rng: random.Random, verdict: Verdict, words: Counter[str]
) -> None:
    types = rng.sample(TYPES, 2)
    files = [FILE % one for one in types]
    with broker.fresh_vhost() as url:
        setup_infrastructure(_topology(files[0]), url)
        call = partial(_call, broker, url, files[1], verdict)
        with AccountedTraffic(url, files[0], in_flight=IN_FLIGHT) as traffic:
            traffic.hold(rng.randint(20, 300))
            with policies(Administration(broker), virtual_host_of(url), rng) as made:
                word = _migrated(call, traffic, rng)
            for _ in range(MOST_CALLS - 1):
                word = word if word.is_migrated else call()
            account = traffic.account(f"{types[0]} to {types[1]} under {', '.join(made)}")
            gone = set(account.lost) - _left_in_queues(broker, url)
    verdict.faults[POLICY] += len(made)
    words[CALLED_MIGRATED if word.is_migrated else STOPPED] += 1
    if word.is_migrated:
        verdict.accounts.append(account)
        verdict.messages += len(account.expected)
    elif gone:
        words[GONE] += 1
        logger.warning("%s: %d messages are gone, and it said %s", account.of, len(gone), word.text)


def _migrated(call: Callable[[], Word], traffic: Traffic, rng: random.Random) -> Word:
    """Called while the consumer holds what it has, and for a while nothing more is handled."""
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(call)
        threading.Event().wait(rng.uniform(0.0, LONGEST_HELD_S))
        traffic.release()
        return outcome.result()


def _call(broker: EmbeddedBroker, url: str, file: str, verdict: Verdict) -> Word:
    """It may raise the library's own errors only."""
    try:
        result = migrate(
            _topology(file),
            url,
            names=[QUEUE],
            management_url=broker.management_url,
            timeouts=PATIENCE,
        )
    except AttuneError as error:
        return Word(False, repr(str(error)))
    except Exception as error:
        verdict.left_over.append(f"migrate raised {error!r}")
        return Word(False, repr(error))
    return Word(bool(result.migrated), repr([one.why for one in result.skipped]))


def _left_in_queues(broker: EmbeddedBroker, url: str) -> set[int]:
    """The numbers of what lies in any queue, the migration's among them; it is taken out."""
    client = ManagementClient(broker.management_url or "")
    bench = Bench(url)
    numbers: set[int] = set()
    for queue in client.queues(virtual_host_of(url)):
        for one in bench.take_all(queue["name"]):
            with suppress(MalformedMessage):  # what the migration writes down for itself
                numbers.add(_number_of(one))
    bench.close()
    return numbers


def _topology(file: str) -> Any:
    return parse_topology(file, file="topology.yaml", environment={})


@contextmanager
def policies(administration: Administration, vhost: str, rng: random.Random) -> Iterator[list[str]]:
    """Come and go while the context lasts; it yields what they said."""
    made: list[str] = []
    stopping = threading.Event()

    def come_and_go() -> None:
        stopping.wait(rng.choice((0.0, rng.uniform(0.0, 8.0))))
        while not stopping.is_set():
            place, limits = rng.choice(PLACES), rng.choice(POLICIES)
            definition = {key: rng.randint(*limit) for key, limit in limits.items()}
            rule: dict[str, Any] = {"apply-to": "queues", "definition": definition}
            pattern = rng.choice(PATTERNS)
            made.append(f"{place} {pattern} {definition}")
            administration.put(place, vhost, "all", pattern=pattern, **rule)
            stopping.wait(rng.uniform(2.0, 10.0))
            administration.delete(place, vhost, "all")
            stopping.wait(rng.uniform(0.0, 2.0))

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield made
    finally:
        stopping.set()
        thread.join()


class AccountedTraffic(Traffic):
    def account(self, of: str) -> Account:
        """After the last message was published: each was handled once, or is a dead letter."""
        self._stopping.set()
        self.release()
        self._thread.join(30)
        bench = Bench(self._url)
        dead: Counter[int] = Counter()
        came, since_s = -1, time.monotonic()
        while came < 0 or (self._missing(dead) and time.monotonic() - since_s < QUIET_FOR_S):
            threading.Event().wait(POLL_S)
            dead += Counter(map(_number_of, bench.take_all("kept")))
            if len(self.handled) + dead.total() > came:
                came, since_s = len(self.handled) + dead.total(), time.monotonic()
        bench.close()
        effects = Counter(self.handled) + dead
        return Account(of, frozenset(self._confirmed | effects.keys()), frozenset(), effects)

    def _missing(self, dead: Counter[int]) -> set[int]:
        return self._confirmed - set(self.handled) - dead.keys()


def _number_of(letter: Any) -> int:
    return int(decode(letter.body).payload["execution_id"])
