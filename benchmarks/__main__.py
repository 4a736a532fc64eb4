"""All benchmarks, on a private node: a table, JSON, and the picture of ``docs/performance.md``.

python -m benchmarks                         # all of them; `make bench` does that
python -m benchmarks --only consuming        # one of them
python -m benchmarks --scale 0.01 --repeats 1    # does it work at all?
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from attune_mq.broker import EmbeddedBroker
from benchmarks.drawing import svg
from benchmarks.results import Section, as_json, table
from benchmarks.running import Run

SECTIONS = (
    "starting",
    "consuming",
    "publishing",
    "latency",
    "declaring",
    "executing",
    "idling",
    "growing",
)
RESULTS, PICTURE = Path("benchmarks/results.json"), Path("docs/performance.svg")
PAGE, BEGIN, END = Path("docs/performance.md"), "<!-- figures -->", "<!-- end of figures -->"
DRAWN = ("consuming", "publishing")


def main(arguments: list[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    sections: list[Section] = []
    began = time.monotonic()
    with EmbeddedBroker(management=True) as node, tempfile.TemporaryDirectory() as folder:
        run = Run(node, Path(folder), asked.repeats, asked.scale, asked.first)
        for name in asked.only or SECTIONS:
            print(f"{name} …", file=sys.stderr, flush=True)
            for section in import_module(f"benchmarks.sections.{name}").measure(run):
                sections.append(section)
                print(table(section), flush=True)
        machine = _machine(node)
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    if asked.write:
        _write(sections, machine, scale=asked.scale)


def _write(sections: list[Section], machine: dict[str, Any], *, scale: float) -> None:
    """What ``docs/performance.md`` shows."""
    RESULTS.write_text(as_json(sections, machine))
    if drawn := [section for section in sections if section.name in DRAWN]:
        PICTURE.write_text(svg(drawn))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    tables = "\n".join(table(section) for section in sections)
    amounts = f"Amounts: {scale:g} of the usual ones." if scale != 1 else ""
    PAGE.write_text(f"{before}{BEGIN}\nMeasured on: {where}. {amounts}\n\n{tables}{END}{after}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", action="append", choices=SECTIONS, help="more than once: several")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the usual amounts")
    parser.add_argument("--first", type=Path, help="a checkout to measure the executor against")
    parser.add_argument("--write", action="store_true", help="the page, the picture and the JSON")
    return parser


def _machine(node: EmbeddedBroker) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "rabbitmq": node.version,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


if __name__ == "__main__":
    main()
