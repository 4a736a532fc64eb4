"""What the page says of fields and lines is what the code writes."""

from __future__ import annotations

import json
import logging

from attune_mq import logs
from attune_mq.message import log_context as handling
from tests.docs.markdown import code_names, page
from tests.messaging.deliveries import delivery

PAGE = page("logs.md")
ROWS = PAGE.rows_under("Message fields")


def a_line(formatter: logging.Formatter) -> str:
    """Of a handling."""
    token = handling.current.set(handling.Handling(delivery()))
    record = logging.makeLogRecord({"name": "billing", "msg": "said", "levelname": "WARNING"})
    logs.MessageFields().filter(record)
    handling.current.reset(token)
    record.message_type = "OrderPlaced"
    return formatter.format(record)


def test_the_table_has_the_fields_of_a_handling() -> None:
    assert [code_names(row["field"])[0] for row in ROWS] == list(handling.FIELDS)


def test_the_table_has_their_names_in_text() -> None:
    line = a_line(logs.TextFormatter())

    assert all(f"{code_names(row['in text'])[0]}=" in line for row in ROWS)


def test_the_object_that_is_shown_has_the_form_of_one() -> None:
    [shown] = PAGE.blocks_of("json")

    assert json.loads(shown.text).keys() == json.loads(a_line(logs.JsonFormatter())).keys()
