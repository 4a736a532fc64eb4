"""Dead letters as ``attune-mq dlq`` shows them: in JSON, and to people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from attune_mq.cli.objects import printable
from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.dead_letters.destinations import place
from attune_mq.dead_letters.operations import DeadLetterCount
from attune_mq.dead_letters.replaying import Replay
from attune_mq.message.masking import shown_body

BODY_SHOWN = 400
"""In characters, to people; JSON has all of it."""
OBSTACLES_SHOWN = 10


def as_json(letter: DeadLetter) -> dict[str, Any]:
    exchange, routing_key = letter.origin or (None, None)
    return {
        "message_id": letter.message_id,
        "message_type": letter.message_type,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "died_at": letter.died_at.astimezone(UTC).isoformat() if letter.died_at else None,
        "exchange": exchange,
        "routing_key": routing_key,
        "body": shown_body(letter.body),
    }


def in_words(letter: DeadLetter) -> Iterator[str]:
    yield printable(f"{letter.message_type or 'no type'}  {letter.message_id or 'no id'}")
    died = [
        letter.reason or "of an unknown reason",
        f"after {counted(letter.attempts, 'attempt')}" if letter.attempts else "",
        f"in {letter.queue}" if letter.queue else "",
        f"at {letter.died_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if letter.died_at else "",
    ]
    yield printable("  died    " + " ".join(part for part in died if part))
    if letter.error:
        yield printable(f"  error   {letter.error}")
    if letter.origin:
        yield printable(f"  from    {place(*letter.origin)}")
    yield _body(shown_body(letter.body))


def _body(body: Any) -> str:
    """Of an envelope the payload alone; the rest is above."""
    is_envelope = isinstance(body, dict) and "payload" in body
    name, value = ("payload", body["payload"]) if is_envelope else ("body   ", body)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(f"  {name} {text if len(text) <= BODY_SHOWN else text[:BODY_SHOWN] + '…'}")


def table(found: Sequence[DeadLetterCount]) -> Iterator[str]:
    counts = ["-" if one.messages is None else str(one.messages) for one in found]
    count_width = max(map(len, counts), default=0)
    name_width = max((len(one.queue) for one in found), default=0)
    for count, one in zip(counts, found, strict=True):
        remark = " (is not there)" if one.messages is None else ""
        head = f"{count:>{count_width}}  {one.queue:<{name_width}}"
        yield printable(f"{head}  in {one.dead_letter_queue}{remark}")


def replayed(replay: Replay, *, would: bool) -> Iterator[str]:
    """Where to, how many, and what stays."""
    sends, leaves = ("would send", "would leave") if would else ("sent", "left")
    for (exchange, routing_key, _), count in replay.destinations:
        yield printable(f"{sends} {count} to {place(exchange, routing_key)}")
    unroutable = f", {replay.unroutable} of them unroutable" if replay.unroutable else ""
    yield printable(
        f"{sends} {replay.replayed}, {leaves} {replay.left} in {replay.dead_letter_queue}"
        f"{unroutable}"
    )


def obstacles(replay: Replay) -> Iterator[str]:
    """Why some that were asked for stay; the reasons of the most first."""
    most_first = sorted(replay.obstacles, key=lambda obstacle: -obstacle[1])
    for why, count in most_first[:OBSTACLES_SHOWN]:
        yield printable(f"{count} cannot be sent: {why}")
    if len(most_first) > OBSTACLES_SHOWN:
        others = sum(count for _, count in most_first[OBSTACLES_SHOWN:])
        yield f"{others} more cannot be sent, for {len(most_first) - OBSTACLES_SHOWN} other reasons"


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
