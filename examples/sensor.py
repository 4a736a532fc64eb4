"""A sensor: publishes an enforcement for each rule that an event matches.

    python examples/sensor.py --count 100

An unroutable or unconfirmed message raises here; it is not lost silently.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os

from attune_mq import Publisher, load_topology, setup_infrastructure
from attune_mq.payloads import EnforcementCreated

RULES = ("demo.greet", "demo.greet", "demo.sum", "demo.greet", "demo.fails", "demo.slow")


def enforcement(number: int, rule_ref: str) -> EnforcementCreated:
    return EnforcementCreated(
        enforcement_id=number,
        rule_ref=rule_ref,
        trigger_ref="demo.tick",
        payload={"tick": number},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes enforcements.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=1, help="id of the first enforcement")
    parser.add_argument("--url", default=os.environ.get("ATTUNE_MQ_URL"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s sensor    %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)

    topology = load_topology()
    setup_infrastructure(topology, options.url)
    numbers = range(options.first, options.first + options.count)
    seen = zip(numbers, itertools.cycle(RULES))
    with Publisher(topology, options.url, source_service="sensor") as publisher:
        receipts = publisher.publish_many(enforcement(number, rule) for number, rule in seen)
    logging.info("%d enforcements are in their queue", len(receipts))


if __name__ == "__main__":
    main()
