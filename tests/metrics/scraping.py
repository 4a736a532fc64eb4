"""A scrape, as Prometheus would read it."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from attune_mq.metrics import Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    def __init__(self, metrics: Metrics) -> None:
        self.content_type, self.body = metrics.exposition()
        self.families = list(text_string_to_metric_families(self.body.decode()))
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """``None``: it is not told."""
        return self.samples.get((f"attune_mq_{name}", frozenset(labels.items())))

    def of(self, name: str) -> list[dict[str, str]]:
        """The labels of each of its samples."""
        return [dict(labels) for found, labels in self.samples if found == f"attune_mq_{name}"]

    def labels(self, label: str) -> set[Any]:
        return {value for _, labels in self.samples for name, value in labels if name == label}
