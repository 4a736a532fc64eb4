"""``attune-mq graph``: pictures to standard output or a file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from attune_mq.rendering import to_dot, to_mermaid, to_svg
from attune_mq.topology_file import load_topology
from tests.cli.running import Run, runner

FILE = """\
version: 1
exchanges: {dead: {name: dead, type: direct}}
queues: {work: {name: work, dead_letter: {to: dead}}, rest: {name: rest, ttl: 24h}}
bindings: [{source: dead, destination: rest, routing_key: "#"}]
consumers: {worker: {service: worker, queue: work}}
"""
ENTRY = [sys.executable, "-c", "import sys; from attune_mq.cli.main import main; sys.exit(main())"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def run(file: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(capfd, "--topology", str(file))


def test_the_command_draws_the_shipped_file_as_svg(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "topology.yaml"

    drawn = subprocess.run(
        [*ENTRY, "graph", "--to", "svg", "--topology", str(shipped)],
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert ET.fromstring(drawn.stdout).tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn.stderr == b""


def test_mermaid_is_what_is_drawn_unless_asked_for_another(run: Run) -> None:
    assert run("graph").out.startswith("flowchart LR\n")
    assert run("graph", "--to", "dot").out.startswith("digraph topology {\n")
    assert run("graph", "--to", "svg").out.startswith("<svg ")


def test_what_lint_finds_is_marked_unless_it_is_not_wanted(run: Run, file: Path) -> None:
    topology = load_topology(file)

    marked, bare = run("graph"), run("graph", "--no-findings")

    assert (marked.code, bare.code) == (0, 0)
    assert "wildcard-on-direct-exchange" in marked.out
    assert bare.out == to_mermaid(topology)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("picture.svg", to_svg),
        ("picture.dot", to_dot),
        ("picture.gv", to_dot),
        ("picture.mmd", to_mermaid),
        ("picture.md", to_mermaid),
    ],
)
def test_the_name_of_the_output_tells_the_kind(
    run: Run, file: Path, tmp_path: Path, name: str, draw: type[str]
) -> None:
    ran = run("graph", "--no-findings", "--output", str(tmp_path / name))

    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / name).read_text("utf-8") == draw(load_topology(file))


def test_the_kind_that_is_asked_for_counts_more_than_the_name(run: Run, tmp_path: Path) -> None:
    run("graph", "--to", "dot", "--output", str(tmp_path / "picture.svg"))

    assert (tmp_path / "picture.svg").read_text().startswith("digraph")


def test_png_without_its_program_says_what_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    ran = run("graph", "--to", "png", "--output", str(tmp_path / "picture.png"))

    assert (ran.code, ran.out) == (2, "")
    assert "--to png requires the program rsvg-convert" in ran.err
    assert not (tmp_path / "picture.png").exists()


def _program(folder: Path, script: str) -> None:
    path = folder / "rsvg-convert"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_png_is_what_the_program_makes_of_the_svg(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, "printf 'PNG of '; head -c 4")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    ran = run("graph", "--output", str(tmp_path / "picture.png"))

    assert ran.code == 0
    assert (tmp_path / "picture.png").read_bytes() == b"PNG of <svg"


def test_a_program_that_fails_is_reported_with_its_words(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, "cat >/dev/null; echo 'no font' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    ran = run("graph", "--to", "png")

    assert (ran.code, ran.out) == (2, "")
    assert "rsvg-convert cannot draw it: no font" in ran.err


def test_an_output_that_cannot_be_written_is_reported(run: Run, tmp_path: Path) -> None:
    ran = run("graph", "--output", str(tmp_path / "missing" / "picture.svg"))

    assert ran.code == 2
    assert "cannot be written: No such file or directory" in ran.err
