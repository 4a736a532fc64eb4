"""Whether what a publisher said of its messages is so. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.accounts import some


class Said(StrEnum):
    """What became of one message, as its publisher has it.

    ``UNKNOWN``: it may be in its queue or not. So is a message of which nothing is said, since its
    publisher was interrupted or killed.
    """

    RECEIPT = "receipt"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ReceiptAccount:
    """Of one queue. ``said``: by the number of a message; each was published once. ``arrived``: how
    often each number came out of the queue."""

    of: str
    said: Mapping[int, Said]
    arrived: Counter[int]

    @property
    def receipts(self) -> frozenset[int]:
        return frozenset(number for number, said in self.said.items() if said is Said.RECEIPT)

    @property
    def false_receipts(self) -> list[int]:
        """Said to be in the queue, and lost."""
        return sorted(self.receipts - self.arrived.keys())

    @property
    def false_refusals(self) -> list[int]:
        """Said not to be in the queue, and there. Who publishes it again has it twice."""
        refused = {number for number, said in self.said.items() if said is Said.REFUSED}
        return sorted(refused & self.arrived.keys())

    @property
    def doubled(self) -> list[int]:
        return sorted(number for number, count in self.arrived.items() if count > 1)

    def problems(self) -> list[str]:
        figures = {
            "false receipts": self.false_receipts,
            "false refusals": self.false_refusals,
            "doubled": self.doubled,
        }
        return [
            f"{self.of}: {what}: {len(numbers)} of {len(self.said)}: {some(numbers)}"
            for what, numbers in figures.items()
            if numbers
        ]
