"""Writes what the documentation shows of the shipped topology: pictures, and the file's schema.

    python scripts/pictures.py            write them
    python scripts/pictures.py --check    exit 1 where one is not current

A test holds them current, so nothing that changes by itself (a finding of lint, a date, a path) is
in them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attune_mq import parse_topology
from attune_mq.rendering import to_mermaid, to_svg
from attune_mq.topology import topology_schema

ROOT = Path(__file__).parents[1]
PAGE = """\
# The shipped topology

<!-- Made by `make pictures` from topology.yaml; do not edit. -->

Publishers are on the left, then exchanges, queues, and consumers. Red: used by dead letters only.
Dashed: exists once for each worker.

![{summary}](topology.svg)

The same as Mermaid, which many editors and sites render:

```mermaid
{mermaid}```
"""


def contents() -> dict[Path, str]:
    """Every generated file, with its content."""
    topology = parse_topology((ROOT / "topology.yaml").read_text(encoding="utf-8"))
    svg = to_svg(topology)
    summary = svg.partition('aria-label="')[2].partition('"')[0]
    schema = json.dumps(topology_schema(), indent=2, ensure_ascii=False)
    return {
        ROOT / "docs" / "topology.svg": svg,
        ROOT / "docs" / "topology.md": PAGE.format(summary=summary, mermaid=to_mermaid(topology)),
        ROOT / "docs" / "topology.schema.json": f"{schema}\n",
    }


def outdated() -> list[Path]:
    return [
        path
        for path, content in contents().items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]


def main() -> int:
    if "--check" in sys.argv[1:]:
        stale = outdated()
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not current: make pictures\n")
        return 1 if stale else 0
    for path, content in contents().items():
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
