"""Secrets that stand in the file itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.source import Where

_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:(?P<secret>[^\s/@\"']+)@", re.IGNORECASE)
_BY_KEY = re.compile(
    r"""(?:^|[\s,{"'_-])(?:password|passwd|passphrase|secret|api[_-]?key|(?:access|auth)[_-]?token)
        ["']?\s*:\s*["']?(?P<secret>[^\s"'{}\[\],\#][^\s"',}]*)""",
    re.IGNORECASE | re.VERBOSE,
)
_FROM_ENVIRONMENT = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}?")
_COMMENT = re.compile(r"(?:^|\s)#")
"""In which prose stands, such as "the password: see …"; a URL in it is one all the same."""
_DEFAULT_USER = "guest"
"""What every RabbitMQ has, and takes from its own host only."""


@rule("error")
def password_in_file(facts: Facts) -> Iterator[Fault]:
    """A password in the file.

    A topology file is committed, reviewed, packaged, drawn and printed. A password in it, or in a
    URL in a comment of it, is known to everyone who ever sees the repository, and stays in its
    history when the line is gone. The file has no need of one: the URL of the broker comes from the
    command line or from `ATTUNE_MQ_URL`.

    Fix: Take it out, and change the password: it is no secret any more.
    """
    file = facts.whole.sources.file
    for number, line in enumerate(facts.whole.sources.text.split("\n"), start=1):
        for found in (_IN_URL.search(line), _BY_KEY.search(_COMMENT.split(line)[0])):
            if found is not None and _is_secret(found["secret"]):
                where = Where(file, number, found.start("secret") + 1, "")
                yield Fault(where, "a password stands in the file (not repeated here)")
                break


def masked(line: str) -> str:
    """The line as it can be shown."""
    for pattern in (_IN_URL, _BY_KEY):
        found = pattern.search(line)
        if found is not None and _is_secret(found["secret"]):
            line = f"{line[: found.start('secret')]}***{line[found.end('secret') :]}"
    return line


def _is_secret(text: str) -> bool:
    return text != _DEFAULT_USER and _FROM_ENVIRONMENT.fullmatch(text) is None
