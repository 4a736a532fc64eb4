"""Settings come from arguments, else the environment, else a file, else defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune_executor.rules import load_rules
from attune_executor.settings import load_settings
from attune_mq import InvalidInput


def test_arguments_beat_the_environment_which_beats_the_file_which_beats_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "executor.yaml"
    file.write_text("drain_s: 1\nscheduling_attempts: 2\nscheduling_delay_s: 3\n")
    monkeypatch.setenv("ATTUNE_SCHEDULING_ATTEMPTS", "20")
    monkeypatch.setenv("ATTUNE_SCHEDULING_DELAY_S", "30")

    settings = load_settings(file, scheduling_delay_s=300, instance=None)

    assert settings.drain_s == 1
    assert settings.scheduling_attempts == 20
    assert settings.scheduling_delay_s == 300
    assert settings.broker_wait_s == 30
    assert settings.instance is None


def test_all_wrong_settings_are_named_at_once_without_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATTUNE_DRAIN_S", "soon-hunter2")
    monkeypatch.setenv("ATTUNE_SCHEDULING_ATTEMPTS", "0")

    with pytest.raises(InvalidInput) as caught:
        load_settings()

    assert "drain_s" in str(caught.value)
    assert "scheduling_attempts" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "executor.yaml"
    file.write_text("drian_s: 1\n")

    with pytest.raises(InvalidInput, match="drian_s"):
        load_settings(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drain_s: [1\nurl: hunter2", r"expected YAML, it fails in line \d+"),
        ("- drain_s\n- hunter2", "expected a mapping with settings, each with its value"),
        (b"\xff\xfe\x00hunter2", "expected text in UTF-8"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_without_what_it_holds(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "executor.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(InvalidInput, match=said) as caught:
        load_settings(file)

    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected a file that can be read, got: File name too"):
        load_settings(tmp_path / ("x" * 300))


def test_passwords_do_not_show() -> None:
    settings = load_settings(url="amqp://u:hunter2@h/", database_url="postgresql://u:hunter2@h/d")

    assert "hunter2" not in repr(settings)


RULES = """\
version: 1
actions:
  core.echo: {id: 1, runtime: shell}
rules:
  demo.greet: {action: core.echo}
"""


def test_rules_name_their_actions(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)

    rules = load_rules(file)

    assert rules.actions[rules.rules["demo.greet"].action].runtime == "shell"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULES.replace("action: core.echo", "action: core.eco"), "got 'core.eco'"),
        (RULES.replace("runtime", "run_time"), "actions.core.echo.run_time"),
        ("version: [", "expected YAML"),
        ("- core.echo", "expected a mapping with version, actions and rules"),
        ("", "actions: Field required"),
    ],
)
def test_what_is_wrong_in_a_rules_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)

    with pytest.raises(InvalidInput, match=r"rules\.yaml") as caught:
        load_rules(file)

    assert said in str(caught.value)
