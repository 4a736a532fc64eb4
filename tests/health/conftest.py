"""The bench of the messaging tests: a small topology, and what can be done to its connections."""

from tests.messaging.conftest import (
    bench as bench,
    gate as gate,
    proxy as proxy,
    topology as topology,
)
