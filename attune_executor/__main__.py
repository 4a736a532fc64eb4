"""``attune-executor``: run the executor, or the demonstration."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from attune_mq import AttuneError, InvalidInput, exit_code

if TYPE_CHECKING:
    from attune_executor.settings import ExecutorSettings

logger = logging.getLogger(__name__)

UNHEALTHY = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, as ``attune-mq`` has them."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except AttuneError as error:
        sys.stderr.write(f"attune-executor: {error}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attune-executor", description="Turns enforcements into executions, over RabbitMQ."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="the executor, until SIGTERM or Ctrl-C")
    run.add_argument("--url", help="of the broker, else ATTUNE_MQ_URL")
    run.add_argument("--topology", metavar="FILE", help="else ATTUNE_MQ_TOPOLOGY, ./topology.yaml")
    run.add_argument("--rules", metavar="FILE", help="rules and actions (default: rules.yaml)")
    run.add_argument("--database-url", metavar="URL", help="default: sqlite:///attune.db")
    run.add_argument("--instance", help="tells this executor's consumer tags from another's")
    run.add_argument("--health-port", metavar="PORT", help="of its health, 0: none (default: 8090)")
    run.add_argument("--config", metavar="FILE", type=Path, help="settings as YAML")
    run.add_argument("--embedded", action="store_true", help="on a private RabbitMQ node")
    run.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    run.add_argument("--log-format", choices=("text", "json"), help="for people or for machines")
    run.set_defaults(run=_run)
    health = commands.add_parser("health", help="asks an executor whether it is healthy")
    health.add_argument("--url", help="of its health, else ATTUNE_HEALTH_HOST, ATTUNE_HEALTH_PORT")
    health.add_argument("--live", action="store_true", help="whether it lives, not if it is ready")
    health.set_defaults(run=_health)
    demo = commands.add_parser("demo", help="sensor, executor, worker and notifier at work")
    demo.add_argument("--enforcements", type=int, default=120, help="how many (default: 120)")
    demo.add_argument("--url", help="on this broker instead of a private node")
    demo.add_argument("--format", choices=("text", "json"), default="text")
    demo.set_defaults(run=_demo)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from attune_executor.settings import load_settings
    from attune_mq import logs

    settings = load_settings(
        arguments.config,
        url=arguments.url,
        topology=arguments.topology,
        rules=arguments.rules,
        database_url=arguments.database_url,
        instance=arguments.instance,
        health_port=arguments.health_port,
        log_format=arguments.log_format,
    )
    logs.configure(arguments.log_level, format=settings.log_format)
    try:
        _run_with(settings, embedded=arguments.embedded)
    except AttuneError as error:
        if settings.log_format == "text":
            raise
        logger.critical("%s", error)  # who reads JSON reads nothing else
        return exit_code(error)
    return 0


def _run_with(settings: ExecutorSettings, *, embedded: bool) -> None:
    from attune_executor.service import Executor

    with ExitStack() as stack:
        if embedded:
            from attune_mq.broker.embedded import EmbeddedBroker

            url = stack.enter_context(EmbeddedBroker()).url
            settings = settings.model_copy(update={"url": SecretStr(url)})
        Executor(settings).run()


def _health(arguments: argparse.Namespace) -> int:
    from attune_executor.settings import load_settings
    from attune_mq import ask_health

    url = arguments.url
    if url is None:
        settings = load_settings()
        if settings.health_port == 0:
            raise InvalidInput(
                "health_port is 0, so the executor does not tell: name another --url"
            )
        url = f"http://{reachable(settings.health_host)}:{settings.health_port}"
    answer = ask_health(url.rstrip("/") + ("/livez" if arguments.live else "/readyz"))
    for line in answer.lines:
        sys.stdout.write(f"{line}\n")
    return 0 if answer.is_good else UNHEALTHY


def reachable(host: str) -> str:
    """From this machine, where a server listens on all addresses; as a URL has it."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{here}]" if ":" in here else here


def _demo(arguments: argparse.Namespace) -> int:
    from attune_executor.demo import run_demo

    return run_demo(
        enforcements=arguments.enforcements, url=arguments.url, as_json=arguments.format == "json"
    )


if __name__ == "__main__":
    raise SystemExit(main())
