"""The executor's page against its settings, its rules file, its tables and its command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from sqlalchemy import Engine, inspect, text

from attune_executor.__main__ import main
from attune_executor.migrations import migrate
from attune_executor.rules import Action, Rule, Rules, load_rules
from attune_executor.settings import ExecutorSettings
from attune_mq.payloads import WorkerRegistered
from attune_mq.transactional import create_database_engine
from tests.docs.markdown import code_names, page

PAGE = page("executor.md")
SETTINGS = {code_names(row["setting"])[0]: row for row in PAGE.rows_under("Settings")}


def written_default(field: FieldInfo) -> str:
    """As the column ``default`` has it."""
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == {}:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str | Path):
        return f"`{value}`" if str(value) else '`""`'
    return f"`{json.dumps(value).removesuffix('.0')}`"


def test_the_table_has_every_setting_with_its_variable_and_default() -> None:
    documented = {name: (row["variable"], row["default"]) for name, row in SETTINGS.items()}

    assert documented == {
        name: (f"`ATTUNE_{name.upper()}`", written_default(field))
        for name, field in ExecutorSettings.model_fields.items()
    }


def test_the_table_has_the_argument_of_each_setting_that_has_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    documented = {option for row in SETTINGS.values() for option in code_names(row["argument"])}

    assert documented == options - {"--help", "--config", "--embedded", "--log-level"}
    for name, row in SETTINGS.items():
        assert row["argument"] in ("", f"`--{name.replace('_', '-')}`")


def limits() -> Iterator[tuple[str, int, bool]]:
    """Values at the edges of what the table allows, and just beyond."""
    for name, row in SETTINGS.items():
        if found := re.search(r"(\d+) to (\d+)\.", row["meaning"]):
            low, high = int(found[1]), int(found[2])
            yield from ((name, low, True), (name, high, True))
            yield from ((name, low - 1, False), (name, high + 1, False))


@pytest.mark.parametrize(("name", "value", "is_allowed"), list(limits()))
def test_the_limits_of_a_setting_are_those_of_the_table(
    name: str, value: int, is_allowed: bool
) -> None:
    given: dict[str, Any] = {name: value}
    if is_allowed:
        assert getattr(ExecutorSettings(**given), name) == value
    else:
        with pytest.raises(ValidationError):
            ExecutorSettings(**given)


def test_the_table_of_the_rules_file_has_every_key_with_its_default() -> None:
    models: Mapping[str, type[BaseModel]] = {"": Rules, "actions.*.": Action, "rules.*.": Rule}
    documented = {
        code_names(row["key"])[0]: row["default"] for row in PAGE.rows_under("The rules file")
    }

    assert documented == {
        f"{prefix}{name}": written_default(field)
        for prefix, model in models.items()
        for name, field in model.model_fields.items()
    }


def test_the_rules_that_are_shown_load(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    [shown] = PAGE.blocks_of("yaml")
    file.write_text(shown.text, encoding="utf-8")

    rules = load_rules(file)

    assert set(rules.rules) == {"demo.greet", "demo.sum", "demo.off"}


def test_the_announcement_that_is_shown_is_one() -> None:
    [shown] = PAGE.blocks_of("sh")
    program, command, message_type, payload = shlex.split(shown.text)

    assert (program, command, message_type) == ("attune-mq", "publish", "WorkerRegistered")
    assert WorkerRegistered.model_validate_json(payload).worker_id == 7


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'attune.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def test_the_questions_to_the_database_can_be_asked(migrated: Engine) -> None:
    [shown] = PAGE.blocks_of("sql")
    with migrated.connect() as connection:
        for statement in shown.text.splitlines():
            connection.execute(text(statement)).all()


def test_the_tables_are_those_that_the_migrations_make(migrated: Engine) -> None:
    listed = re.search(r"Tables: (.*?)\. Moments", " ".join(PAGE.text.split()))
    assert listed is not None

    assert sorted(code_names(listed[1])) == sorted(inspect(migrated).get_table_names())
