"""What people do on purpose, and RabbitMQ does well, is no fault."""

from __future__ import annotations

from textwrap import dedent

import pytest

from attune_mq import parse_topology
from attune_mq.lint import lint

FINE = {
    "a rejected message waits in a queue with a TTL and comes back by the default exchange": """
        queues:
          work: {name: work, dead_letter: {to: "", routing_key: work.retry}}
          retry: {name: work.retry, ttl: 30s, dead_letter: {to: "", routing_key: work}}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "a rejected message waits and comes back by exchanges of its own": """
        exchanges:
          jobs: {name: jobs, type: topic}
          retry: {name: jobs.retry, type: topic}
        queues:
          work: {name: work, dead_letter: {to: retry}}
          retry: {name: work.retry, ttl: 30s, dead_letter: {to: jobs}}
        bindings:
          - {source: jobs, destination: work, routing_key: "job.#"}
          - {source: retry, destination: retry, routing_key: "#"}
        messages:
          JobCreated: {exchange: jobs, routing_key: job.created, publishers: [api]}
        consumers:
          worker: {service: worker, queue: work, handles: [JobCreated]}
    """,
    "the library retries by queues of its own": """
        dead_letter: {exchange: dlx, ttl: 24h}
        exchanges:
          dlx: {name: dlx, type: fanout}
        queues:
          work: {name: work, retry: {attempts: 5, backoff: [1s, 10s]}}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "a message waits in a queue with a TTL before it is worked on": """
        exchanges:
          jobs: {name: jobs, type: direct}
        queues:
          later: {name: work.later, ttl: 5m, dead_letter: {to: "", routing_key: work}}
          work: {name: work}
        bindings:
          - {source: jobs, destination: later, routing_key: job}
        messages:
          JobCreated: {exchange: jobs, routing_key: job, publishers: [api]}
        consumers:
          worker: {service: worker, queue: work, handles: [JobCreated]}
    """,
    "a queue without a binding is fed by the default exchange": """
        queues:
          work: {name: work, max_length: 1000}
    """,
    "a reply queue is named by the server and has no binding": """
        exchanges:
          jobs: {name: jobs, type: direct}
        queues:
          work: {name: work}
          replies: {name: "", exclusive: true, auto_delete: true}
        bindings:
          - {source: jobs, destination: work, routing_key: job}
        messages:
          JobCreated: {exchange: jobs, routing_key: job, publishers: [api]}
        consumers:
          worker: {service: worker, queue: work}
          api-replies: {service: api, queue: replies}
    """,
    "what one exchange cannot route is caught by another": """
        exchanges:
          jobs: {name: jobs, type: direct, alternate_exchange: rest}
          rest: {name: rest, type: fanout}
        queues:
          work: {name: work}
          rest: {name: rest}
        bindings:
          - {source: jobs, destination: work, routing_key: job}
          - {source: rest, destination: rest}
        messages:
          JobCreated: {exchange: jobs, routing_key: job, publishers: [api]}
          JobUnheardOf: {exchange: jobs, routing_key: odd, publishers: [api]}
        consumers:
          worker: {service: worker, queue: work, handles: [JobCreated]}
          clerk: {service: clerk, queue: rest, handles: [JobUnheardOf]}
    """,
    "headers that the file does not know decide where a dead letter goes": """
        exchanges:
          dlx: {name: dlx, type: headers}
        queues:
          work: {name: work, dead_letter: {to: dlx}}
          expired: {name: expired, ttl: 24h, purpose: dead_letter}
          failed: {name: failed, ttl: 24h, purpose: dead_letter}
        bindings:
          - {source: dlx, destination: expired, arguments: {x-match: all, reason: expired}}
          - {source: dlx, destination: failed, arguments: {x-match: all, reason: failed}}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "nobody need listen to a broadcast": """
        exchanges:
          news: {name: news, type: fanout}
        messages:
          News: {exchange: news, publishers: [api], mandatory: false}
    """,
    "a key with wildcards on a fanout exchange means nothing and does no harm": """
        exchanges:
          news: {name: news, type: fanout}
        queues:
          work: {name: work}
        bindings:
          - {source: news, destination: work, routing_key: "#"}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "dead letters of several queues go to one that is consumed": """
        dead_letter: {to: dlx}
        exchanges:
          dlx: {name: dlx, type: fanout}
        queues:
          work: {name: work}
          other: {name: other}
          failed: {name: failed, dead_letter: false}
        bindings:
          - {source: dlx, destination: failed}
        consumers:
          worker: {service: worker, queue: work}
          other: {service: worker, queue: other}
          clerk: {service: clerk, queue: failed, handles: ["*"]}
    """,
    "bindings differ in their arguments alone": """
        exchanges:
          files: {name: files, type: headers}
        queues:
          work: {name: work}
        bindings:
          - {source: files, destination: work, arguments: {format: pdf}}
          - {source: files, destination: work, arguments: {format: png}}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "an exchange of a plugin's type has arguments of its own": """
        exchanges:
          later: {name: later, type: x-delayed-message, arguments: {x-delayed-type: direct}}
        queues:
          work: {name: work}
        bindings:
          - {source: later, destination: work, routing_key: job}
        consumers:
          worker: {service: worker, queue: work}
    """,
    "messages are named after passwords, and variables hold them": """
        exchanges:
          users: {name: users, type: topic}
        queues:
          passwords: {name: "users.${PASSWORD_QUEUE:-password}"}
        bindings:
          - {source: users, destination: passwords, routing_key: password.reset}
        messages:
          PasswordReset: {exchange: users, routing_key: password.reset, publishers: [api]}
        consumers:
          passwords: {service: users, queue: passwords, handles: [PasswordReset]}
    """,
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE.keys())
def test_nothing_is_found_where(text: str) -> None:
    topology = parse_topology("version: 1\n" + dedent(text))
    assert [str(finding) for finding in lint(topology)] == []
