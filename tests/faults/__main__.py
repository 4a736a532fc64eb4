"""``make soak``: a long run of every system, whose report goes to docs/reliability.md.

make soak ARGS="--seed 7 --seconds 600"
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from attune_mq.broker import EmbeddedBroker
from tests.databases import own_postgresql_server
from tests.faults.clock import library
from tests.faults.kinds import KINDS, kinds_for
from tests.faults.migration_runs import STATISTICS, migrating
from tests.faults.outbox_runs import setting_clocks
from tests.faults.publisher_runs import PUBLISHERS, publishing
from tests.faults.report import REPORT, Run, report, shown, write_report
from tests.faults.run import Verdict, run
from tests.faults.scenes import QUEUES, Build, counting, executing
from tests.faults.schedule import schedule
from tests.faults.stores import PostgreSQLDatabases, SQLiteFiles, Stores, small_disk

logger = logging.getLogger(__name__)

DEFAULT_SECONDS = 600.0

SCENES: Mapping[str, Build] = {
    **{f"consumers, {queue} queue": partial(counting, queue=queue) for queue in QUEUES},
    "executors": executing,
}
DATABASES = ("sqlite", "postgresql")
RunSystem = Callable[[EmbeddedBroker, Path, argparse.Namespace, float], Verdict]
"""Runs a system for so many seconds, in a folder for its files and logs."""


def systems() -> dict[str, RunSystem]:
    """By the names that the report has."""
    return {
        **{
            f"{name}, {database}": partial(_run_scene, name, database)
            for name in SCENES
            for database in DATABASES
        },
        **{name: partial(_run_publisher, name, program) for name, program in PUBLISHERS.items()},
        "migrations under policies": _run_migrations,
        **{
            f"outbox and clock, {database}": partial(_run_outbox, database)
            for database in DATABASES
            if library()
        },
    }


def main() -> int:
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("attune_mq").setLevel(logging.ERROR)
    chosen = {
        name: run_system
        for name, run_system in systems().items()
        if any(text in name for text in options.system or [""]) and options.database in name
    }
    folder = Path(tempfile.mkdtemp(prefix="attune-soak-"))
    with EmbeddedBroker(management=True, config=STATISTICS, root=options.root) as broker:
        version = broker.version
        try:
            runs = [_run(*one, broker, folder, options, of=len(chosen)) for one in chosen.items()]
        except BaseException:
            sys.stderr.write(f"What the processes said is in {folder}\n")
            raise
    for run_ in runs:
        sys.stderr.writelines(f"{run_.name}: {note}\n" for note in run_.verdict.notes)
    problems = [f"{one.name}: {problem}" for one in runs for problem in one.verdict.problems()]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    arguments = shown(sys.argv[1:])
    sys.stdout.write("\n".join(report(runs, version, arguments)) + "\n")
    if options.write:
        write_report(REPORT, runs, version, arguments)
    if problems:
        sys.stderr.write(f"What the processes said is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def _run(
    name: str,
    run_system: RunSystem,
    broker: EmbeddedBroker,
    folder: Path,
    options: argparse.Namespace,
    *,
    of: int,
) -> Run:
    """One system, for its share of the time."""
    logger.warning("%s:", name)
    folder = folder / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    try:
        return Run(name, run_system(broker, folder, options, options.seconds / of))
    except AssertionError as error:  # the other systems have their turn all the same
        return Run(name, Verdict(left_over=[str(error)]))


def _run_scene(
    system: str,
    database: str,
    broker: EmbeddedBroker,
    folder: Path,
    options: argparse.Namespace,
    seconds: float,
) -> Verdict:
    with _stores(database, folder) as stores, SCENES[system](broker, stores, folder) as scene:
        kinds = options.kind or kinds_for(scene)
        planned = schedule(f"{options.seed}: {system}, {database}", kinds)
        until_s = None if options.faults else seconds
        return run(scene, islice(planned, options.faults), until_s=until_s)


def _run_publisher(
    name: str,
    program: str,
    broker: EmbeddedBroker,
    folder: Path,
    options: argparse.Namespace,
    seconds: float,
) -> Verdict:
    return publishing(broker, folder, f"{options.seed}: {name}", seconds, program=program)


def _run_migrations(
    broker: EmbeddedBroker, _folder: Path, options: argparse.Namespace, seconds: float
) -> Verdict:
    return migrating(broker, f"{options.seed}: migrations", seconds)


def _run_outbox(
    database: str,
    broker: EmbeddedBroker,
    folder: Path,
    options: argparse.Namespace,
    seconds: float,
) -> Verdict:
    with _stores(database, folder) as stores:
        seed = f"{options.seed}: outbox, {database}"
        return setting_clocks(broker, folder, seed, seconds, stores=stores)


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
    parser.add_argument("--faults", type=int, help="so many of a scene, instead of a time")
    parser.add_argument(
        "--system", action="append", help="only those whose name holds this text; also several"
    )
    parser.add_argument("--database", default="", choices=("", *DATABASES))
    parser.add_argument("--root", type=Path, help="of another system, whose RabbitMQ is run")
    parser.add_argument(
        "--kind", action="append", choices=sorted(KINDS), help="only these, in a scene"
    )
    parser.add_argument("--write", action="store_true", help=f"the report, to {REPORT.name}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
