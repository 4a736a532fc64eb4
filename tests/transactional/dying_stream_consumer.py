"""A consumer of a stream in a process of its own, which stops at a point and waits to be killed.

``python -m tests.transactional.dying_stream_consumer DATABASE BROKER POINT FOLDER``: FOLDER/reached
appears when it stands at the point, with the third message.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import Connection, event

from attune_mq.consuming.consumer import Consumer
from attune_mq.consuming.handlers import Handlers
from attune_mq.message.delivery import Message
from attune_mq.payloads import ExecutionRequested
from attune_mq.transactional import create_database_engine
from tests.transactional.stream_effects import Effects, topology_of_stream

POINTS = ("before the effect", "before the commit", "after the commit", "after the handler")


def main(database_url: str, broker_url: str, point: str, folder: Path) -> None:
    engine = create_database_engine(database_url)
    effects = Effects(engine)
    handlers = Handlers()
    third = Event()

    def stop_at(here: str) -> None:
        if here == point and third.is_set():
            (folder / "reached").touch()
            Event().wait()

    @event.listens_for(engine, "commit")
    def before_commit(_: Connection) -> None:
        stop_at("before the commit")

    @handlers.on(ExecutionRequested)
    def handle(message: Message[Any]) -> None:
        number = message.payload.execution_id
        if number == 3:  # the third was handled, and its acknowledgement is on its way
            stop_at("after the handler")
        elif number == 2:
            third.set()
        stop_at("before the effect")
        effects.handle(message)
        stop_at("after the commit")

    Consumer(
        topology_of_stream(), "reader", handlers, broker_url, positions=effects.positions
    ).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
