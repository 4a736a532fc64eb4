"""One connection after another, to any of the hosts, with a jittered pause between attempts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from attune_mq.amqp.backoff import LONGEST_PAUSE_S, Backoff
from attune_mq.amqp.connection import Connection
from attune_mq.amqp.runtime import Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import AttuneError


class ConnectionOwner(Protocol):
    """Who uses the connections, one after the other. Called on the thread of :meth:`run`."""

    def serve(self, connection: Connection) -> AttuneError:
        """One that was opened, until it is over, and why; what it raises ends the connection."""

    def lost(self, failure: Exception, *, was_open: bool) -> None:
        """After each attempt that failed, and after each connection; also by a defect of ours."""


class Reconnecting:
    """Runs until :meth:`end`, on the caller's thread (:meth:`run`) or on one of its own
    (:meth:`start`). ``lock``: of the state of every connection, its own unless given."""

    def __init__(
        self,
        settings: BrokerSettings,
        owner: ConnectionOwner,
        *,
        name: str,
        runtime: Runtime,
        lock: threading.RLock | None = None,
    ) -> None:
        self.opened = 0
        """How many connections have been opened so far."""
        self.connection: Connection | None = None
        self._settings = settings
        self._owner = owner
        self._name = name
        self._runtime = runtime
        self._lock = lock
        self._ending = runtime.event()
        self._aborted: AttuneError | None = None
        self._thread: threading.Thread | None = None
        self._threads: list[threading.Thread] = []  # and those that an interruption left behind
        self.is_running = False
        """Whether the thread that :meth:`start` made lives."""
        self.thread_id: int | None = None
        """Of that thread, by :func:`threading.get_ident`."""

    def start(self) -> None:
        """By one thread at a time, unless it :attr:`is_running`. Where one was interrupted here,
        the thread that it made may have begun: it ends, since it is not the last that was made, and
        the next waits for that."""
        before = tuple(self._threads)
        self._thread = self._runtime.thread(self._name, lambda: self._run_thread(before))
        self._threads.append(self._thread)
        self.wake()
        self._thread.start()
        self.is_running = True

    def join(self, timeout_s: float) -> None:
        """Waits for its own thread to end."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run_thread(self, before: Sequence[threading.Thread]) -> None:
        for thread in before:
            if thread.is_alive():
                thread.join()
        if not self._is_left_behind:
            self.thread_id = threading.get_ident()
        try:
            self.run()
        finally:
            if not self._is_left_behind:
                self.thread_id = None
                self.is_running = False  # the next caller that needs it starts another

    @property
    def is_ending(self) -> bool:
        return self._ending.is_set() or self._is_left_behind

    @property
    def _is_left_behind(self) -> bool:
        here = threading.current_thread()
        return here in self._threads and here is not self._thread

    def run(self) -> None:
        backoff = Backoff(runtime=self._runtime)
        while not self.is_ending:
            self._aborted = None
            started_at_s = self._runtime.monotonic()
            self._run_connection()
            if self._runtime.monotonic() - started_at_s > LONGEST_PAUSE_S:
                backoff.reset()
            if self._aborted is None:
                self._ending.wait(backoff.next_s())

    def end(self) -> None:
        """Has :meth:`run` end, after the connection that there is. From any thread."""
        self._ending.set()
        self.wake()

    def wake(self) -> None:
        """Has the leader look at once. From any thread."""
        connection = self.connection
        if connection is not None:
            connection.loop.wake()

    def abort(self, why: AttuneError) -> None:
        """By a thread that was interrupted while it used the connection: ends it without a closing
        handshake, and another one follows at once."""
        self._aborted = why
        connection = self.connection
        if connection is not None:
            connection.loop.abort(why)

    def _run_connection(self) -> None:
        """One connection from its opening to its end."""
        failure: Exception
        was_open = False
        try:
            connection = Connection.open(
                self._settings,
                name=self._name,
                runtime=self._runtime,
                lock=self._lock,
                is_given_up=lambda: self.is_ending,
            )
            was_open = True
            self.opened += 1
            self.connection = connection
            try:
                if self._aborted is not None:  # when there was no connection to end
                    connection.loop.abort(self._aborted)
                failure = self._owner.serve(connection)
            finally:
                connection.close()
                self.connection = None
        except Exception as error:  # also a defect, of ours or of pika's: another one follows
            failure = error
        self._owner.lost(failure, was_open=was_open)
