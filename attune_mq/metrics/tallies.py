"""Counters and histograms that are told in Prometheus's terms at a scrape.

prometheus_client's own counters and histograms take 0.5 and 1.1 µs, and as much again to find the
one with these labels; these take 0.4 and 0.6 (``benchmarks/telemetry.py``). They belong to no
registry, and tell of no ``_created`` beside each, which would double the series of a counter.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric as Family,
)

from attune_mq.metrics.table import Metric

Labels = tuple[str, ...]

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0),
)
"""Bounds of the histograms, from a handler that only notes something to a night's backlog."""


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
        """Told as 0 until it happens: what appears as a 1 is no increase to Prometheus."""
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
    """A histogram of seconds. Safe from any thread."""

    def __init__(self, metric: Metric, bounds: Sequence[float] = SECONDS) -> None:
        self._metric = metric
        self._bounds = bounds
        self._lock = threading.Lock()
        self._tallies: dict[Labels, list[float]] = {}  # one for each bucket, and the sum

    def observe_each(self, observed: Mapping[Labels, Sequence[float]]) -> None:
        with self._lock:
            for labels, all_seconds in observed.items():
                tally = self._tallies.get(labels)
                if tally is None:
                    tally = self._tallies[labels] = [0] * (len(self._bounds) + 1) + [0.0]
                for seconds in all_seconds:
                    tally[bisect_left(self._bounds, seconds)] += 1
                tally[-1] += sum(all_seconds)

    def family(self) -> Family:
        with self._lock:
            told = {labels: list(tally) for labels, tally in self._tallies.items()}
        name, _, names, text = self._metric
        family = HistogramMetricFamily(name, text, labels=names)
        bounds = [*map(str, self._bounds), "+Inf"]
        for labels, (*buckets, total) in told.items():
            upto = zip(bounds, accumulate(buckets), strict=True)
            family.add_metric(labels, list(upto), total)
        return family


def gauge(metric: Metric, values: Iterable[tuple[Labels, float]]) -> Family:
    name, _, names, text = metric
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in dict(values).items():
        family.add_metric(labels, value)
    return family
