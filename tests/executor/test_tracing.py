"""One trace across the executor, and how it is switched on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import TracerProvider

from attune_executor.service import Executor
from attune_mq.tracing import Tracing
from tests.executor.harness import SHIPPED, Harness, enforcement, eventually, settings_for
from tests.tracing.spans import Spans, parent_id, span_id, trace_ids

STORY = [
    "EnforcementCreated",
    "ExecutionRequested",
    "ExecutionRequested",  # the dispatch, which has the same type
    "ExecutionCompleted",
    "NotificationCreated",
]


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def harness(tmp_path: Path, broker_url: str, spans: Spans) -> Iterator[Harness]:
    settings = settings_for(tmp_path, broker_url, SHIPPED, tracing="otel")
    provider: TracerProvider = spans.provider
    executor = Executor(settings, tracer_provider=provider)
    executor.start()
    tracing = Tracing(executor.service.full_topology, tracer_provider=provider)
    try:
        yield Harness(executor, broker_url, telemetry=tracing)
    finally:
        executor.stop()


def said(span: ReadableSpan, name: str) -> object:
    return dict(span.attributes or {}).get(name)


def test_one_trace_leads_from_an_enforcement_to_its_notification(
    harness: Harness, spans: Spans
) -> None:
    with harness.worker(), harness.notifier(), harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        harness.seen.until(lambda: len(harness.seen.notifications) == 1)
        eventually(lambda: len(story(spans)) == 2 * len(STORY))

    published = [one for one in story(spans) if said(one, "messaging.operation.name") == "publish"]
    processed = [one for one in story(spans) if said(one, "messaging.operation.name") == "process"]
    assert [said(one, "attune.message_type") for one in published] == STORY
    assert [said(one, "attune.message_type") for one in processed] == STORY
    assert [parent_id(one) for one in processed] == [span_id(one) for one in published]
    assert [parent_id(one) for one in published[1:]] == [span_id(one) for one in processed[:-1]]


def story(spans: Spans) -> list[ReadableSpan]:
    """The trace of the enforcement: workers announce themselves in others."""
    began = [one for one in spans.ended if said(one, "attune.message_type") == STORY[0]]
    return [one for one in spans.ended if trace_ids([one]) <= trace_ids(began)]


ASKED = """
import sys
from attune_executor.settings import load_settings
from attune_executor.service import Executor
executor = Executor(load_settings(rules=sys.argv[1], topology=sys.argv[2], health_port=0,
                                  database_url="sqlite:///" + sys.argv[3]))
from opentelemetry import trace
with trace.get_tracer("a test").start_as_current_span("something"):
    pass
executor.stop()
"""


def run_asked(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    settings_for(folder, "amqp://unused", SHIPPED)
    arguments = [str(folder / "rules.yaml"), str(SHIPPED), str(folder / "attune.db")]
    environment = {**os.environ, "ATTUNE_TRACING": "otel", **variables}
    return subprocess.run(
        [sys.executable, "-c", ASKED, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_variables_of_opentelemetry_say_where_traces_go_and_in_whose_name(
    tmp_path: Path,
) -> None:
    done = run_asked(tmp_path, OTEL_TRACES_EXPORTER="console")
    assert done.returncode == 0, done.stderr
    span = json.loads(done.stdout)
    assert span["name"] == "something"
    assert span["resource"]["attributes"]["service.name"] == "attune-executor"

    done = run_asked(tmp_path, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="mine")
    assert json.loads(done.stdout)["resource"]["attributes"]["service.name"] == "mine"


def test_an_exporter_that_is_not_installed_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = run_asked(tmp_path, OTEL_TRACES_EXPORTER="otlp")

    assert "InvalidInput: tracing: expected an exporter 'otlp'" in done.stderr
    assert "pip install opentelemetry-exporter-otlp" in done.stderr


def test_traces_can_be_made_and_sent_nowhere(tmp_path: Path) -> None:
    done = run_asked(tmp_path, OTEL_TRACES_EXPORTER="none")

    assert (done.returncode, done.stdout) == (0, "")
