"""Settings: arguments, else ``ATTUNE_*`` variables, else a YAML file, else defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from attune_mq import InvalidInput, logs

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Wait = Annotated[float, Field(ge=0, le=2_592_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class ExecutorSettings(BaseSettings):
    """``ATTUNE_DATABASE_URL`` is the variable of ``database_url``, and so on. The broker and the
    topology have the library's variables, ``ATTUNE_MQ_URL`` and ``ATTUNE_MQ_TOPOLOGY``."""

    model_config = SettingsConfigDict(
        env_prefix="ATTUNE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr = SecretStr("sqlite:///attune.db")
    """SQLAlchemy's: SQLite or PostgreSQL."""
    rules: Path = Path("rules.yaml")
    """The YAML file with rules and actions."""
    instance: str | None = None
    """Added to the consumer tags, to distinguish several executors."""
    broker_wait_s: Seconds = 30.0
    """How long to wait for the broker at the start."""
    drain_s: Seconds = 30.0
    """How long running handlers may take to finish after SIGTERM."""
    scheduling_attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Attempts to find a worker before an execution fails."""
    scheduling_delay_s: Seconds = 3.0
    """Between two attempts."""
    dispatch_grace_s: Seconds = 10.0
    """How long the report that an execution runs may be delayed after its dispatch has died, or
    its worker's queue is absent, before it is failed or scheduled again."""
    dispatch_limit_s: Wait = 2_400.0
    """How long an execution is ``scheduled``, or a cancellation unanswered, without a report of its
    worker. Longer than the dispatch TTL (5 min) and the broker's consumer timeout (30 min)."""
    worker_absence_s: Seconds = 300.0
    """How long a worker may be absent (no consumer on its queue), or omit its repeated reports,
    before its executions are abandoned, once the dispatch is dead."""
    running_limit_s: Wait = 86_400.0
    """How long an execution runs without a report of its worker before it is abandoned."""
    inbox_keep_days: Annotated[float, Field(ge=1)] = 7.0
    """How long the ids of handled messages are kept, to detect duplicates."""
    health_host: str = "127.0.0.1"
    """The address of the health endpoints."""
    health_port: Port = 8090
    """Their port; several executors on one machine need one each. 0 disables them."""
    tracing: Literal["off", "otel"] = "off"
    """``otel``: traces by OpenTelemetry's SDK, configured by its variables (``OTEL_*``)."""
    log_format: logs.Format = "text"
    topology: Path | None = None
    url: SecretStr | None = None
    management_url: SecretStr | None = None
    """Of RabbitMQ's HTTP API, for the metric of unacked messages, and the health of bindings."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: Any, **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = YamlConfigSettingsSource(settings_cls)
        return sources["init_settings"], sources["env_settings"], file

    @property
    def http_api_url(self) -> str | None:
        """:attr:`management_url`, else the library's own variable."""
        if self.management_url is not None:
            return self.management_url.get_secret_value()
        return os.environ.get("ATTUNE_MQ_MANAGEMENT_URL") or None


def load_settings(file: Path | None = None, **arguments: Any) -> ExecutorSettings:
    """Arguments that are ``None`` are not given.

    Raises :class:`~attune_mq.InvalidInput` with every invalid setting, and for a ``file`` that does
    not exist or has other keys.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return _reading(file)(**given)
    except ValidationError as error:
        where = f" (from {file}, the environment or the arguments)" if file else ""
        raise InvalidInput(f"settings{where}: " + "; ".join(problems_of(error))) from None


def _reading(file: Path | None) -> type[ExecutorSettings]:
    if file is None:
        return ExecutorSettings
    load_mapping(file, "settings, each with its value, as in 'drain_s: 30'")

    class FromFile(ExecutorSettings):
        model_config = SettingsConfigDict(yaml_file=file, extra="forbid")

    return FromFile


def problems_of(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        yield f"{'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}"


def load_mapping(file: Path, expected: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises :class:`~attune_mq.InvalidInput`, whose text quotes
    nothing of the file, since a password may be part of it."""
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{file}: expected a file with {expected}, found none") from None
    except OSError as error:
        problem = f"expected a file that can be read, got: {error.strerror}"
        raise InvalidInput(f"{file}: {problem}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file}: expected text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"{file}: expected YAML, it fails in line {line}") from None
    except yaml.YAMLError:
        raise InvalidInput(f"{file}: expected YAML, it has characters that are none") from None
    if not isinstance(loaded, dict | None):
        raise InvalidInput(f"{file}: expected a mapping with {expected}")
    return loaded or {}
