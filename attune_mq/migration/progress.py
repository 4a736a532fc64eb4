"""How far a migration is."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Step(Enum):
    """What a migration is doing, in this order. An exchange has the first and the last two."""

    PREPARE = "putting up the scaffold"
    DIVERT = "leading what is published through the ingress"
    PARK = "parking what is published"
    EMPTY = "emptying the old queue"
    REPLACE = "replacing it"
    FILL = "filling the new queue"
    DISMANTLE = "taking the scaffold down"


class Progress(NamedTuple):
    """``name``: of the queue or exchange. ``moved``: messages moved so far in this step."""

    name: str
    step: Step
    moved: int = 0
