"""``--filter NAME=VALUE``: selects dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.errors import InvalidInput
from attune_mq.topology.durations import parse_duration_ms

Filter = Callable[[DeadLetter], bool]

FILTERS = {
    "type": "message type, such as EnforcementCreated",
    "reason": "reason, such as rejected, expired or 'attempts exhausted'",
    "error": "text contained in the error, ignoring case",
    "id": "message id",
    "queue": "queue in which the message died",
    "older": "died longer ago than a duration, such as 2h or 7d",
    "younger": "died more recently than that",
}


def all_of(texts: Iterable[str], now: datetime | None = None) -> Filter:
    """Matches what every one of the filters matches. A dead letter without a time of death is
    neither older nor younger than anything.

    Raises :class:`~attune_mq.errors.InvalidInput` for an invalid filter.
    """
    filters = [_filter(text, now or datetime.now(UTC)) for text in texts]
    return lambda letter: all(matches(letter) for matches in filters)


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
