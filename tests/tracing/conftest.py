from __future__ import annotations

import pytest

from tests.messaging.conftest import bench as bench, topology as topology
from tests.tracing.spans import Spans


@pytest.fixture
def spans() -> Spans:
    return Spans()
