"""``--filter NAME=VALUE``: which dead letters are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.errors import InvalidInput
from attune_mq.topology.durations import parse_duration_ms

Filter = Callable[[DeadLetter], bool]

FILTERS = {
    "type": "the message type, such as EnforcementCreated",
    "reason": "the reason, such as rejected, expired or 'attempts exhausted'",
    "error": "a text that stands in the error, in any case",
    "id": "the message id",
    "queue": "the queue that it died in",
    "older": "dead for longer than a duration, such as 2h or 7d",
    "younger": "dead for less long than that",
}


def all_of(texts: Iterable[str], now: datetime | None = None) -> Filter:
    """Takes what every one of the filters takes. What does not say when it died is neither older
    nor younger than anything.

    Raises :class:`~attune_mq.errors.InvalidInput` for what is no filter.
    """
    filters = [_filter(text, now or datetime.now(UTC)) for text in texts]
    return lambda letter: all(takes(letter) for takes in filters)


def _filter(text: str, now: datetime) -> Filter:
    name, equals, value = text.partition("=")
    if not equals or name not in FILTERS:
        known = ", ".join(f"{known}=…" for known in FILTERS)
        raise InvalidInput(f"--filter: expected one of {known}, got {text!r}")
    match name:
        case "type":
            return lambda letter: letter.message_type == value
        case "reason":
            return lambda letter: letter.reason == value
        case "id":
            return lambda letter: letter.message_id == value
        case "queue":
            return lambda letter: letter.queue == value
        case "error":
            return lambda letter: value.casefold() in (letter.error or "").casefold()
    then = _ago(text, value, now)
    if name == "older":
        return lambda letter: letter.died_at is not None and letter.died_at < then
    return lambda letter: letter.died_at is not None and letter.died_at > then


def _ago(text: str, value: str, now: datetime) -> datetime:
    try:
        return now - timedelta(milliseconds=parse_duration_ms(value))
    except ValueError as error:
        raise InvalidInput(f"--filter: expected {error}, got {text!r}") from None
