"""The brokers of the tests: real nodes, private to one test run, never one that was there before.

* ``broker_url``: a fresh virtual host for each test, on one ``EmbeddedBroker`` with management.
* ``broker``: that node, shared by all tests of the run.
* ``rabbitmq``: the connection of pytest-rabbitmq, to a node of its own, for the plain cases.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pika
import pytest
from pytest_rabbitmq import factories
from pytest_rabbitmq.factories.executor import RabbitMqExecutor

from attune_mq.broker import EmbeddedBroker
from attune_mq.broker.embedded_node import Installation
from attune_mq.errors import RabbitMQNotInstalled
from tests import secret_canaries

_watch = secret_canaries._watch
_no_secret_is_logged = secret_canaries._no_secret_is_logged


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's ATTUNE_MQ_URL must not send a test to a broker that somebody uses."""
    for name in [name for name in os.environ if name.startswith("ATTUNE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """A private node for the whole run. The HTTP API tells its counters every half second.

    Like every node of the tests it runs the RabbitMQ below ``RABBITMQ_TEST_ROOT``, if that is set.
    """
    with EmbeddedBroker(management=True, config={"collect_statistics_interval": 500}) as node:
        yield node


@pytest.fixture(scope="session")
def fault_broker() -> Iterator[EmbeddedBroker]:
    """A node for the tests that kill, pause or starve it. Each leaves it running.

    It takes messages up to 1,000,000 bytes, as later brokers do up to 16 MiB.
    """
    with EmbeddedBroker(management=True, config={"max_message_size": 1_000_000}) as node:
        yield node


@pytest.fixture
def broker_url(broker: EmbeddedBroker) -> Iterator[str]:
    """The URL of a virtual host that only this test knows; it is deleted afterwards."""
    with broker.fresh_vhost() as url:
        yield url


def pytest_configure(config: pytest.Config) -> None:
    """Point pytest-rabbitmq to the server, where its options do not.

    And let Ctrl-C be what it is at a terminal: a run in the background is given a SIGINT that is
    ignored, and hands that on to the programs that the tests start and interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(RabbitMQNotInstalled):  # pure tests run without one
        system = Installation.find()
        folder = Path(tempfile.mkdtemp(prefix="attune-mq-programs-"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        config.option.rabbitmq_server = config.option.rabbitmq_server or program(
            folder / "rabbitmq-server", system.command(system.server)
        )
        config.option.rabbitmq_ctl = config.option.rabbitmq_ctl or program(
            folder / "rabbitmqctl", system.command(system.server.with_name("rabbitmqctl"))
        )


def program(path: Path, command: list[str]) -> str:
    """A program that is this command, for who takes a path alone."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return str(path)


_node_of_pytest_rabbitmq = factories.rabbitmq_proc()


@pytest.fixture(scope="session")
def rabbitmq_proc(
    broker: EmbeddedBroker, request: pytest.FixtureRequest
) -> Iterator[RabbitMqExecutor]:
    """pytest-rabbitmq's node, which would listen on all addresses and leave an epmd behind.

    So it takes the loopback address and the epmd of ``broker``, and a cookie that it does not have
    to write to the home directory.
    """
    kept = {name: broker.environment[name] for name in ("ERL_EPMD_PORT", "ERL_EPMD_ADDRESS")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kept.items():
            patch.setenv(name, value)
        patch.setenv("ERL_ZFLAGS", broker.environment["ERL_ZFLAGS"] + " -setcookie of-the-tests")
        patch.setenv("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        patch.setenv("RABBITMQ_CONF_ENV_FILE", "/nonexistent")
        node: RabbitMqExecutor = request.getfixturevalue("_node_of_pytest_rabbitmq")
        yield node


def _nothing_to_clear(node: RabbitMqExecutor, connection: pika.BlockingConnection) -> None:
    """Tests with ``rabbitmq`` declare what goes with their connection; others use ``broker_url``.

    The plugin's own clean-up takes two calls of rabbitmqctl, a second, for every test.
    """


rabbitmq = factories.rabbitmq("rabbitmq_proc", teardown=_nothing_to_clear)
