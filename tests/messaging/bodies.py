"""Bodies as the wire has them, written out by hand: an envelope, and each type's payloads.

Each payload stands with the value that it is, and with the names of the fields that may be missing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import SecretStr

from attune_mq import payloads as p
from attune_mq.payloads import ExecutionStatus

ENVELOPE = """{
 "message_id": "550e8400-e29b-41d4-a716-446655440000",
 "correlation_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
 "message_type": "ExecutionRequested",
 "version": "1.1",
 "timestamp": "2026-09-03T12:34:56.789123Z",
 "headers": {"retry_count": 2, "source_service": "api-service",
             "trace_id": "0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11",
             "tenant": null, "route": {"hops": [1, 2.5, "ü"]}},
 "payload": {"execution_id": 12001, "action_id": 44, "action_ref": "core.echo",
             "parent_id": null, "enforcement_id": null, "config": {"message": "hello"}}}"""


REQUEST = p.ExecutionRequested(
    execution_id=12001, action_id=44, action_ref="core.echo", config={"message": "hello"}
)
"""The payload of ENVELOPE."""


def body(*without: str, **changed: object) -> bytes:
    """ENVELOPE, changed at the top level."""
    fields = {key: value for key, value in json.loads(ENVELOPE).items() if key not in without}
    return json.dumps(fields | changed).encode()


def canonical(text: str | bytes) -> str:
    """JSON text tells 1 from true and from 1.0, which Python's equality does not."""
    return json.dumps(json.loads(text), sort_keys=True)


def with_config(json_text: str) -> bytes:
    """ENVELOPE with another value as its payload's config."""
    return ENVELOPE.replace('{"message": "hello"}', json_text).encode()


class Body(NamedTuple):
    value: p.Payload
    wire: str
    optional: frozenset[str] = frozenset()


def may_lack(names: str) -> frozenset[str]:
    return frozenset(names.split())


NOON = datetime(2026, 9, 3, 12, 0, tzinfo=UTC)
PRECISE = datetime(2026, 9, 3, 12, 34, 56, 789123, tzinfo=UTC)

BODIES = {
    "EventCreated": Body(
        p.EventCreated(
            event_id=9223372036854775807,
            trigger_id=3,
            trigger_ref="core.timer",
            sensor_id=4,
            sensor_ref="core.timer_sensor",
            payload={"temperature": 21.5, "unit": "°C", "tags": [None, True, {}]},
            config={"every": "10s"},
        ),
        """{"event_id": 9223372036854775807, "trigger_id": 3, "trigger_ref": "core.timer",
            "sensor_id": 4, "sensor_ref": "core.timer_sensor",
            "payload": {"temperature": 21.5, "unit": "°C", "tags": [null, true, {}]},
            "config": {"every": "10s"}}""",
        may_lack("trigger_id sensor_id sensor_ref config"),
    ),
    "EventCreated, the least": Body(
        p.EventCreated(event_id=-1, trigger_ref="core.hook", payload=None),
        """{"event_id": -1, "trigger_id": null, "trigger_ref": "core.hook", "sensor_id": null,
            "sensor_ref": null, "payload": null, "config": null}""",
        may_lack("trigger_id sensor_id sensor_ref config"),
    ),
    "EnforcementCreated": Body(
        p.EnforcementCreated(
            enforcement_id=7,
            rule_id=8,
            rule_ref="core.on_timer",
            event_id=9,
            trigger_ref="core.timer",
            payload={"a": None},
            release_id=10,
            release_digest="sha256:00ff",
        ),
        """{"enforcement_id": 7, "rule_id": 8, "rule_ref": "core.on_timer", "event_id": 9,
            "trigger_ref": "core.timer", "payload": {"a": null}, "release_id": 10,
            "release_digest": "sha256:00ff"}""",
        may_lack("rule_id event_id release_id release_digest"),
    ),
    "EnforcementCreated, the least": Body(
        p.EnforcementCreated(enforcement_id=7, rule_ref="r", trigger_ref="t", payload=[]),
        """{"enforcement_id": 7, "rule_id": null, "rule_ref": "r", "event_id": null,
            "trigger_ref": "t", "payload": []}""",
        may_lack("rule_id event_id"),
    ),
    "ExecutionRequested": Body(
        p.ExecutionRequested(
            execution_id=12001,
            action_id=44,
            action_ref="core.echo",
            parent_id=12000,
            enforcement_id=7,
            config={"message": "hello"},
            release_id=10,
            release_digest="sha256:00ff",
        ),
        """{"execution_id": 12001, "action_id": 44, "action_ref": "core.echo", "parent_id": 12000,
            "enforcement_id": 7, "config": {"message": "hello"}, "release_id": 10,
            "release_digest": "sha256:00ff"}""",
        may_lack("action_id parent_id enforcement_id config release_id release_digest"),
    ),
    "ExecutionRequested, the least": Body(
        p.ExecutionRequested(execution_id=12001, action_ref="core.echo"),
        """{"execution_id": 12001, "action_id": null, "action_ref": "core.echo",
            "parent_id": null, "enforcement_id": null, "config": null}""",
        may_lack("action_id parent_id enforcement_id config"),
    ),
    "ExecutionRequested, a dispatch": Body(
        p.ExecutionDispatch(
            execution_id=12001,
            worker_id=5,
            action_ref="core.echo",
            config={"message": "hello"},
            scheduled_attempt_updated_at=PRECISE,
        ),
        """{"execution_id": 12001, "worker_id": 5, "action_ref": "core.echo",
            "config": {"message": "hello"},
            "scheduled_attempt_updated_at": "2026-09-03T12:34:56.789123Z"}""",
        may_lack("config"),
    ),
    "ExecutionStatusChanged": Body(
        p.ExecutionStatusChanged(
            execution_id=12001,
            action_ref="core.echo",
            previous_status=ExecutionStatus.CANCELING,
            new_status=ExecutionStatus.CANCELLED,
            changed_at=NOON,
        ),
        """{"execution_id": 12001, "action_ref": "core.echo", "previous_status": "canceling",
            "new_status": "cancelled", "changed_at": "2026-09-03T12:00:00Z"}""",
    ),
    "ExecutionCompleted": Body(
        p.ExecutionCompleted(
            execution_id=12001,
            action_id=44,
            action_ref="core.echo",
            status=ExecutionStatus.TIMEOUT,
            result={"stdout": "hello\n", "exit_code": 0},
            completed_at=NOON,
        ),
        """{"execution_id": 12001, "action_id": 44, "action_ref": "core.echo",
            "status": "timeout", "result": {"stdout": "hello\\n", "exit_code": 0},
            "completed_at": "2026-09-03T12:00:00Z"}""",
        may_lack("result"),
    ),
    "ExecutionCancelRequested": Body(
        p.ExecutionCancelRequested(execution_id=12001, worker_id=5),
        '{"execution_id": 12001, "worker_id": 5}',
    ),
    "InquiryCreated": Body(
        p.InquiryCreated(
            inquiry_id=1,
            execution_id=2,
            prompt="Deploy?",
            response_schema={"type": "boolean"},
            assigned_to=3,
            timeout_at=NOON,
        ),
        """{"inquiry_id": 1, "execution_id": 2, "prompt": "Deploy?",
            "response_schema": {"type": "boolean"}, "assigned_to": 3,
            "timeout_at": "2026-09-03T12:00:00Z"}""",
        may_lack("response_schema assigned_to timeout_at"),
    ),
    "InquiryCreated, the least": Body(
        p.InquiryCreated(inquiry_id=1, execution_id=2, prompt=""),
        """{"inquiry_id": 1, "execution_id": 2, "prompt": "", "response_schema": null,
            "assigned_to": null, "timeout_at": null}""",
        may_lack("response_schema assigned_to timeout_at"),
    ),
    "InquiryResponded": Body(
        p.InquiryResponded(
            inquiry_id=1, execution_id=2, response=False, responded_by=3, responded_at=NOON
        ),
        """{"inquiry_id": 1, "execution_id": 2, "response": false, "responded_by": 3,
            "responded_at": "2026-09-03T12:00:00Z"}""",
        may_lack("responded_by"),
    ),
    "NotificationCreated": Body(
        p.NotificationCreated(
            notification_id=1,
            channel="executions",
            entity_type="execution",
            entity="12001",
            activity="completed",
            content="done",
        ),
        """{"notification_id": 1, "channel": "executions", "entity_type": "execution",
            "entity": "12001", "activity": "completed", "content": "done"}""",
        may_lack("content"),
    ),
    "RuleCreated": Body(
        p.RuleCreated(
            rule_id=1,
            rule_ref="core.r",
            trigger_id=2,
            trigger_ref="core.t",
            action_id=3,
            action_ref="core.a",
            trigger_params={"every": 10},
            enabled=True,
        ),
        """{"rule_id": 1, "rule_ref": "core.r", "trigger_id": 2, "trigger_ref": "core.t",
            "action_id": 3, "action_ref": "core.a", "trigger_params": {"every": 10},
            "enabled": true}""",
        may_lack("trigger_id action_id trigger_params"),
    ),
    "RuleEnabled": Body(
        p.RuleEnabled(rule_id=1, rule_ref="core.r", trigger_ref="core.t", trigger_params=[1]),
        """{"rule_id": 1, "rule_ref": "core.r", "trigger_ref": "core.t",
            "trigger_params": [1]}""",
        may_lack("trigger_params"),
    ),
    "RuleDisabled": Body(
        p.RuleDisabled(rule_id=1, rule_ref="core.r", trigger_ref="core.t"),
        '{"rule_id": 1, "rule_ref": "core.r", "trigger_ref": "core.t"}',
    ),
    "RuleDeleted": Body(
        p.RuleDeleted(rule_id=1, rule_ref="core.r", trigger_id=2, trigger_ref="core.t"),
        '{"rule_id": 1, "rule_ref": "core.r", "trigger_id": 2, "trigger_ref": "core.t"}',
        may_lack("trigger_id"),
    ),
    "PackRegistered": Body(
        p.PackRegistered(
            pack_id=1, pack_ref="core", version="2.0.0", runtime_names=("shell", "python")
        ),
        """{"pack_id": 1, "pack_ref": "core", "version": "2.0.0",
            "runtime_names": ["shell", "python"]}""",
    ),
    "PackDeleted": Body(
        p.PackDeleted(pack_id=1, pack_ref="core"), '{"pack_id": 1, "pack_ref": "core"}'
    ),
    "PackTestRequested": Body(
        p.PackTestRequested(
            pack_install_id=1,
            pack_ref="core",
            pack_version="2.0.0",
            candidate_path="/packs/core",
            candidate_access_token=SecretStr("s3cr3t-t0ken"),
            trigger_reason="install",
            required_runtimes=("python",),
            worker_selector={"zone": "a"},
            worker_tolerations=[{"key": "gpu"}],
            worker_affinity={},
        ),
        """{"pack_install_id": 1, "pack_ref": "core", "pack_version": "2.0.0",
            "candidate_path": "/packs/core", "candidate_access_token": "s3cr3t-t0ken",
            "trigger_reason": "install", "required_runtimes": ["python"],
            "worker_selector": {"zone": "a"}, "worker_tolerations": [{"key": "gpu"}],
            "worker_affinity": {}}""",
        may_lack("candidate_path candidate_access_token"),
    ),
    "PackTestRequested, the least": Body(
        p.PackTestRequested(
            pack_install_id=1,
            pack_ref="core",
            pack_version="2.0.0",
            trigger_reason="manual",
            required_runtimes=(),
            worker_selector=None,
            worker_tolerations=[],
            worker_affinity=None,
        ),
        """{"pack_install_id": 1, "pack_ref": "core", "pack_version": "2.0.0",
            "candidate_path": null, "trigger_reason": "manual", "required_runtimes": [],
            "worker_selector": null, "worker_tolerations": [], "worker_affinity": null}""",
        may_lack("candidate_path"),
    ),
    "ActionChanged": Body(
        p.ActionChanged(
            action_id=1, action_ref="core.a", pack_ref="core", operation="update", updated_at=NOON
        ),
        """{"action_id": 1, "action_ref": "core.a", "pack_ref": "core", "operation": "update",
            "updated_at": "2026-09-03T12:00:00Z"}""",
    ),
    "TriggerChanged": Body(
        p.TriggerChanged(trigger_id=1, trigger_ref="t", operation="delete", updated_at=NOON),
        """{"trigger_id": 1, "trigger_ref": "t", "pack_ref": null, "operation": "delete",
            "updated_at": "2026-09-03T12:00:00Z"}""",
        may_lack("pack_ref"),
    ),
    "RuntimeChanged": Body(
        p.RuntimeChanged(
            runtime_id=1, runtime_ref="r", pack_ref="core", operation="create", updated_at=NOON
        ),
        """{"runtime_id": 1, "runtime_ref": "r", "pack_ref": "core", "operation": "create",
            "updated_at": "2026-09-03T12:00:00Z"}""",
        may_lack("pack_ref"),
    ),
    "PackChanged": Body(
        p.PackChanged(pack_id=1, pack_ref="core", operation="update", updated_at=NOON),
        """{"pack_id": 1, "pack_ref": "core", "operation": "update",
            "updated_at": "2026-09-03T12:00:00Z"}""",
    ),
    "PermissionSetChanged": Body(
        p.PermissionSetChanged(
            permission_set_id=1, permission_set_ref="ops", operation="update", updated_at=NOON
        ),
        """{"permission_set_id": 1, "permission_set_ref": "ops", "operation": "update",
            "updated_at": "2026-09-03T12:00:00Z"}""",
    ),
    "IdentityAuthorizationChanged": Body(
        p.IdentityAuthorizationChanged(identity_id=1, operation="update", updated_at=NOON),
        '{"identity_id": 1, "operation": "update", "updated_at": "2026-09-03T12:00:00Z"}',
    ),
    "WorkerRegistered": Body(
        p.WorkerRegistered(worker_id=5, name="w5", runtimes=("shell",), registered_at=NOON),
        """{"worker_id": 5, "name": "w5", "runtimes": ["shell"],
            "registered_at": "2026-09-03T12:00:00Z"}""",
    ),
}
"""By message type, and after a comma what is special."""
