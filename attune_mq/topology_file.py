"""The topology file: where it is looked for, and reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from attune_mq.errors import InvalidInput
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology

MAX_FILE_BYTES = 64 * 1024 * 1024
PACKAGED_FILE = Path(__file__).with_name("topology.yaml")
"""The copy that travels in the wheel."""
_REPOSITORY_FILE = Path(__file__).parent.parent / "topology.yaml"


class TopologyFileError(InvalidInput):
    """The topology file is not there or cannot be read."""


TopologySource = Topology | str | os.PathLike[str] | None
"""A topology, the path of a file, or nothing for the default file."""


def topology_from(source: TopologySource) -> Topology:
    """Raises what :func:`load_topology` raises."""
    return source if isinstance(source, Topology) else load_topology(source)


def load_topology(
    path: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None
) -> Topology:
    """Reads and checks a topology file.

    Without a ``path``: the file that ``ATTUNE_MQ_TOPOLOGY`` names, else ``./topology.yaml``, else
    the copy inside the package. ``environment`` holds the variables that ``${NAME}`` takes; that
    of the process unless given.

    Raises :class:`TopologyFileError` where there is no readable file, and
    :class:`~attune_mq.topology.source.InvalidTopology` with every problem of its text.
    """
    variables = os.environ if environment is None else environment
    file = Path(path) if path is not None else find_topology_file(variables)
    return parse_topology(_read(file), file=str(file), environment=variables)


def find_topology_file(environment: Mapping[str, str]) -> Path:
    """The default file."""
    named = environment.get("ATTUNE_MQ_TOPOLOGY")
    if named:
        return Path(named)
    here = Path("topology.yaml")
    if here.exists():
        return here
    return PACKAGED_FILE if PACKAGED_FILE.exists() else _REPOSITORY_FILE


def _read(file: Path) -> str:
    hint = "name another with --topology or ATTUNE_MQ_TOPOLOGY"
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise TopologyFileError(f"{file}: expected {MAX_FILE_BYTES:,} bytes at most, got more")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TopologyFileError(
            f"{file}:{line}: expected text in UTF-8, got the byte {data[error.start]:#04x}"
        ) from None
    except FileNotFoundError:
        raise TopologyFileError(f"{file}: expected a topology file, found none; {hint}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TopologyFileError(f"{file}: cannot be read: {reason}; {hint}") from error
