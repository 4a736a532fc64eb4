"""A message that may be deadly waits until no original waits for its acknowledgement."""

from __future__ import annotations

import threading

from attune_mq.consuming.inflight_republishes import Handover, Handovers
from tests.messaging.bench import WAIT_S


def a_handover(handovers: Handovers) -> Handover:
    handover = Handover(handovers)
    handover.begin()
    return handover


def waiting_for(handovers: Handovers, still_wanted: bool = True) -> threading.Thread:
    thread = threading.Thread(
        target=handovers.wait_until_over, args=(lambda: still_wanted,), daemon=True
    )
    thread.start()
    return thread


def test_nothing_waits_where_no_copy_is_under_way() -> None:
    Handovers().wait_until_over(lambda: True)


def test_a_message_waits_for_the_handovers_that_there_are() -> None:
    handovers = Handovers()
    with a_handover(handovers):
        waiting = waiting_for(handovers)
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(WAIT_S)

    assert not waiting.is_alive()


def test_handovers_without_end_hold_nobody_up_for_ever() -> None:
    handovers = Handovers()
    with a_handover(handovers):
        waiting = waiting_for(handovers)
        waiting.join(0.1)
        another = a_handover(handovers)
    with another:
        waiting.join(WAIT_S)

        assert not waiting.is_alive()


def test_a_message_that_can_no_longer_be_settled_does_not_wait() -> None:
    handovers = Handovers()
    with a_handover(handovers):
        waiting = waiting_for(handovers, still_wanted=False)
        waiting.join(WAIT_S)

        assert not waiting.is_alive()
