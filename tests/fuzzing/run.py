"""Fuzzes one target, guided by coverage: ``python -m tests.fuzzing.run TARGET``, with further
options of libFuzzer.

What makes a target fail is written to ``crash-…``; put it into ``tests/fuzzing/corpus/TARGET/``,
where it stays as a test, and mend the code.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["attune_mq", "yaml", "pika.data"]):
    from tests.fuzzing.targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
