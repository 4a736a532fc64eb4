"""What an executor weighs that has nothing to do, beside a bare consumer with its libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

from attune_mq import expand, load_topology, setup_infrastructure
from attune_mq.broker import QueueInspector
from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run
from benchmarks.sections.executing import ROOT, environment, executor

STARTS_WITHIN_S = 60.0
SETTLES_IN_S = 3.0
_OURS, _BARE = "attune-executor, SQLite", "pika, the same libraries imported"

_LIBRARIES = """
import importlib, sys
import attune_executor.__main__, attune_executor.service
names = [name for name, module in sys.modules.items()
         if "site-packages" in (getattr(module, "__file__", None) or "")]
print(*(name for name in names if not name.startswith("attune")))
"""
_CONSUMER = """
import importlib, sys
import pika
for name in sys.argv[3:]:
    importlib.import_module(name)
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
channel.basic_qos(prefetch_count=10)
channel.basic_consume(sys.argv[2], lambda *_: None)
channel.start_consuming()
"""


def measure(run: Run) -> list[Section]:
    if not Path("/proc/self/status").exists():
        return [Section("idling", "An idle process", "MB", notes=["It is read from /proc"])]
    section = Section("idling", "An idle process", "MB")
    section.ratios = [Ratio(_OURS, _BARE, at_most=1.3)]
    measured: dict[str, Callable[[], float]] = {
        _BARE: partial(_bare, run),
        _OURS: partial(_ours, run),
    }
    return [interleave(section, max(1, run.repeats - 1), measured)]


def _ours(run: Run) -> float:
    with run.node.fresh_vhost() as url:
        setup_infrastructure(load_topology(), url)
        database = f"sqlite:///{run.folder / uuid4().hex}.db"
        with executor(environment(url, database, 0), ROOT) as process:
            return _resident_mb(process, url, consumers=3)


def _bare(run: Run) -> float:
    """On the queue of the executor."""
    with run.node.fresh_vhost() as url:
        setup_infrastructure(load_topology(), url)
        command = [sys.executable, "-c", _CONSUMER, url, _queue(), *_libraries()]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            return _resident_mb(process, url, consumers=1)
        finally:
            process.terminate()
            process.wait(60)


def _libraries() -> list[str]:
    """All modules of others that an executor has imported once it runs."""
    command = [sys.executable, "-c", _LIBRARIES]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return said.stdout.split()


def _queue() -> str:
    return expand(load_topology()).queues["executions"].name


def _resident_mb(process: subprocess.Popen[bytes], url: str, *, consumers: int) -> float:
    give_up_at = time.monotonic() + STARTS_WITHIN_S
    inspector = QueueInspector(url)
    try:
        while (inspector.consumer_count(_queue()) or 0) < consumers:
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError("it did not come to consume")
            time.sleep(0.1)
    finally:
        inspector.close()
    time.sleep(SETTLES_IN_S)
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
