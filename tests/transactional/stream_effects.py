"""A stream, and what handling its messages does to a database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, Table, select

from attune_mq import Message, Topology, parse_topology
from attune_mq.transactional import StreamPositions, define_stream_positions

STREAM = "log"
_FILE = """
version: 1
queues:
  log: {name: log, type: stream, ARGUMENTS}
messages:
  ExecutionRequested: {exchange: "", routing_key: log, publishers: [api]}
consumers:
  reader: {service: tests, queue: log, prefetch: 10, offset: stored}
"""
_LONG = "arguments: {x-max-age: 7D}"
SHORT = "arguments: {x-stream-max-segment-size-bytes: 10000}, max_length_bytes: 20000"


def topology_of_stream(arguments: str = _LONG) -> Topology:
    return parse_topology(_FILE.replace("ARGUMENTS", arguments), file="topology.yaml")


class Effects:
    """One row for each time that a message had its effect."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._metadata = MetaData()
        self._table = Table("effects", self._metadata, Column("number", Integer, nullable=False))
        self.positions = StreamPositions(define_stream_positions(self._metadata), engine)

    def create(self) -> None:
        self._metadata.create_all(self._engine)

    def drop(self) -> None:
        self._metadata.drop_all(self._engine)

    def handle(self, message: Message[Any]) -> None:
        """A handler."""
        with self._engine.begin() as tx:
            if self.positions.advance(tx, message):
                tx.execute(self._table.insert().values(number=message.payload.execution_id))

    def numbers(self) -> list[int]:
        with self._engine.begin() as tx:
            return sorted(row.number for row in tx.execute(select(self._table)))
