"""What rules look up of a topology."""

from __future__ import annotations

from attune_mq.lint.facts import Facts
from attune_mq.topology.loading import parse_topology
from tests.topology.test_flow import CONTRACTS


def facts(text: str) -> Facts:
    return Facts(parse_topology(f"version: 1\n{text}"))


def test_what_becomes_of_dead_letters_is_known_for_each_key_that_they_can_have() -> None:
    found = facts(CONTRACTS)
    created, kept, nobody = (
        found.network.queue_at["queues", key] for key in ("created", "all", "nobody")
    )

    assert {death.routing_key: death.queues for death in found.deaths(created)} == {
        "thing.created": ("q.dead",),
        "q.created": ("q.dead",),  # the key of a message that comes back for another try
    }
    assert found.deaths(kept) == found.deaths(nobody) == ()
    assert found.deaths_by_any_key(kept) == ()


def test_without_messages_the_literal_keys_of_bindings_are_known() -> None:
    """As in a file that was imported from a broker, where nobody says who publishes what."""
    imported = facts(CONTRACTS[: CONTRACTS.index("messages:")])

    deaths = imported.deaths(imported.network.queue_at["queues", "created"])
    assert [death.routing_key for death in deaths] == ["thing.crated", "thing.created"]
