"""One measurement in this process; the result as JSON on standard output.

python -m benchmarks.clients CLIENT URL QUEUE COUNT PREFETCH
"""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.clients.measuring import Client, Task

HOMES = ("attune", "bare_pika", "others")


def client(name: str) -> Client:
    for home in HOMES:
        clients: dict[str, Client] = importlib.import_module(f"benchmarks.clients.{home}").CLIENTS
        if name in clients:
            return clients[name]
    raise SystemExit(f"no client {name!r}")


def main(name: str, url: str, queue: str, count: str, prefetch: str) -> None:
    timing = client(name)(Task(url, queue, int(count), int(prefetch)))
    json.dump(timing._asdict(), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
