"""A message that may be deadly waits until no original waits for its acknowledgement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from attune_mq.consuming.inflight_republishes import InFlightRepublishes
from tests.messaging.bench import WAIT_S


@contextmanager
def a_republish(republishes: InFlightRepublishes) -> Iterator[None]:
    republish = republishes.opened()
    yield
    republishes.ended(republish)


def waiting_for(republishes: InFlightRepublishes, still_wanted: bool = True) -> threading.Thread:
    thread = threading.Thread(
        target=republishes.wait_until_over, args=(lambda: still_wanted,), daemon=True
    )
    thread.start()
    return thread


def test_nothing_waits_where_no_copy_is_under_way() -> None:
    InFlightRepublishes().wait_until_over(lambda: True)


def test_a_message_waits_for_the_republishes_that_there_are() -> None:
    republishes = InFlightRepublishes()
    with a_republish(republishes):
        waiting = waiting_for(republishes)
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(WAIT_S)

    assert not waiting.is_alive()


def test_republishes_without_end_hold_nobody_up_for_ever() -> None:
    republishes = InFlightRepublishes()
    with ExitStack() as another:
        with a_republish(republishes):
            waiting = waiting_for(republishes)
            waiting.join(0.1)
            another.enter_context(a_republish(republishes))
        waiting.join(WAIT_S)

        assert not waiting.is_alive()


def test_a_message_that_can_no_longer_be_settled_does_not_wait() -> None:
    republishes = InFlightRepublishes()
    with a_republish(republishes):
        waiting = waiting_for(republishes, still_wanted=False)
        waiting.join(WAIT_S)

        assert not waiting.is_alive()
