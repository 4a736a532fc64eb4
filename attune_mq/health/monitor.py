"""Everything that is known of a service's health, asked in one place."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from attune_mq.consuming.status import ConsumerStatus
from attune_mq.health import checks
from attune_mq.health.topology_watch import TopologyWatch
from attune_mq.message.synchronous import check_synchronous
from attune_mq.service import Service

Report = Callable[[], Any]
"""Something for ``/status``, in terms of JSON, without a secret. Answers at once."""


class Monitor:
    """Looks at a service, its consumers, its publisher, its topology, and what is added to it."""

    def __init__(self, service: Service, management_url: str | None = None) -> None:
        self._service = service
        self._topology = TopologyWatch(
            service.topology, service.settings, service.name, management_url
        )
        self._added: list[checks.Check] = []
        self._reports: dict[str, Report] = {}
        self._ready = checks.CheckHistory(self._readiness)
        self._live = checks.CheckHistory(self._liveness)
        self._started_at = datetime.now(UTC)

    def watch(self, name: str, ask: checks.Ask) -> None:
        """One more thing without which messages are not consumed as they should be."""
        check_synchronous(ask, f"watch of {name}")
        self._added.append(checks.Check(name, ask))

    def report(self, name: str, report: Report) -> None:
        """One more part of :meth:`status`, which makes nothing red."""
        check_synchronous(report, f"report of {name}")
        self._reports[name] = report

    def start(self) -> None:
        self._topology.start()

    def stop(self) -> None:
        self._topology.stop()

    def ready(self) -> checks.HealthReport:
        """Whether messages are being consumed, now."""
        return self._ready.report()

    def live(self) -> checks.HealthReport:
        """Whether this process can still consume: what is red here takes a new process."""
        return self._live.report()

    @property
    def is_stopping(self) -> bool:
        return self._service.phase in ("stopping", "stopped")

    def status(self) -> dict[str, Any]:
        """All of it, in terms of JSON."""
        service = self._service
        return {
            "service": service.name,
            "instance": service.instance,
            "phase": service.phase,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": written(self._started_at),
            "ready": as_json(self.ready()),
            "live": as_json(self.live()),
            "broker": str(service.settings),
            "consumers": [_consumer(one, time.monotonic()) for one in service.consumers],
            "publisher": {
                "trouble": service.publisher.trouble,
                "unconfirmed": service.publisher.unconfirmed_count,
                "connections": service.publisher.connections,
            },
            "topology": {
                "file": str(service.topology.sources.file),
                "conflicts": list(self._topology.conflicts),
            },
            **{name: _reported(report) for name, report in self._reports.items()},
        }

    def _readiness(self) -> list[checks.Check]:
        phase = self._service.phase
        in_phase = checks.Check("service", lambda: None if phase == "running" else f"it is {phase}")
        return [
            in_phase,
            *(
                checks.Check(
                    f"consumer {one.tag}",
                    partial(checks.consumer_trouble, one, time.monotonic()),
                    partial(checks.consumer_warning, one),
                )
                for one in self._service.consumers
            ),
            checks.Check("publisher", lambda: self._service.publisher.trouble),
            checks.Check("topology", lambda: self._topology.trouble),
            *self._added,
        ]

    def _liveness(self) -> list[checks.Check]:
        """A service that stops ends its loops, and is not to be killed for it."""
        if self._service.phase != "running":
            return []
        return [
            checks.Check(f"consumer {one.tag}", partial(checks.loop_trouble, one, time.monotonic()))
            for one in self._service.consumers
        ]


def written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(report: checks.HealthReport) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "ok": report.is_good,
        "troubles": [
            {
                "check": one.check,
                "why": one.why,
                "since": written(one.since),
                "for_s": round((now - one.since).total_seconds(), 1),
            }
            for one in report.troubles
        ],
        "warnings": [one._asdict() for one in report.warnings],
        "checks": list(report.checks),
    }


def _consumer(status: ConsumerStatus, now_s: float) -> Mapping[str, Any]:
    shown = asdict(status)
    liveness = shown.pop("liveness")
    shown["overdue"] = status.overdue
    shown["running"] = [
        asdict(one) | {"since": written(one.since), "for_s": round(one.for_s, 1)}
        for one in status.running
    ]
    shown["for_s"] = round(now_s - shown.pop("since_s"), 1)
    shown["consumers_of_queue"] = liveness and liveness["consumers"]
    shown["ready_in_queue"] = liveness and liveness["waiting"]
    shown["broker_answered_ago_s"] = liveness and round(now_s - liveness["answered_at_s"], 2)
    shown["loop_turned_ago_s"] = liveness and round(now_s - liveness["turned_at_s"], 2)
    return shown


def _reported(report: Report) -> Any:
    try:
        return report()
    except Exception as error:
        return {"error": f"the report failed: {type(error).__name__}"}
