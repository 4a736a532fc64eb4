"""Logs of a service: text for people, or one JSON object a line for machines.

::

    from attune_mq import logs

    logs.configure("info", format="json")

While a message is handled, every record of that thread, of any logger, has the fields
``message_id``, ``correlation_id``, ``message_type``, ``consumer_tag``, ``queue`` and ``attempt``. A
service with a logging configuration of its own adds :class:`MessageFields` to its handlers.

Line breaks and control characters are escaped, so that no value forges a line or moves the cursor
of a terminal. Passwords in URLs are masked. The library logs no payload.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from attune_mq.message.log_context import FIELDS, current_fields

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

MASK = "…"
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/?#:@'\"]*:)[^\s/?#'\"]*@", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTINUED = "\n  | "
"""Before each further line of an entry, which cannot look like an entry of its own then."""
_SHORT = {
    "message_id": "message",
    "correlation_id": "correlation",
    "message_type": "type",
    "consumer_tag": "tag",
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, *, format: Format = "text", stream: TextIO | None = None) -> None:
    """Makes the root logger write only to ``stream`` (default: standard error), in this format.

    pika's loggers are set to CRITICAL: the library logs connection errors itself. For programs;
    libraries do not configure logging.
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(MessageFields())
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("pika").setLevel(logging.CRITICAL)


class MessageFields(logging.Filter):
    """Adds the fields of the message that is being handled to each record; drops none.

    For a handler, since a filter of a logger does not see records of its child loggers. A field
    given by ``extra`` takes precedence.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in current_fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class TextFormatter(logging.Formatter):
    """``12:34:56 WARNING billing: no mail server [message=… attempt=2]``, then the traceback on
    marked lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, self.datefmt)} {record.levelname:<7} {record.name}: "
        line += _one_entry(record.getMessage())
        fields = " ".join(
            f"{_SHORT.get(name, name)}={_one_entry(str(value))}"
            for name in FIELDS
            if (value := getattr(record, name, None)) is not None
        )
        line += f" [{fields}]" if fields else ""
        for more in (_traceback(self, record), record.stack_info):
            line += _CONTINUED + _one_entry(more) if more else ""
        return line


class JsonFormatter(logging.Formatter):
    """``{"time": …, "level": …, "logger": …, "message": …}``, the fields of the message, ``extra``
    fields, and ``exception``. ASCII only, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_password(record.getMessage()),
        }
        entry |= {name: value for name in FIELDS if (value := getattr(record, name, None))}
        extra = vars(record).keys() - _STANDARD - entry.keys() - set(FIELDS)
        entry |= {name: _jsonable(getattr(record, name)) for name in sorted(extra)}
        traceback = _traceback(self, record)
        if traceback:
            entry["exception"] = without_password(traceback)
        if record.stack_info:
            entry["stack"] = without_password(record.stack_info)
        return json.dumps(entry, default=str)


def without_password(text: str) -> str:
    """``text`` with the password of each URL masked."""
    return _PASSWORD.sub(rf"\g<1>{MASK}@", text) if "://" in text else text


def _one_entry(text: str) -> str:
    """Printable, and with further lines marked as such."""
    masked = without_password(text).replace("\r\n", "\n")
    return _CONTROLS.sub(_escaped, masked).replace("\n", _CONTINUED)


def _escaped(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode("ascii")


def _jsonable(value: object) -> object:
    if isinstance(value, str):
        return without_password(value)
    return value if isinstance(value, int | float | bool | None) else without_password(str(value))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return record.exc_text or ""


def _moment(created_s: float) -> str:
    moment = datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
