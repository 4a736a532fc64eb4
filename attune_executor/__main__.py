"""``attune-executor``: runs the executor or the demonstration, checks its health."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr

from attune_mq import AttuneError, InvalidInput
from attune_mq.exit_codes import exit_code

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
    run = commands.add_parser("run", help="run the executor until SIGTERM or Ctrl-C")
    run.add_argument("--url", help="AMQP URL of the broker (env: ATTUNE_MQ_URL)")
    run.add_argument("--topology", metavar="FILE", help="env: ATTUNE_MQ_TOPOLOGY")
    run.add_argument("--rules", metavar="FILE", help="rules and actions (default: rules.yaml)")
    run.add_argument("--database-url", metavar="URL", help="default: sqlite:///attune.db")
    run.add_argument("--instance", help="suffix of the consumer tags of this executor")
    run.add_argument("--health-port", metavar="PORT", help="health endpoints (0 disables)")
    run.add_argument("--config", metavar="FILE", type=Path, help="settings as YAML")
    run.add_argument("--embedded", action="store_true", help="start a private RabbitMQ node")
    run.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    run.add_argument("--log-format", choices=("text", "json"), help="default: text")
    run.set_defaults(run=_run)
    health = commands.add_parser("health", help="check the health of an executor")
    health.add_argument("--url", help="health URL (env: ATTUNE_HEALTH_HOST, ATTUNE_HEALTH_PORT)")
    health.add_argument("--live", action="store_true", help="check liveness instead of readiness")
    health.set_defaults(run=_health)
    demo = commands.add_parser("demo", help="run sensor, executor, workers and notifier")
    demo.add_argument("--enforcements", type=int, default=120, help="default: 120")
    demo.add_argument("--url", help="AMQP URL of a broker to use instead of a private node")
    demo.add_argument("--format", choices=("text", "json"), default="text")
    demo.set_defaults(run=_demo)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from attune_executor.service import Executor
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
        with ExitStack() as stack:
            if arguments.embedded:
                from attune_mq.broker import EmbeddedBroker

                url = stack.enter_context(EmbeddedBroker()).url
                settings = settings.model_copy(update={"url": SecretStr(url)})
            Executor(settings).run()
    except AttuneError as error:
        if settings.log_format == "text":
            raise
        logger.critical("%s", error)  # so that the last line is JSON as well
        return exit_code(error)
    return 0


def _health(arguments: argparse.Namespace) -> int:
    from attune_executor.settings import load_settings
    from attune_mq.health import ask_health

    url = arguments.url
    if url is None:
        settings = load_settings()
        if settings.health_port == 0:
            raise InvalidInput("health_port is 0, which disables health endpoints: give a --url")
        url = f"http://{reachable(settings.health_host)}:{settings.health_port}"
    answer = ask_health(url.rstrip("/") + ("/livez" if arguments.live else "/readyz"))
    for line in answer.lines:
        sys.stdout.write(f"{line}\n")
    return 0 if answer.is_good else UNHEALTHY


def reachable(host: str) -> str:
    """An address of this machine for a server that listens on all; as in a URL."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{here}]" if ":" in here else here


def _demo(arguments: argparse.Namespace) -> int:
    from attune_executor.demo.scenario import run_demo

    return run_demo(
        enforcements=arguments.enforcements, url=arguments.url, as_json=arguments.format == "json"
    )


if __name__ == "__main__":
    raise SystemExit(main())
