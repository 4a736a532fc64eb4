"""The page about TLS against the settings, the messages, and the program ``openssl``."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from attune_mq import BrokerSettings
from attune_mq.amqp.tls import REASONS, VERDICTS
from tests.docs.markdown import code_names, page

PAGE = page("tls-and-secrets.md")
OF_NO_TLS_ERROR = {"this port speaks TLS", "connection closed before the AMQP handshake"}


def test_the_table_has_the_variable_of_each_setting_of_tls_and_secrets() -> None:
    documented = {code_names(row["variable"])[0] for row in PAGE.rows_under("What can be set")}
    elsewhere = {"urls", "heartbeat_s", "connect_timeout_s"}

    assert documented == {
        f"ATTUNE_MQ_{field.name.upper()}"
        for field in dataclasses.fields(BrokerSettings)
        if field.name not in elsewhere
    }


def test_each_message_about_trust_has_its_row() -> None:
    said = [*VERDICTS.values(), *REASONS.values()]
    rows = {code_names(row["message"])[0] for row in PAGE.rows_under("What an error means")}

    assert [text for text in said if not any(excerpt in text for excerpt in rows)] == []
    nowhere = {excerpt for excerpt in rows if not any(excerpt in text for text in said)}
    assert nowhere == OF_NO_TLS_ERROR


def test_the_commands_make_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    commands = next(block.text for block in PAGE.blocks if block.title == "authority")
    subprocess.run(
        ["sh", "-euc", commands],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )

    strictly = ("-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.crt")
    for name in (("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1")):
        verified = subprocess.run(
            ["openssl", "verify", *strictly, *name, "server.crt"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert verified.stdout.strip() == "server.crt: OK", verified.stderr
