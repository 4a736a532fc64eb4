"""Draw the topology: publishers, exchanges, bindings, queues, consumers and, in a colour of their
own, the paths of dead letters. Lint findings are marked."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attune_mq.cli.context import Context
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_OK
from attune_mq.lint import lint
from attune_mq.rendering import to_dot, to_mermaid, to_svg

FORMATS: dict[str, Callable[..., str]] = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}
_OF_SUFFIX = {"mmd": "mermaid", "gv": "dot"}
PNG_PROGRAM = "rsvg-convert"
PNG_SCALE = "2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--to", choices=(*FORMATS, "png"), help="default: by the suffix of FILE, else mermaid")
    add("--output", metavar="FILE", help="default: standard output")
    add("--no-findings", action="store_true", help="do not mark lint findings")


def run(arguments: argparse.Namespace, context: Context) -> int:
    output = Path(arguments.output) if arguments.output else None
    kind = arguments.to or _kind_of(output)
    program = _png_program() if kind == "png" else None
    topology = context.topology()
    findings = () if arguments.no_findings else lint(topology)
    if program is None:
        _write(FORMATS[kind](topology, findings).encode(), output)
    else:
        _write(_as_png(program, to_svg(topology, findings)), output)
    return EXIT_OK


def _kind_of(output: Path | None) -> str:
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    kind = _OF_SUFFIX.get(suffix, suffix)
    return kind if kind in (*FORMATS, "png") else "mermaid"


def _png_program() -> str:
    program = shutil.which(PNG_PROGRAM)
    if program is None:
        raise InvalidInput(
            f"--to png requires the program {PNG_PROGRAM} (Debian: librsvg2-bin, Fedora: "
            "librsvg2-tools, Homebrew: librsvg), which was not found; --to svg requires none"
        )
    return program


def _as_png(program: str, svg: str) -> bytes:
    command = [program, "--format=png", f"--zoom={PNG_SCALE}"]
    drawn = subprocess.run(command, input=svg.encode(), capture_output=True, check=False)
    if drawn.returncode:
        error = drawn.stderr.decode(errors="replace").strip()
        raise InvalidInput(f"{PNG_PROGRAM} cannot draw it: {error}")
    return drawn.stdout


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(f"--output {output}: cannot be written: {reason}") from error
