"""Asking about one queue, also after somebody was interrupted who asked about another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attune_mq.broker import QueueInspector
from tests.messaging.bench import Bench
from tests.messaging.interruptions import LIBRARY, PIKA, At

STEP = 9
"""Of the lines of a question, and of pika's, every ninth."""


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.channel.queue_declare("empty")
    bench.channel.queue_declare("filled")
    bench.put("filled", b"one")
    yield bench
    bench.close()


def test_an_interrupted_question_leaves_its_answer_to_nobody(bench: Bench) -> None:
    """The answer was still to come, and the next question took it for its own."""
    inspector = QueueInspector(bench.url)
    lines = At(None, within=(LIBRARY, PIKA))
    assert inspector.message_count("empty") == 0
    lines.call(lambda: inspector.message_count("empty"))

    answers = []
    for place in range(1, lines.lines, STEP):
        At(place, within=(LIBRARY, PIKA)).call(lambda: inspector.message_count("empty"))
        answers.append(inspector.message_count("filled"))
    inspector.close()

    assert len(answers) > 10
    assert set(answers) == {1}
