"""A relay in a process of its own, which stops at a given point and waits there to be killed.

``python -m tests.transactional.crashing_relay URL POINT FOLDER``: what it published stands in
FOLDER/published, one message id a line; FOLDER/reached appears when it stands at the point.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import NoReturn

from sqlalchemy import Connection, MetaData, event

from attune_mq.errors import PublishError
from attune_mq.transactional import (
    OutboundMessage,
    Outbox,
    OutboxRelay,
    create_database_engine,
    define_tables,
)

LEASE = timedelta(hours=1)
POINTS = ("before publishing", "after publishing", "before the delete is committed")


class CrashingPublisher:
    def __init__(self, point: str, folder: Path) -> None:
        self._point = point
        self._folder = folder
        self.published = False

    def publish_envelopes(self, items: Sequence[OutboundMessage]) -> Sequence[PublishError | None]:
        self.stop_at("before publishing")
        with (self._folder / "published").open("a") as file:
            file.writelines(f"{message.message_id}\n" for message in items)
            file.flush()
            os.fsync(file.fileno())
        self.published = True
        self.stop_at("after publishing")
        return [None] * len(items)

    def stop_at(self, point: str) -> None:
        if point == self._point:
            (self._folder / "reached").touch()
            Event().wait()


def main(url: str, point: str, folder: Path) -> NoReturn:
    engine = create_database_engine(url)
    outbox = Outbox(define_tables(MetaData()).outbox)
    publisher = CrashingPublisher(point, folder)

    @event.listens_for(engine, "commit")
    def before_commit(_: Connection) -> None:
        if publisher.published:
            publisher.stop_at("before the delete is committed")

    OutboxRelay(engine, outbox, publisher, lease_s=LEASE.total_seconds()).run_once()
    sys.exit("the point was never reached")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
