from tests.messaging.conftest import gate, proxy

__all__ = ["gate", "proxy"]
