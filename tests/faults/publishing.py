"""The publisher of the suite: numbers what it sends, and owns each message until it is confirmed.

What is not confirmed is sent again under the same message id, as a sender with an outbox does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from attune_mq import Envelope, Publisher
from attune_mq.errors import PublishManyFailed

BATCH = 10
CONFIRM_WITHIN_S = 5.0


class NumberedPublisher:
    """A thread. ``message_of``: the message of a number; ``last``: the highest, if there is one."""

    def __init__(
        self,
        publisher: Publisher,
        message_of: Callable[[int], Envelope],
        *,
        last: int | None = None,
    ) -> None:
        self._publisher = publisher
        self._message_of = message_of
        self._last = last
        self._has_room: Callable[[int], bool] = lambda _begun: True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="numbered-publisher", daemon=True)
        self._owned: dict[int, Envelope] = {}
        self.begun = 0
        """The highest number so far."""
        self.confirmed: set[int] = set()
        self.sent_again = 0

    def start(self, has_room: Callable[[int], bool]) -> None:
        """``has_room``: whether, after this number, there may be more."""
        self._has_room = has_room
        self._thread.start()

    def finish(self, deadline_s: float) -> None:
        """Nothing new; what is owned is sent until it is confirmed."""
        self._stopping.set()
        self._thread.join(deadline_s)
        assert not self._thread.is_alive(), f"{len(self._owned)} messages are not confirmed"
        self._publisher.close()

    def _run(self) -> None:
        while not self._is_over() or self._owned:
            if not self._is_over() and not self._owned:
                self._take_on()
            self._send()

    def _is_over(self) -> bool:
        return self._stopping.is_set() or (self._last is not None and self.begun >= self._last)

    def _take_on(self) -> None:
        if not self._has_room(self.begun):
            self._stopping.wait(0.02)
            return
        until = self.begun + BATCH if self._last is None else min(self._last, self.begun + BATCH)
        for number in range(self.begun + 1, until + 1):
            self._owned[number] = self._message_of(number)
        self.begun = until

    def _send(self) -> None:
        numbers = list(self._owned)
        failed: frozenset[int] = frozenset()
        try:
            self._publisher.publish_many(self._owned.values(), timeout_s=CONFIRM_WITHIN_S)
        except PublishManyFailed as error:
            failed = frozenset(numbers[index] for index in error.failures)
            self.sent_again += len(failed)
            threading.Event().wait(0.05)
        for number in set(numbers) - failed:
            self.confirmed.add(number)
            del self._owned[number]
