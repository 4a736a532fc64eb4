"""Publish one message, with the exchange and routing key that the topology gives its type."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from uuid import uuid4

from attune_mq.cli.context import Context
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_OK
from attune_mq.message.envelope import Envelope, decode_payload
from attune_mq.payloads import PAYLOAD_TYPES
from attune_mq.publishing.publisher import Publisher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="message type, such as EnforcementCreated")
    parser.add_argument("payload", metavar="PAYLOAD", help="a JSON object; - reads standard input")
    parser.add_argument("--correlation-id", help="default: the message id")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds (default: 10)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    envelope = _envelope(arguments)
    with Publisher(context.topology(), context.broker(), source_service="attune-mq") as publisher:
        receipt = publisher.publish(envelope, timeout_s=arguments.timeout)
    if context.is_json:
        context.emit({**receipt._asdict(), "queues_confirmed": True})
    else:
        context.line(
            f"published {envelope.message_type} {receipt.message_id} to exchange "
            f"'{receipt.exchange}' with routing key '{receipt.routing_key}'; confirmed by its "
            "queues"
        )
    return EXIT_OK


def _envelope(arguments: argparse.Namespace) -> Envelope:
    text = sys.stdin.read() if arguments.payload == "-" else arguments.payload
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"PAYLOAD: expected a JSON object, got invalid JSON: {error}") from None
    if not isinstance(payload, dict):
        raise InvalidInput('PAYLOAD: expected a JSON object such as \'{"rule_ref": "core.r"}\'')
    message_id = str(uuid4())
    envelope = Envelope(
        message_id=message_id,
        correlation_id=arguments.correlation_id or message_id,
        message_type=arguments.type,
        timestamp=datetime.now(UTC),
        payload=payload,
    )
    if arguments.type in PAYLOAD_TYPES:
        decode_payload(envelope, PAYLOAD_TYPES)
    return envelope
