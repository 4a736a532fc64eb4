"""One connection after another, on a thread of its own, to any of the hosts."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pika import exceptions as pika_errors
from pika.connection import Connection

from attune_mq.amqp.backoff import LONGEST_PAUSE_S, Backoff
from attune_mq.amqp.connecting import connection_failure
from attune_mq.amqp.io_loop import SharedLoop
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable

logger = logging.getLogger(__name__)

CLOSING_S = 1.0
"""How long the broker may take to agree that the connection is closed."""


class Tenant(Protocol):
    """Who uses the connection."""

    def on_open(self, connection: DirectConnection) -> None:
        """By whoever turns its loop."""

    def on_lost(self, failure: AttuneError, *, was_open: bool) -> None:
        """After each attempt, and after each connection."""

    def on_refused(self, failure: AttuneError) -> None:
        """No host lets us in."""

    def is_busy(self) -> bool:
        """Whether something is expected of the connection; asked all the time."""


class Reconnecting:
    """Start it, use its connection, close it; with a jittered pause between attempts."""

    def __init__(self, settings: BrokerSettings, tenant: Tenant, *, name: str) -> None:
        self._settings = settings
        self._tenant = tenant
        self._name = name
        self._thread: threading.Thread | None = None
        self._threads: list[threading.Thread] = []  # and those that an interruption left behind
        self.has_started = False
        """Whether its thread lives."""
        self._closing = threading.Event()
        self._aborted = False
        self._loop: SharedLoop | None = None
        self.opened = 0
        """How many have been opened so far."""

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    @property
    def thread_id(self) -> int | None:
        """Of its thread, as :func:`threading.get_ident` has it there."""
        return self._thread.ident if self._thread is not None and self.has_started else None

    def start(self) -> None:
        """By one thread at a time, unless it :attr:`has_started`. Where one was interrupted here,
        the thread that it made may have begun: it ends, since it is not the last that was made, and
        the next waits for that."""
        before = tuple(self._threads)
        self._thread = threading.Thread(
            target=self._run, args=(before,), name=self._name, daemon=True
        )
        self._threads.append(self._thread)
        self.drop()
        self._thread.start()
        self.has_started = True

    def turn_while(self, is_wanted: Callable[[], bool], until_s: float) -> None:
        """See :meth:`SharedLoop.turn_while`."""
        loop = self._loop
        if loop is not None:
            loop.turn_while(is_wanted, until_s)

    def drop(self) -> None:
        """Ends the connection that there is, if there is one; another follows. From any thread."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(lambda: self._close_connection(loop))

    def abort(self, why: AttuneError) -> None:
        """By a thread that was interrupted while it used the connection: ends it, and another one
        follows at once. See :meth:`SharedLoop.abort`."""
        self._aborted = True
        loop = self._loop
        if loop is not None:
            loop.abort(why)

    def close(self, timeout_s: float) -> None:
        """Ends the thread; from any other."""
        self._closing.set()
        self.drop()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def _is_to_end(self) -> bool:
        return self.is_closing or self._thread is not threading.current_thread()

    def _run(self, before: Sequence[threading.Thread]) -> None:
        for one in before:
            if one.is_alive():
                one.join()
        backoff = Backoff()
        try:
            while not self._is_to_end:
                self._aborted = False
                try:
                    if self._try_each_host() > LONGEST_PAUSE_S:
                        backoff.reset()
                except Exception:  # a defect, here or in pika, must not end publishing
                    logger.exception("Publisher '%s': its connection failed", self._name)
                if not self._aborted:
                    self._closing.wait(backoff.next_s())
        finally:
            if self._thread is threading.current_thread():
                self.has_started = False  # whoever publishes next makes another

    def _try_each_host(self) -> float:
        """Until one takes messages and is lost again; for how many seconds it did.

        A host that refuses us (wrong password, no such virtual host, no trust) is an outcome for
        those who wait, unless another takes us: waiting does not mend it.
        """
        refusals: list[AttuneError] = []
        for url in random.sample(self._settings.urls, len(self._settings.urls)):
            opened = self.opened
            started_at = time.monotonic()
            failure: AttuneError = BrokerUnavailable("the connection failed: see the log")
            try:
                failure = self._run_connection(url)
            finally:
                self._tenant.on_lost(failure, was_open=self.opened > opened)
            if self._is_to_end or self._aborted or self.opened > opened:
                return time.monotonic() - started_at
            if not isinstance(failure, BrokerUnavailable):
                refusals.append(failure)
        if refusals:
            self._tenant.on_refused(refusals[0])
        return 0.0

    def _run_connection(self, url: str) -> AttuneError:
        """One connection from its opening to its end, and why it ended."""

        def on_end(_connection: Connection, error: BaseException) -> None:
            loop.end(connection_failure(error, url, self._settings))

        try:
            parameters = self._settings.parameters(url, name=self._name)
        except AttuneError as error:  # a file with a password or a certificate
            return error
        connection = DirectConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=on_end,
            on_close_callback=on_end,
        )
        self._loop = loop = SharedLoop(connection, is_busy=self._tenant.is_busy)
        if self._is_to_end or self._aborted:  # when there was no connection to end
            self.drop()
        try:
            return loop.run()
        finally:
            try:
                loop.close()  # while a thread that was interrupted still finds what it holds of it
            finally:
                self._loop = None

    def _on_open(self, connection: Connection) -> None:
        assert isinstance(connection, DirectConnection)
        self.opened += 1
        self._tenant.on_open(connection)

    @staticmethod
    def _close_connection(loop: SharedLoop) -> None:
        connection = loop.connection
        if connection.is_closing or connection.is_closed:
            return
        with contextlib.suppress(pika_errors.AMQPError):
            connection.close()
        unanswered = BrokerUnavailable("the broker does not answer")
        connection.ioloop.call_later(CLOSING_S, lambda: loop.end(unanswered))
