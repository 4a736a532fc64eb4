"""One word for one thing, RabbitMQ's word where there is one: terms that we coined are rejected.

A failure names the place and the word to use instead. The glossary is in ``CONTRIBUTING.md``. A
rejected term is allowed in one place: the column of old names in the changelog's table of renames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = r"\.py$"
TEXT = {".md", ".py", ".yaml", ".yml"}

MODULES = {
    "asking": "probe_channel",
    "checking": "check",
    "confirming": "confirm_channel",
    "direct": "pika_link",
    "excuses": "suppressions",
    "handling": "log_context",
    "handovers": "inflight_republishes",
    "held": "unacked",
    "intake": "drainer",
    "jobs": "queue_job",
    "moving": "drain, refill",
    "notes": "batched_counter",
    "odd_headers": "pika_timestamp_patch, or the decoder that it patches",
    "persisting": "fold it into its user",
    "presence": "worker_liveness",
    "problems": "validation_errors",
    "pulse": "liveness",
    "scaffold": "staging",
    "shared_loop": "io_loop",
    "silence": "confirm_watchdog",
    "statuses": "execution_status, in payloads",
    "tallies": "counters",
    "turning": "io_loop",
    "unsaid": "unsupported",
    "unsettled": "unacked, acknowledgements",
    "ways": "polylines",
}
"""Names of modules that nobody would look for, and what the module is called in this field."""


@dataclass(frozen=True)
class Term:
    """A pattern (of ``re``), what to write instead, and in which files; "" is all of them.

    A space in the pattern also matches a line break, within a comment as well.
    """

    pattern: str
    instead: str
    files: str = ""

    @cached_property
    def matcher(self) -> re.Pattern[str]:
        return re.compile(self.pattern.replace(" ", r"\s+(?:# )?"), re.MULTILINE)


IDENTIFIERS = (
    Term(r"\bTurning\b|\b_?turn_while\b|\b_take_turn\b", "IoLoop, run_until", PYTHON),
    Term(r"\bSharedLoop\b", "IoLoop (leader/follower)"),
    Term(r"\bDirectConnection\b", "FastPathConnection"),
    Term(r"\bwith [\w.]+\.exclusive\b", "io_lock: `exclusive` is a queue property", PYTHON),
    Term(r"\b[Hh]andovers\b|\bHandover\b", "InFlightRepublishes, the republish-ack window"),
    Term(r"GIVE_BACK|\b_?give_back\b|\bGivenBack\b|given_back", "requeue, messages_requeued_total"),
    Term(r"Ways?\b", "HopKind, Path, Polyline", PYTHON),
    Term(r"(?<![\"'`])\b[Uu]nsaid\b", "unsupported, not_imported"),
    Term(r"\bAsker\b|\b_Asking\b", "ProbeChannel", PYTHON),
    Term(r"\bByManagement\b|\bBySettling\b|\bare_none\b", "ManagementUnacked, AssumedDrained"),
    Term(r"\b(Out|Back)?Lanes?\b|\b_?lanes?\b", "phase (DRAIN, REFILL)", r"migration"),
    Term(r"\b_?disbelieve\w*|\bUNBROKEN\b", "RecoveryState, the broker-epoch marker"),
    Term(r"(?<![\"'`.\-\w])[Ww]itness", "mirror queue", r"migrati"),
    Term(r"(?<![\"'`.\-\w])[Jj]ournals?\b(?!-)", "write-ahead log", r"migrati"),
    Term(r"\bPatience\b", "MigrationTimeouts"),
    Term(r"\b_?[Ee]xcus(e|es|ed|ing)(?![a-z]|[-_]of|[-_]unreadable)", "suppression, suppress"),
    Term(r"\bdef say\b|\.say\(", "publish_after_commit", r"attune_executor"),
    Term(r"\b[Pp]ulse\b|\bVitals\b", "liveness probe, LivenessSnapshot"),
    Term(r"\bSilence\b|\bSILENT_AFTER_S\b|\bsilence\.\w|import silence", "confirm watchdog"),
    Term(r"\b_?doubt(s|ed)?\b", "schedule_channel_replacement", r"publishing"),
    Term(r"\b[Ll]edgers?\b|_ledger\b", "outstanding confirms; the executor's transactions"),
    Term(r"\bblamed\b", "messages_named_in_close_reason"),
    Term(r"\bTenants?\b", "ConnectionListener"),
    Term(r"\bcounted_copy\b|\bCountRedelivery\b", "republish_with_delivery_count"),
    Term(r"\b[Uu]nsettled\b", "unacked, UnackedDeliveries"),
    Term(r"\bbury\b|\b_?Burial\b|\b_Dying\b", "simulate_dead_lettering", PYTHON),
    Term(r"\bResting\b", "DeadLetterQueue", PYTHON),
    Term(r"\bis_said_by_a_key\b|\b_SAYS\b|\b_said_twice\b", "has_field"),
    Term(r"\bUnseen\b", "Unknown, Indeterminate", PYTHON),
    Term(r"\bPicture\b", "QueueReport, HealthReport, Diagram, LiveView", PYTHON),
    Term(r"\bFOUND\b", "EXIT_FINDINGS, EXIT_DIFFERENCES", PYTHON),
    Term(r"\bclass Notes\b|\bNotes\(", "BatchedCounter", PYTHON),
    Term(r"\brun_beside\b|\bBackground\b(?! task)", "add_background_task, BackgroundTask"),
    Term(r"\bself\.whole\b|\bservice\.whole\b", "full_topology", r"service\.py$"),
    Term(r"\bstor(y|ies)\b", "rationale"),
    Term(r"\bqueues\.known\(", "is_alive_cached", r"attune_executor"),
    Term(r"\bpersist(?=\(|`|$)|import persist\b", "run_in_transaction_with_retry"),
    Term(r"\bWaitingRoom\b|\bwaiting room\b", "HeldDeliveries"),
    Term(r"\bConfirmingConnection\b", "ConfirmChannel"),
    Term(r"\bdef renew(al)?\b|\bRenewal\b", "republish to the tail", r"consuming|message"),
    Term(r"\bImpasse\b", "NoRoute, NotReplayable"),
    Term(r"\b_?thawed\b", "to_plain"),
    Term(r"\b_?glance\b", "sample_depths"),
    Term(r"\bIntake\b", "Drainer"),
    Term(r"\b_?set_aside\b|\bset aside\b|\b_?put_back\b", "to_staging, from_staging"),
    Term(r"\b_?[Ss]caffold(ing)?\b", "temporary topology, staging queue", r"migrati"),
    Term(r"\b[Tt]all(y|ies)\b", "counter", r"attune_mq/metrics"),
    Term(r"\bMemory\(|\bclass Memory\b", "CheckHistory", PYTHON),
    Term(r"\bOracle\b", "RouteSimulator"),
)

PHRASES = (
    Term(r"\b(gives?|given|gave|giving) back\b", "requeue, release"),
    Term(r"\bgiv(es?|en|ing) (it |them |the \w+ )?free\b", "release"),
    Term(r"\bhand(s|ed|ing)? out\b", "deliver"),
    Term(
        r"\bturn(s|ed|ing)? (the|its|their|a|an|that|this) (\w+'s |I/O )?loops?\b",
        "run the I/O loop",
    ),
    Term(
        r"\bloops?( of \w+)* (does not |do not |has not |have not )?turn(s|ed)?\b",
        "I/O loop runs",
    ),
    Term(r"\bat the loop\b", "driving the I/O loop"),
    Term(r"\bwhat waits turns\b|\bwhoever waits\b", "callers drive the I/O loop"),
    Term(r"\btak(e|es|en|ing) (\w+ ){1,5}along\b", "fail the others as well"),
    Term(r"\b[Dd]eadly\b", "poison message"),
    Term(
        r"(?<![\"'`])\bcircling\b|\bcircles? (for|of)\b|\b(goes|comes) round\b",
        "dead-letter cycle, reference cycle",
    ),
    Term(r"\bwithout a word\b", "silently"),
    Term(r"\bwithout a farewell\b", "without the close handshake"),
    Term(r"\bhung up\b|\bhangs up\b", "closed the connection"),
    Term(r"\bnothing listens there\b", "connection refused"),
    Term(r"\bforgets its transport\b", "drops its transport"),
    Term(r"\bpika's inside\b|\bits inside\b|\binside of pika\b", "pika's private API"),
    Term(r"\bpast pika\b", "without pika's frame objects"),
    Term(r"\blive through another return\b", "exceed its delivery limit if requeued"),
    Term(r"\ba liar of\b|\bworth nothing\b|\bof no consequence\b", "invalid; ignored, discarded"),
    Term(r"\bin (its|the) midst\b", "while it runs"),
    Term(r"\bin vain\b", "unsuccessfully: say what failed"),
    Term(r"\ba massacre\b", "pauses consumption while a dependency is unavailable"),
    Term(r"\blook_up\b", "wake", PYTHON),
    Term(r"\b[Tt]here is but one\b", "Singleton."),
    Term(r"\bWithout waiting but in the end\b", "Pipelined: one sync at the end"),
    Term(r"\bground of the others\b", "low-level entry point used by the others"),
    Term(r"\bcosts? the connection\b", "closes the connection"),
    Term(r"\bhas no room for\b|\bcut off by the broker\b", "truncated; does not fit"),
    Term(r"\bknows us and refuses\b", "access refused (403) for an authenticated user"),
    Term(r"\bof which nobody knows\b", "with unknown outcome (not confirmed)"),
    Term(r"\btakes what it is given\b", "accepts writes"),
    Term(r"\btravell?(s|ed|ing)? on (it|them)\b", "publishes and consumes through it"),
    Term(r"\b(is|are|be|been|was|were) away\b", "is unavailable, is unreachable"),
    Term(r"\b(is|are|be|been|was|were) told\b", "is notified, is reported"),
    Term(r"\b(could|can) not be told\b|\bcannot be told\b", "is unknown; notification failed"),
    Term(r"\b[Ss]omebody\b", "name who: a client, an operator, another program"),
    Term(r"\b[Ww]hoever\b", "name who: the caller, the client, any consumer"),
    Term(r"\b[Mm]end(s|ed|ing)?\b", "fix, repair, troubleshoot"),
    Term(r"\bis over its deadline\b", "past its deadline, handler timeout exceeded"),
    Term(r"\bcut off by\b|\bcame back unsettled\b", "truncated; redelivered"),
)

OLD_TEXTS = (
    Term(r"The original of a copy stays", "republish failed; message %s stays unacknowledged"),
    Term(r"It cannot be told whether", "depends_on() predicate raised"),
    Term(r"Health is told at", "health endpoint listening on http://..."),
    Term(r"as if handling it were", "delivery limit exceeded; suspected poison message"),
    Term(r"set up, understood", "Declare, check, simulate and migrate a RabbitMQ topology"),
    Term(r"pauses, nothing is lost", "consumption paused: dependency %s unavailable"),
    Term(r"\bA worker failed\b", "unhandled exception in worker thread %s"),
    Term(r"\bfailed with a message\b", "internal error while processing a message"),
    Term(r"systemd could not be", "sd_notify failed: %s"),
    Term(r"goes on after\b", "outbox relay recovered from: %s", r"transactional"),
    Term(r"of the broker, else ATTUNE", "AMQP URL(s), comma-separated (env: ATTUNE_MQ_URL)"),
    Term(r"of its health, 0", "port for health endpoints (0 disables)"),
    Term(r"messages go on without it", "telemetry listener %s raised; ignored"),
    Term(r"The database cannot be watched", "database check failed unexpectedly"),
    Term(r"Migration waits, the", "database unavailable, retrying migration"),
    Term(r"could not be stopped in order", "failed to stop cleanly"),
    Term(r"look again and again", "refresh until interrupted"),
    Term(r"say what asks for each", "explain each permission"),
    Term(r"(say|says) (what|whether) \w+ (would|is)\b", "show, check, print", r"attune_mq/cli"),
    Term(r"What the broker makes itself", "where an observation came from"),
    Term(r"All of it (runs )?on the connection's thread", "on whichever thread holds the I/O lock"),
    Term(
        r"^#+ (What had to be decided|What we do|What we measured|What else we|What follows)",
        "Context, Decision, Measurements, Alternatives considered, Consequences",
        r"docs/adr",
    ),
    Term(
        r"^#+ (What has to hold|What breaks|What if the power|A pause|Messages that come)",
        "Invariants, Injected faults, Failure points, Pausing, Redeliveries",
        r"docs/[\w-]+\.md$",
    ),
)

TERMS = (*IDENTIFIERS, *PHRASES, *OLD_TEXTS)


def room_of(path: Path) -> str:
    """The package, or the group of documents, that a failure belongs to."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def searched_files() -> Iterator[Path]:
    for folder in ("attune_mq", "attune_executor", "docs", "examples"):
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXT)
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return unreleased(text) if path.name == "CHANGELOG.md" else text


def unreleased(changelog: str) -> str:
    """The section of what is not released, its table of renames without the column of old names."""
    before, heading, rest = changelog.partition("## [Unreleased]")
    section = re.split(r"(?m)^## \[\d", rest)[0]
    news, renamed, table = section.partition("### Renamed")
    rows = re.sub(r"(?m)^\|[^|]*\|", "| |", table)
    return "\n" * before.count("\n") + heading + news + renamed + rows


def rejected(text: str, file: str) -> Iterator[tuple[int, str, str]]:
    """The rejected terms of a text: the line, what is there, and what to write instead."""
    for term in TERMS:
        if re.search(term.files, file):
            for found in term.matcher.finditer(text):
                yield text.count("\n", 0, found.start()) + 1, found[0], term.instead


def findings(path: Path) -> Iterator[str]:
    file = path.relative_to(ROOT).as_posix()
    for line, found, instead in sorted(rejected(text_of(path), file)):
        yield f"{file}:{line}: {found!r}, write: {instead}"


ROOMS = sorted({room_of(path) for path in searched_files()})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_speaks_in_the_field_s_words(room: str) -> None:
    paths = [path for path in searched_files() if room_of(path) == room]
    found = [one for path in paths for one in findings(path)]

    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("package", ["attune_mq", "attune_executor"])
def test_a_module_has_a_name_that_the_field_would_look_for(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: call it {MODULES[path.stem]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.stem in MODULES
    ]

    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("line", "file", "instead"),
    [
        ("class GivenBack:", "attune_mq/message/settlement.py", "requeue, messages_requeued_total"),
        ("It gives back what it holds.", "docs/operations.md", "requeue, release"),
        ("whoever turns\nthe loop", "docs/processes.md", "run the I/O loop"),
        ("## What follows", "docs/adr/0099-later.md", TERMS[-2].instead),
        ("## What breaks", "docs/reliability.md", TERMS[-1].instead),
    ],
)
def test_a_rejected_term_is_found_with_the_word_to_use(line: str, file: str, instead: str) -> None:
    assert instead in [write for _, _, write in rejected(line, file)]


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("A message is requeued by basic.nack.", "docs/operations.md"),
        ("journalctl --unit attune-executor", "docs/operations.md"),
        ("rule `excuse-of-nothing`", "docs/rules/README.md"),
        ("exclusive: bool", "attune_mq/topology/objects.py"),
        ("either way it is lost", "attune_mq/topology/routing.py"),
    ],
)
def test_the_field_s_own_words_are_not_rejected(line: str, file: str) -> None:
    assert list(rejected(line, file)) == []


def test_old_names_may_stand_in_the_table_of_renames_alone() -> None:
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n- `GivenBack`\n\n### Renamed\n\n"
        "| old | new |\n|---|---|\n| `GivenBack` | `Requeue` |\n\n## [0.1.0]\n\n- `GivenBack`\n"
    )

    lines = unreleased(changelog).splitlines()

    assert [number for number, line in enumerate(lines, start=1) if "GivenBack" in line] == [5]
    assert any("Requeue" in line for line in lines)
