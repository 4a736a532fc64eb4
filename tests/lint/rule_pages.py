"""The pages of ``docs/rules``, made of the rules themselves and of their fixtures.

``python -m tests.lint.rule_pages`` writes them; a test holds that they are current.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from attune_mq import parse_topology
from attune_mq.lint import RULES, Rule, lint

FIXTURES = Path(__file__).parent / "fixtures"
PAGES = Path(__file__).parents[2] / "docs" / "rules"
WIDTH = 100

INTRODUCTION = """# Rules

`attune-mq lint` reads the topology file, without a broker, and says what is wrong with its design.
An **error** loses messages, or is refused by RabbitMQ, or can never work. A **warning** works, and
may be meant. It exits with 1 when it finds anything of either kind, with 0 when it does not. A
**note** is no fault: with what it asks for, something is seen sooner.

```sh
attune-mq lint                    # for people
attune-mq --format json lint      # for scripts
attune-mq lint --to sarif         # SARIF 2.1.0, for any code scanning
attune-mq lint --to github        # annotations of a GitHub workflow
attune-mq lint --rules            # what the rules are, and why
```

In Python it is `attune_mq.lint.lint(topology)`, which returns the findings; with `notes=True` the
notes as well.

What holds only for some versions of RabbitMQ is judged by `broker: {version: "4.3"}` in the file.
Without it, a finding says for which versions it holds. What the file does not name is not held
against it: without `messages` nothing is said of unmatched bindings, and of consumers a file that
names neither messages nor consumers gets one finding.

A finding can be suppressed, with a reason, by a comment at the end of its line or above it:

```yaml
queues:
  # lint: allow queue-without-consumer -- the audit team reads it
  events: {name: attune.events.queue}
```

A suppression that gives no reason, names no rule, or suppresses nothing is a finding itself.

| rule | severity | it finds |
|---|---|---|
"""


def pages() -> Mapping[str, str]:
    """File name and text of each page."""
    rows = (f"| [{r.id}]({r.id}.md) | {r.severity} | {r.summary} |\n" for r in RULES)
    index = INTRODUCTION + "".join(rows)
    return {"README.md": index, **{f"{rule.id}.md": page(rule) for rule in RULES}}


def page(rule: Rule) -> str:
    fails, passes = ((FIXTURES / rule.id / f"{name}.yaml") for name in ("fails", "passes"))
    topology = parse_topology(fails.read_text(), file=fails.name)
    findings = lint(topology, notes=rule.severity == "note")
    said = "\n".join(str(finding) for finding in findings)
    parts = [
        f"# {rule.id}",
        f"{rule.summary} ({rule.severity.capitalize()}.)",
        "## Why",
        *(
            textwrap.fill(each, WIDTH, break_on_hyphens=False)
            for each in rule.rationale.split("\n\n")
        ),
        "## What to do",
        _filled(rule.fix),
        "## A file that fails",
        f"```yaml\n{fails.read_text()}```",
        f"```text\n{said}\n```",
        "## A file that passes",
        f"```yaml\n{passes.read_text()}```",
        "[All rules](README.md)",
    ]
    return "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


def write() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text)


if __name__ == "__main__":
    write()
