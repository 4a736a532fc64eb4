"""A broker's connections, and what can be done to them, as in the messaging tests."""

from tests.messaging.conftest import gate as gate, proxy as proxy, topology as topology
