"""The spans of a test, as OpenTelemetry's SDK records them."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from tests.waiting import wait_until


class Spans:
    """A provider of its own: OpenTelemetry's global one can be set once only."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def ended(self) -> list[ReadableSpan]:
        """In the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def wait_for(self, count: int) -> list[ReadableSpan]:
        wait_until(lambda: len(self.ended) >= count, f"{count} spans have ended")
        assert len(self.ended) == count, [span.name for span in self.ended]
        return self.ended

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.ended if span.name == name)
        return span


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_ids(spans: list[ReadableSpan]) -> set[int]:
    return {span.context.trace_id for span in spans if span.context is not None}


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def linked_ids(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]
