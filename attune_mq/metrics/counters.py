"""Counters and histograms that become Prometheus's at a scrape.

prometheus_client's own counters and histograms take 0.5 and 1.1 µs, and as much again to find the
one with these labels; these take 0.4 and 0.6 (``benchmarks/telemetry.py``). They belong to no
registry, and have no ``_created`` beside each, which would double the series of a counter.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric as Family,
)

from attune_mq.metrics.table import Metric

T = TypeVar("T")
Labels = tuple[str, ...]

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0),
)
"""Bounds of the histograms, from a handler that only notes something to a night's backlog."""


MANY = 1_000
"""So many are counted at once, by the thread that adds the last; it takes a millisecond or two."""


class Counts:
    """A counter. Safe from any thread."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._counts: dict[Labels, int] = {}

    def add(self, labels: Labels, times: int = 1) -> None:
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + times

    def expect(self, labels: Labels) -> None:
        """0 until it happens: what appears as a 1 is no increase to Prometheus."""
        with self._lock:
            self._counts.setdefault(labels, 0)

    def family(self) -> Family:
        with self._lock:
            counts = dict(self._counts)
        name, _, names, text = self._metric
        family = CounterMetricFamily(name, text, labels=names)
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family


class Durations:
    """A histogram of seconds, by :data:`SECONDS`. Safe from any thread."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._buckets: dict[Labels, list[float]] = {}  # one for each bucket, and the sum

    def observe_each(self, observed: Mapping[Labels, Sequence[float]]) -> None:
        with self._lock:
            for labels, all_seconds in observed.items():
                bucket = self._buckets.get(labels)
                if bucket is None:
                    bucket = self._buckets[labels] = [0] * (len(SECONDS) + 1) + [0.0]
                for seconds in all_seconds:
                    bucket[bisect_left(SECONDS, seconds)] += 1
                bucket[-1] += sum(all_seconds)

    def family(self) -> Family:
        with self._lock:
            copied = {labels: list(bucket) for labels, bucket in self._buckets.items()}
        name, _, names, text = self._metric
        family = HistogramMetricFamily(name, text, labels=names)
        bounds = [*map(str, SECONDS), "+Inf"]
        for labels, (*counts, total) in copied.items():
            upto = zip(bounds, accumulate(counts), strict=True)
            family.add_metric(labels, list(upto), total)
        return family


class Deferred(Generic[T]):
    """Observations that are kept as they come and counted later. Safe from any thread.

    ``count`` is given them, in order: when they are many, and by :meth:`flush`, which a scrape
    calls first. Adding one is an append. To look up labels, take a lock and add where each message
    passes took 13.5 µs of processor time for a message; to do it for many at once takes 7
    (``benchmarks/telemetry.py``: ``delivered``, ``handled`` and ``settled``).
    """

    def __init__(self, count: Callable[[list[T]], None]) -> None:
        self._count = count
        self._observations: deque[T] = deque()
        self._counting = threading.Lock()

    def add(self, observation: T) -> None:
        self._observations.append(observation)
        if len(self._observations) >= MANY:
            self.flush()

    def flush(self) -> None:
        with self._counting:  # others may add meanwhile, but nobody takes what is counted on here
            self._count([self._observations.popleft() for _ in range(len(self._observations))])


def gauge(metric: Metric, values: Iterable[tuple[Labels, float]]) -> Family:
    name, _, names, text = metric
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in dict(values).items():
        family.add_metric(labels, value)
    return family
