from __future__ import annotations

import pytest

from tests.tracing.spans import Spans


@pytest.fixture
def spans() -> Spans:
    return Spans()
