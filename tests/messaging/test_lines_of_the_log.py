"""What strangers write into a message never ends a line of the log, nor forges one."""

from __future__ import annotations

import logging

import pika
import pytest

from attune_mq import Topology
from tests.messaging.bench import DEAD, QUEUE, Bench, consumer_of, failing, running
from tests.messaging.deliveries import delivery

FORGED = "m-1\r\n2026-01-01 ERROR forged\x1b[2J\x00\u2028$(reboot)'; DROP TABLE executions; --"


@pytest.mark.parametrize("body", [delivery().body, FORGED.encode()], ids=["read", "unreadable"])
def test_an_id_with_line_ends_and_escapes_stays_in_its_line(
    bench: Bench, topology: Topology, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    properties = pika.BasicProperties(
        message_id=FORGED, type=FORGED, correlation_id=FORGED, headers={FORGED: FORGED}
    )
    caplog.set_level(logging.INFO, "attune_mq")
    bench.put(QUEUE, body, properties)

    with running(consumer_of(bench, topology, failing(ValueError(FORGED)))):
        dead = bench.take_when_there(DEAD)

    assert dead.properties.message_id == FORGED
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("attune_mq")]
    assert any("forged" in line for line in ours)
    assert [line for line in ours if not line.isprintable()] == []
