"""Traces of the executor, by OpenTelemetry's SDK and its variables (``OTEL_*``). This module
imports OpenTelemetry, so it is imported only where tracing is on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points

from attune_mq import InvalidInput, Topology

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    from attune_mq.tracing import Tracing
except ImportError as error:
    raise InvalidInput(
        "tracing: expected OpenTelemetry's SDK, which is not installed: "
        'pip install "attune-mq[tracing]" opentelemetry-sdk opentelemetry-exporter-otlp; '
        "or leave ATTUNE_TRACING off"
    ) from error

SENDING_MS = 5_000
DEFAULT_SERVICE_NAME = "attune-executor"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class Traces:
    """``provider``: of a program that embeds an executor; else :func:`started_provider`."""

    def __init__(self, topology: Topology, provider: trace.TracerProvider | None = None) -> None:
        self._provider = provider or started_provider()
        self.telemetry = Tracing(topology, tracer_provider=self._provider)

    def send(self) -> None:
        """Sends remaining spans, within :data:`SENDING_MS`."""
        if isinstance(self._provider, TracerProvider):
            self._provider.force_flush(SENDING_MS)


def started_provider(environment: Mapping[str, str] = os.environ) -> trace.TracerProvider:
    """The provider that ``opentelemetry-instrument`` has set; else a new one, set globally.

    The SDK reads its variables; exporters are those of ``OTEL_TRACES_EXPORTER`` (``otlp`` unless
    set; ``console``; ``none``; comma-separated). Raises :class:`~attune_mq.InvalidInput` for an
    exporter that is not installed.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return trace.get_tracer_provider()
    asked = (environment.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")
    names = [name.strip() for name in asked if name.strip() != "none"]
    exporters = [_exporter(name, environment) for name in names]
    provider = TracerProvider(resource=_resource(environment))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _resource(environment: Mapping[str, str]) -> Resource:
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": DEFAULT_SERVICE_NAME})


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    found = {one.name: one for one in entry_points(group="opentelemetry_traces_exporter")}
    entry = next((found[one] for one in _entries(name, environment) if one in found), None)
    if entry is None:
        raise InvalidInput(
            f"tracing: expected an exporter '{name}' (OTEL_TRACES_EXPORTER), found only: "
            f"{', '.join(sorted(found)) or 'none'}; "
            f"for otlp: pip install opentelemetry-exporter-otlp"
        )
    exporter: SpanExporter = entry.load()()
    return exporter


def _entries(name: str, environment: Mapping[str, str]) -> list[str]:
    """The names of its entry points: OTLP has one for each of its protocols."""
    if name != "otlp":
        return [name]
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    return [_OTLP.get(protocol, protocol)] if protocol else list(_OTLP.values())
