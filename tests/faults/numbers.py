"""What is to become of a number: most have an effect, some fail at first, some are given up."""

from __future__ import annotations

GIVEN_UP_OF = 41
"""One of so many is a dead letter."""


def is_given_up(number: int) -> bool:
    """Whether nobody will ever take it."""
    return number % GIVEN_UP_OF == 17


def fails_at_first(number: int) -> bool:
    return number % 13 == 5
