"""Logs of the process: text for people."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """One line an event on standard error; pika only where something of its own breaks."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    logging.getLogger("pika").setLevel(logging.CRITICAL)
