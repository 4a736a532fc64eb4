"""Asking a health server, for containers that have no curl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from attune_mq.errors import InvalidInput

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class HealthAnswer:
    """``is_good``: whether the service said so. ``lines`` say what is wrong."""

    is_good: bool
    lines: tuple[str, ...]


def ask_health(url: str, *, timeout_s: float = ASK_TIMEOUT_S) -> HealthAnswer:
    """What the health server at ``url``, such as ``http://127.0.0.1:8090/readyz``, says.

    No answer is an answer, and a bad one. Raises :class:`~attune_mq.errors.InvalidInput` for what
    is no such URL.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"expected a URL such as http://127.0.0.1:8090, got {url!r}")
    try:
        # No proxy of the environment: it is this machine, or one that is as near.
        with build_opener(ProxyHandler({})).open(url, timeout=timeout_s) as response:
            return _read(response.read(), is_good=True)
    except HTTPError as error:
        return _read(error.read(), is_good=False)
    except URLError as error:
        return HealthAnswer(False, (f"{url} does not answer: {error.reason}",))
    except (OSError, HTTPException, ValueError) as error:
        return HealthAnswer(False, (f"{url} does not answer: {error}",))


def _read(body: bytes, *, is_good: bool) -> HealthAnswer:
    try:
        answer = json.loads(body)
        said_good = bool(answer["ok"])
        lines = tuple(
            f"{one['check']}: {one['why']} (for {one['for_s']:g} s)" for one in answer["troubles"]
        )
    except (ValueError, KeyError, TypeError):
        return HealthAnswer(False, ("what answers there is no health server of this project",))
    return HealthAnswer(is_good and said_good, lines)
