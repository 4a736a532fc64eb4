"""Dead letters: listed, shown, replayed and purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.dead_letters.dead_letter import *
    from attune_mq.dead_letters.operations import *
    from attune_mq.dead_letters.replaying import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "dead_letter replaying operations")

__all__ = [
    "DeadLetter",
    "DeadLetterCount",
    "Origin",
    "Purge",
    "Replay",
    "list_dead_letters",
    "purge_dead_letters",
    "replay_dead_letters",
    "show_dead_letters",
]
