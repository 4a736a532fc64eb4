"""What the broker writes of deaths is read, and what anybody else writes does no harm."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from attune_mq.message.deaths import MAX_DEATHS, Death, deaths_of
from tests.messaging.deliveries import delivery

WRITTEN = {
    "queue": "work.queue",
    "reason": "expired",
    "count": 2,
    "exchange": "work",
    "routing-keys": ["requested", "copied"],
    "time": datetime(2026, 9, 3, tzinfo=UTC),
    "original-expiration": "1000",
}
READ = Death(
    "work.queue", "expired", 2, "work", ("requested", "copied"), datetime(2026, 9, 3, tzinfo=UTC)
)


def test_deaths_are_read_newest_first_as_the_broker_writes_them() -> None:
    older = WRITTEN | {"queue": "older"}

    assert [death.queue for death in deaths_of({"x-death": [WRITTEN, older]})] == [
        "work.queue",
        "older",
    ]
    assert deaths_of({"x-death": [WRITTEN]}) == (READ,)


@pytest.mark.parametrize(
    "headers", [None, {}, {"x-death": None}, {"x-death": "text"}, {"x-death": [1, None, "x", []]}]
)
def test_a_header_that_is_none_is_no_death(headers: Any) -> None:
    assert deaths_of(headers) == ()


@pytest.mark.parametrize("lacking", ["queue", "reason"])
def test_a_death_without_a_queue_or_a_reason_is_none(lacking: str) -> None:
    entry = {name: value for name, value in WRITTEN.items() if name != lacking}

    assert deaths_of({"x-death": [entry]}) == ()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"count": "many"}, {"count": 1}),
        ({"count": -5}, {"count": 1}),
        ({"exchange": 7}, {"exchange": ""}),
        ({"routing-keys": "requested"}, {"routing_keys": ()}),
        ({"routing-keys": ["requested", 7]}, {"routing_keys": ("requested",)}),
        ({"time": "yesterday"}, {"time": None}),
    ],
)
def test_what_is_not_of_its_type_is_left_out(
    changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    (death,) = deaths_of({"x-death": [WRITTEN | changed]})

    assert {name: getattr(death, name) for name in expected} == expected


def test_of_very_many_deaths_the_newest_are_read() -> None:
    assert len(deaths_of({"x-death": [WRITTEN] * (MAX_DEATHS + 1)})) == MAX_DEATHS


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "expired"]) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(WRITTEN)), inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(headers=st.dictionaries(st.sampled_from(["x-death", "x-attune-attempt"]), anything))
def test_no_header_however_odd_is_an_error(headers: dict[str, Any]) -> None:
    one = delivery(headers=headers)

    assert one.failures >= 0
    assert isinstance(one.deaths, tuple)
    assert one.died_in is None or isinstance(one.died_in, str)
