"""The command line in the documentation: a page a command, its options, examples that are run."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attune_executor.__main__ import main as attune_executor
from attune_mq import exit_codes
from attune_mq.cli.main import COMMANDS, main as attune_mq
from tests.docs.markdown import Block, code_names, page
from tests.docs.terminals import matches

PAGE = page("command-line.md")
OF_EXECUTOR = ("run", "health", "demo")
DOCUMENTED = [*COMMANDS, *(f"attune-executor {command}" for command in OF_EXECUTOR)]
PAGES = {command: page(f"commands/{command.replace(' ', '-')}.md") for command in DOCUMENTED}


def run(line: str) -> int:
    """One command line in this process; its exit code."""
    program, *arguments = shlex.split(line)
    mains: dict[str, Callable[[list[str]], int]] = {
        "attune-mq": attune_mq,
        "attune-executor": attune_executor,
    }
    try:
        return mains[program](arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


def options_of(line: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that ``--help`` lists, which it prints without looking at file or broker."""
    assert run(f"{line} --help") == 0
    listed = re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    return set(listed) - {"--help"}


def test_every_command_has_its_page_and_is_listed_and_no_other() -> None:
    listed = [code_names(row["command"])[0] for row in PAGE.rows_under("Commands")]
    files = {file.stem for file in (Path(__file__).parents[2] / "docs" / "commands").iterdir()}

    assert listed == DOCUMENTED
    assert files == {command.replace(" ", "-") for command in DOCUMENTED}


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_page_has_the_options_of_its_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = PAGES[command].rows_under(f"`{command}`")
    documented = {name for row in rows if "option" in row for name in code_names(row["option"])}
    line = command if command.startswith("attune-") else f"attune-mq {command}"

    assert documented == options_of(line, capsys)


def test_the_general_options_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    documented = {
        name for row in PAGE.rows_under("The command line") for name in code_names(row["option"])
    }

    assert documented == options_of("attune-mq", capsys) | {"--version"}


def test_the_exit_codes_are_those_of_the_code() -> None:
    documented = {int(row["code"]) for row in PAGE.rows_under("Exit codes")}

    assert documented == {value for value in vars(exit_codes).values() if isinstance(value, int)}


def examples() -> Iterator[tuple[Block, Block]]:
    """Each command with the text that shows what it prints."""
    blocks = [block for one in PAGES.values() for block in one.blocks]
    for block, following in itertools.pairwise(blocks):
        if block.language == "sh":
            assert following.language == "text", f"line {block.line} shows no output"
            yield block, following


def test_the_examples_print_what_is_shown(
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    [topology] = [one for one in page("tutorial.md").blocks if one.title == "topology.yaml"]
    (tmp_path / "topology.yaml").write_text(topology.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTUNE_MQ_URL", broker_url)

    for example, shown in examples():
        codes = []
        for line in example.text.splitlines():
            command, _, into = line.partition(" > ")
            codes.append(run(command))
            if into:
                (tmp_path / into).write_text(capfd.readouterr().out, encoding="utf-8")
        printed = "".join(capfd.readouterr())

        assert codes[-1] == int(example.title.removeprefix("exits ") or 0), printed
        assert matches(shown.text, printed), f"line {shown.line}:\n{printed}"
