"""Every link from one of our documents to another leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS, Page

ROOT = DOCS.parent
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def documents() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def links(path: Path) -> Iterator[str]:
    """Those in the text, not those in code."""
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))
    yield from _LINK.findall(re.sub(r"`[^`]*`", "", text))


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of the headings; of two equal ones the second ends in ``-1``."""
    found: list[str] = []
    for heading in Page(path.name, path.read_text(encoding="utf-8")).headings:
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(1 for one in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", one))
        found.append(f"{anchor}-{count}" if count else anchor)
    return set(found)


@pytest.mark.parametrize("document", documents())
def test_a_link_leads_to_a_file_and_a_heading_in_it(document: str) -> None:
    path = ROOT / document
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path

        assert target.exists(), f"{document} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{document} links to {link}"
