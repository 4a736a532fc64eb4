"""A process of its own that replays dead letters, says on standard output when so many are sent,
and is killed there, or anywhere after it, by the test that started it."""

from __future__ import annotations

import sys

from attune_mq import replay_dead_letters
from tests.messaging.bench import QUEUE, topology_of


def main(url: str, say_at: int) -> None:
    def say(sent: int) -> None:
        if sent == say_at:
            print(f"{sent} sent", flush=True)  # noqa: T201 - what the test waits for

    replay_dead_letters(QUEUE, topology_of(), url, on_progress=say)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
