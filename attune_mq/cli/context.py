"""What every command of the command line works with."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attune_mq.exit_codes import (
    CONFLICT as CONFLICT,
    FOUND as FOUND,
    OK as OK,
    REFUSED as REFUSED,
    UNREACHABLE as UNREACHABLE,
    WRONG_INPUT as WRONG_INPUT,
)

if TYPE_CHECKING:
    from attune_mq.amqp.settings import BrokerSettings
    from attune_mq.topology.model import Topology


@dataclass(frozen=True)
class Context:
    """The general options. Standard output is for a command's answer and nothing else."""

    topology_path: str | None = None
    url: str | None = None
    management: str | None = None
    format: str = "text"

    @property
    def is_json(self) -> bool:
        return self.format == "json"

    @property
    def management_url(self) -> str | None:
        return self.management or os.environ.get("ATTUNE_MQ_MANAGEMENT_URL") or None

    @property
    def is_coloured(self) -> bool:
        """Colour is for people at a terminal who have not asked for none (https://no-color.org)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def topology(self) -> Topology:
        from attune_mq.topology_file import load_topology

        return load_topology(self.topology_path)

    def broker(self) -> BrokerSettings:
        from attune_mq.amqp.settings import BrokerSettings

        return BrokerSettings.of(self.url)

    def emit(self, value: object) -> None:
        """One JSON document."""
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, text: str = "") -> None:
        print(text)

    def note(self, text: str) -> None:
        """For people, on standard error."""
        print(text, file=sys.stderr)
