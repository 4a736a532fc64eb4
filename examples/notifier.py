"""A notifier: prints one line of JSON for each notification.

python examples/notifier.py
"""

from __future__ import annotations

import logging
import os

from attune_mq import Message, Service
from attune_mq.payloads import NotificationCreated


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s notifier  %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    service = Service("notifier", broker=os.environ.get("ATTUNE_MQ_URL"), wait_s=30)

    @service.on(NotificationCreated)
    def tell(message: Message[NotificationCreated]) -> None:
        print(message.payload.model_dump_json(), flush=True)

    service.run()


if __name__ == "__main__":
    main()
