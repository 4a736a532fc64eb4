"""``make soak``: a long run of every system, whose report goes to docs/reliability.md.

make soak ARGS="--seed 7 --seconds 600"
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from attune_mq.broker.embedded import EmbeddedBroker
from tests.databases import own_postgresql_server
from tests.faults.kinds import KINDS, kinds_for
from tests.faults.report import REPORT, Run, write_report
from tests.faults.run import Verdict, run
from tests.faults.scenes import QUEUES, Build, counting, executing
from tests.faults.schedule import schedule
from tests.faults.stores import PostgreSQLDatabases, SQLiteFiles, Stores, small_disk

logger = logging.getLogger(__name__)

DEFAULT_SECONDS = 600.0

SYSTEMS: Mapping[str, Build] = {
    **{f"consumers, {queue} queue": partial(counting, queue=queue) for queue in QUEUES},
    "executors": executing,
}
DATABASES = ("sqlite", "postgresql")


def main() -> int:
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("attune_mq").setLevel(logging.ERROR)
    chosen = [
        (system, database)
        for system in SYSTEMS
        for database in DATABASES
        if options.system in system and options.database in database
    ]
    folder = Path(tempfile.mkdtemp(prefix="attune-soak-"))
    with EmbeddedBroker(management=True) as broker:
        version = broker.version
        try:
            runs = [_run(*one, broker, folder, options, of=len(chosen)) for one in chosen]
        except BaseException:
            sys.stderr.write(f"What the processes said is in {folder}\n")
            raise
    problems = [f"{one.name}: {problem}" for one in runs for problem in one.verdict.problems()]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if options.write:
        write_report(REPORT, runs, version, sys.argv[1:])
    if problems:
        sys.stderr.write(f"What the processes said is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def _run(
    system: str,
    database: str,
    broker: EmbeddedBroker,
    folder: Path,
    options: argparse.Namespace,
    *,
    of: int,
) -> Run:
    """One system on one database, for its share of the time."""
    name = f"{system}, {database}"
    logger.warning("%s:", name)
    folder = folder / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    with _stores(database, folder) as stores, SYSTEMS[system](broker, stores, folder) as scene:
        kinds = options.kind or kinds_for(scene)
        planned = schedule(f"{options.seed}: {name}", kinds)
        until_s = None if options.faults else options.seconds / of
        try:
            verdict = run(scene, islice(planned, options.faults), until_s=until_s)
        except AssertionError as error:  # the other systems have their turn all the same
            verdict = Verdict(left_over=[str(error)])
    return Run(name, verdict)


@contextmanager
def _stores(database: str, folder: Path) -> Iterator[Stores]:
    if database == "postgresql":
        with own_postgresql_server() as server:
            yield PostgreSQLDatabases(server)
    else:
        disk = folder / "disk"
        disk.mkdir()
        with small_disk(disk) as is_small:
            yield SQLiteFiles(disk, on_a_small_disk=is_small)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the schedule (default: 1)")
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="of all runs")
    parser.add_argument("--faults", type=int, help="so many a run, instead of a time")
    parser.add_argument("--system", default="", help="only those whose name holds this text")
    parser.add_argument("--database", default="", choices=("", *DATABASES))
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only these faults")
    parser.add_argument("--write", action="store_true", help=f"the report, to {REPORT.name}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
