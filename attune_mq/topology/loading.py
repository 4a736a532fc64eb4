"""YAML text to :class:`Topology`. Every problem of a file is reported at once."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from attune_mq.topology.document import Document, read_document
from attune_mq.topology.durations import FROM_FILE
from attune_mq.topology.model import Topology
from attune_mq.topology.references import reference_problems
from attune_mq.topology.source import InvalidTopology, Problem
from attune_mq.topology.validation import model_problems, shown

NO_ENVIRONMENT: Mapping[str, str] = {}


def parse_topology(
    text: str, *, file: str = "<text>", environment: Mapping[str, str] = NO_ENVIRONMENT
) -> Topology:
    """The topology that ``text`` describes.

    ``file`` names the text in messages. ``environment`` holds the variables that ``${NAME}`` and
    ``${NAME:-default}`` take; an empty one counts as missing where there is a default.

    Raises :class:`InvalidTopology` with every problem of the text, each with its line.
    """
    document = read_document(text, file=file, environment=environment)
    problems = list(document.problems)
    topology = None
    if isinstance(document.data, dict):
        topology, invalid = _validated(document)
        problems += invalid
        problems += reference_problems(document)
        problems += _traps(document, problems)
    else:
        expected = "a mapping with the key 'version'"
        problems.append(Problem(document.sources.where(), expected, shown(document.data)))
    if problems or topology is None:
        raise InvalidTopology(problems)
    return topology.changed(document.sources)


def _validated(document: Document) -> tuple[Topology | None, list[Problem]]:
    try:
        topology = Topology.model_validate(
            document.data, context=FROM_FILE, by_alias=True, by_name=False
        )
    except ValidationError as error:
        return None, model_problems(error, document)
    return topology, []


def _traps(document: Document, reported: list[Problem]) -> list[Problem]:
    """Scalars that readers of YAML disagree about, where no other problem names the place."""
    places = {problem.where for problem in reported}
    trapped = ((document.sources.where(*path), path, why) for path, why in document.traps.items())
    return [
        Problem(where, "a quoted text or a plain value", shown(_at(document.data, path)), why)
        for where, path, why in trapped
        if where not in places
    ]


def _at(data: object, path: tuple[str | int, ...]) -> object:
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return data
