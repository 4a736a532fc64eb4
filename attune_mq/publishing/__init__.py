"""Publishing with publisher confirms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.publishing.confirms import *
    from attune_mq.publishing.publisher import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "confirms publisher")

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "MAX_IN_FLIGHT",
    "Publisher",
]
