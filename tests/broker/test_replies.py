"""What RabbitMQ says when it refuses. The texts are its own, of 3.10 to 4.3."""

from __future__ import annotations

import pytest

from attune_mq.broker.replies import Invalid, NotPermitted, NotThere, parse_reply


@pytest.mark.parametrize("permission", ["", "configure "])
def test_a_permission_that_is_missing(permission: str) -> None:
    text = f"ACCESS_REFUSED - {permission}access to queue 'q' in vhost '/' refused for user 'a'"

    assert parse_reply(403, text) == NotPermitted(permission.strip() or None, text)


@pytest.mark.parametrize(
    "text",
    [
        "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'",
        "ACCESS_REFUSED - operation not permitted on the default exchange",
    ],
)
def test_a_name_that_nobody_may_declare_is_no_missing_permission(text: str) -> None:
    assert parse_reply(403, text) == Invalid(f"403 {text}")


def test_what_is_not_there_is_known_though_its_name_cuts_the_answer_off() -> None:
    whole = parse_reply(404, "NOT_FOUND - no queue 'q' in vhost '/'")
    cut = parse_reply(404, f"NOT_FOUND - no exchange '{'x' * 231}")

    assert whole == NotThere("queue", "q")
    assert cut == NotThere("exchange", "x" * 231)
