"""Whatever is published, its own class reads back equal; all else is refused before it is sent."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Network
from pathlib import PurePosixPath
from types import FrameType
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import TypedDict

from attune_mq.consuming.handlers import Handlers
from attune_mq.errors import MalformedMessage
from attune_mq.message.delivery import Message
from attune_mq.message.envelope import Envelope, decode, encode
from attune_mq.message.fields import JsonData, Secret, Timestamp
from attune_mq.message.payload import Payload
from attune_mq.payloads import PackTestRequested
from attune_mq.testing import Acknowledge, deliver
from tests.messaging.bodies import BODIES

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: float = 1.0


class Point(NamedTuple):
    x: int
    y: float


class Size(TypedDict, total=False):
    width: int


@dataclass
class Span:
    begins: date
    lasts: timedelta


class Numbers(RootModel[list[int]]):
    pass


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    id: UUID
    at: datetime


HARMFUL: tuple[Any, ...] = (float("nan"), float("inf"), -0.0, "\ud800", 2**70, b"\xff")

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(HARMFUL),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=2)
        | st.tuples(inner)
    ),
    max_leaves=5,
)
anything = json_like | st.sampled_from(
    [
        datetime(2020, 1, 1),
        Colour.RED,
        Word.YES,
        Cat(),
        {1},
        b"\xff",
        Decimal("1.10"),
        object(),
        int,
    ]
)
zones = st.none() | st.timezones()

FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (bool, st.booleans()),
    "int": (int, st.integers() | st.just(2**70)),
    "float": (float, st.floats() | st.integers()),
    "str": (str, st.text(st.characters(exclude_categories=[]))),
    "bytes": (bytes, st.binary(max_size=8)),
    "complex": (complex, st.complex_numbers()),
    "decimal": (Decimal, st.decimals(allow_nan=False) | st.sampled_from([Decimal("-0")])),
    "decimal, any": (Annotated[Decimal, Field(allow_inf_nan=True)], st.decimals()),
    "datetime": (datetime, st.datetimes(timezones=zones)),
    "timestamp": (Timestamp, st.datetimes(timezones=st.timezones())),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "uuid": (UUID, st.uuids()),
    "enum": (Colour, st.sampled_from(Colour)),
    "int enum": (Level, st.sampled_from(Level)),
    "literal": (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    "path": (PurePosixPath, st.sampled_from([PurePosixPath("/x"), PurePosixPath("\udc80")])),
    "address": (IPv4Address, st.ip_addresses(v=4)),
    "network": (IPv6Network, st.just(IPv6Network("::/8"))),
    "url": (AnyUrl, st.sampled_from([AnyUrl("http://x/"), AnyUrl("http://ü.example")])),
    "secret text": (SecretStr, st.text(max_size=3).map(SecretStr)),
    "secret bytes": (SecretBytes, st.binary(max_size=3).map(SecretBytes)),
    "secret of ours": (Secret, st.text(max_size=3).map(SecretStr)),
    "list": (list[float], st.lists(st.floats(), max_size=3)),
    "tuple": (tuple[int, ...], st.lists(st.integers(), max_size=3).map(tuple)),
    "pair": (tuple[int, str], st.tuples(st.integers(), st.text())),
    "set": (set[int], st.sets(st.integers(), max_size=3)),
    "frozenset of enums": (frozenset[Colour], st.frozensets(st.sampled_from(Colour))),
    "deque": (deque[int], st.lists(st.integers(), max_size=3).map(deque)),
    "sequence": (Sequence[int], st.lists(st.integers(), max_size=2).map(tuple)),
    "dict by int": (dict[int, str], st.dictionaries(st.integers(), st.text(), max_size=3)),
    "dict by float": (dict[float, int], st.dictionaries(st.floats(), st.just(1), max_size=2)),
    "dict by tuple": (dict[tuple[int, int], int], st.just({(1, 2): 3})),
    "dict by uuid": (dict[UUID, date], st.dictionaries(st.uuids(), st.dates(), max_size=2)),
    "dict by anything": (dict[Any, Any], st.dictionaries(st.integers() | st.text(), json_like)),
    "bool or int": (bool | int, st.booleans() | st.integers()),
    "int or text": (int | str, st.integers() | st.integers().map(str) | st.text()),
    "time or text": (datetime | date | str, st.datetimes() | st.dates() | st.text()),
    "union": (Cat | Dog, st.sampled_from([Cat(lives=1), Dog(lives=1)])),
    "tagged union": (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        st.sampled_from([Cat(lives=1), Dog(lives=1)]),
    ),
    "model": (Cat, st.builds(Cat, lives=st.integers())),
    "strict model": (Strict, st.builds(Strict, id=st.uuids(), at=st.datetimes(timezones=zones))),
    "named tuple": (Point, st.builds(Point, x=st.integers(), y=st.floats())),
    "typed dict": (Size, st.sampled_from([{}, {"width": 1}])),
    "dataclass": (Span, st.builds(Span, begins=st.dates(), lasts=st.timedeltas())),
    "root model": (Numbers, st.lists(st.integers(), max_size=2).map(Numbers)),
    "json of ours": (JsonData, json_like),
    "anything": (Any, anything),
    "object": (object, anything),
}
CONFIGS: dict[str, Any] = {
    "strict": [True],
    "extra": ["allow", "forbid"],
    "frozen": [False],
    "ser_json_bytes": ["base64", "hex"],
    "val_json_bytes": ["base64", "hex"],
    "ser_json_timedelta": ["float"],
    "ser_json_inf_nan": ["strings", "constants"],
    "ser_json_temporal": ["seconds", "milliseconds"],
    "val_temporal_unit": ["seconds", "milliseconds"],
    "use_enum_values": [True],
    "str_strip_whitespace": [True],
    "alias_generator": [str.upper],
    "populate_by_name": [True],
    "validate_by_alias": [True],
    "serialize_by_alias": [False],
    "coerce_numbers_to_str": [True],
    "allow_inf_nan": [False],
}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from(sorted(CONFIGS)), max_size=3))
    return {name: draw(st.sampled_from(CONFIGS[name])) for name in names}


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    """Of a class with one or two fields of any type, validated as its class says or not at all."""
    base: Any = type("Base", (Payload,), {"message_type": "X", "model_config": draw(configs())})
    values: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name in ("a", "b")[: draw(st.integers(1, 2))]:
        annotation, strategy = FIELDS[draw(st.sampled_from(sorted(FIELDS)))]
        if draw(st.booleans()):
            annotation, strategy = annotation | None, st.none() | strategy
        fields[name], values[name] = (annotation, ...), draw(strategy)
    kind: Any = create_model("Drawn", __base__=base, **fields)
    if draw(st.booleans()):
        return cast(Payload, kind.model_construct(**values))
    for aliases in (False, True):
        given = {name.upper() if aliases else name: value for name, value in values.items()}
        with suppress(ValidationError):
            return cast(Payload, kind(**given))
    return cast(Payload, kind.model_construct(**values))


@given(payloads())
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_whatever_is_published_its_own_class_reads_back_equal(payload: Payload) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # those of pydantic quote values
        try:
            body = encode(Envelope.of(payload))
        except MalformedMessage:
            return

    got = taken(type(payload), body)

    assert got == payload


def taken(kind: type[Payload], body: bytes) -> Payload:
    """What a handler of that class gets."""
    got: list[Payload] = []

    def handle(message: Message[Any]) -> None:
        got.append(message.payload)

    handlers = Handlers()
    handlers.on(kind)(handle)
    assert deliver(handlers, body) == Acknowledge()
    return got[0]


def refusal(payload: Payload) -> str:
    """Why it is not published; said without its values, also in the trace and in warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MalformedMessage) as caught:
            Envelope.of(payload)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


class Score(Payload):
    message_type = "Score"
    score: float


class Anything(Payload):
    message_type = "Anything"
    value: Any


class Signed(Payload):
    message_type = "Signed"
    password: SecretStr


class Raw(Payload):
    message_type = "Raw"
    name: str = "s3cr3t"
    blob: bytes


class ShoutedOnce(Payload):
    """Reads something else than what it wrote."""

    message_type = "ShoutedOnce"
    word: str

    @field_validator("word")
    @classmethod
    def louder(cls, word: str) -> str:
        return word + "!"


class WrittenOtherwise(Payload):
    message_type = "WrittenOtherwise"
    at: datetime

    @field_serializer("at")
    def as_a_day(self, at: datetime) -> str:
        return at.strftime("%d.%m.%Y")


class Computing(Payload):
    message_type = "Computing"
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    def area(self) -> int:
        return self.side**2


class Hidden(Payload):
    message_type = "Hidden"
    shown: int
    kept: int = Field(default=0, exclude=True)


class Private(Payload):
    message_type = "Private"
    number: int
    _seen: int = PrivateAttr(default=0)


class WrittenUnderAnotherName(Payload):
    message_type = "WrittenUnderAnotherName"
    size: int = Field(validation_alias="in", serialization_alias="out")


class ForOthers(Payload):
    message_type = "ForOthers"
    n: int = 0

    @classmethod
    def claims(cls, data: Any) -> bool:
        return False


class Failing(Payload):
    """Its validator depends on more than the value."""

    message_type = "Failing"
    fails: ClassVar[bool] = False
    n: int

    @model_validator(mode="after")
    def ask_elsewhere(self) -> Failing:
        if Failing.fails:
            raise RuntimeError("s3cr3t")
        return self


class Unwritable(Payload):
    message_type = "Unwritable"
    token: str

    @model_serializer
    def never(self) -> dict[str, Any]:
        raise ZeroDivisionError(self.token)


class Page(Payload, Generic[T]):
    message_type = "Page"
    rows: list[T]


def unlike(payload: Payload, **attributes: Any) -> Payload:
    for name, value in attributes.items():
        setattr(payload, name, value)
    return payload


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (Score(score=float("nan")), "payload.score: expected a number, found null"),
        (Score(score=float("-inf")), "payload.score: expected a number, found null"),
        (Score(score=1.0).model_copy(update={"score": "s3cr3t"}), "payload.score: expected"),
        (Anything(value=(1,)), "payload.value: expected a value that is read back equal"),
        (Anything(value=datetime(2020, 1, 1)), "payload.value: expected a value that is read"),
        (Anything(value=float("nan")), "payload.value: expected a value that is read back equal"),
        (Anything(value={1: "s3cr3t"}), "payload.value: expected a value that is read back equal"),
        (Anything(value=10**4400), "payload.value: expected a value that JSON can hold"),
        (Anything(value=object()), "payload.value: expected a value that JSON can hold"),
        (Anything(value="s3cr3t \ud800"), "payload.value: expected text that UTF-8 can hold"),
        (Anything(value={"\ud800": "s3cr3t"}), "payload.value: expected text that UTF-8 can"),
        (Signed(password=SecretStr("s3cr3t")), "payload.password: expected a value that is"),
        (Raw(blob=b"s3cr3t \xff"), "payload.blob: expected a value that JSON can hold"),
        (ShoutedOnce(word="s3cr3t"), "payload.word: expected a value that is read back equal"),
        (WrittenOtherwise(at=datetime(2020, 1, 1)), "payload.at: expected a value"),
        (Computing(side=2), "payload.area: expected"),
        (Hidden(shown=1, kept=2), "payload.kept: expected a value that is read back equal"),
        (unlike(Private(number=1), _seen=2), "payload._seen: expected a value that is read"),
        (WrittenUnderAnotherName(**{"in": 1}), "payload.in: required, and missing"),
        (ForOthers(), "payload: `claims` of ForOthers does not take it"),
        (Unwritable(token="s3cr3t"), "payload.token: expected a value that JSON can hold"),
        (
            Page[int](rows=[1]).model_copy(update={"rows": ["s3cr3t"]}),
            "payload.rows.0: expected an integer",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Payload) else "",
)
def test_what_would_not_be_read_back_equal_is_refused_by_field_and_without_its_value(
    payload: Payload, named: str
) -> None:
    assert named in refusal(payload)


def test_a_value_that_holds_itself_is_refused() -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle

    assert "payload.value" in refusal(Anything(value=circle))


def test_a_validator_that_fails_when_it_is_read_back_refuses_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payload = Failing(n=1)
    monkeypatch.setattr(Failing, "fails", True)

    assert "RuntimeError" in refusal(payload)


@pytest.mark.parametrize("nothing", [{"a": 1}, Cat(), None, "text"], ids=repr)
def test_what_is_no_payload_is_refused(nothing: Any) -> None:
    with pytest.raises(MalformedMessage, match="expected a Payload"):
        Envelope.of(nothing)


def test_a_class_without_a_message_type_is_refused() -> None:
    class Nameless(Payload):
        n: int = 0

    with pytest.raises(MalformedMessage, match="message_type: expected a string, found null"):
        Envelope.of(Nameless())


class Carried(Payload):
    message_type = "Carried"
    model_config = ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")
    id: UUID
    at: datetime
    colour: Colour
    price: Decimal
    tags: set[str]
    pair: tuple[int, str]
    blob: bytes
    by_day: dict[date, timedelta]


def test_a_strict_class_reads_what_json_has_no_type_for() -> None:
    payload = Carried(
        id=UUID(int=1),
        at=datetime(2020, 1, 1, 12, tzinfo=BERLIN),
        colour=Colour.RED,
        price=Decimal("1.10"),
        tags={"a"},
        pair=(1, "a"),
        blob=b"\xff\x00",
        by_day={date(2020, 1, 1): timedelta(days=1, microseconds=1)},
    )

    assert taken(Carried, encode(Envelope.of(payload))) == payload


def test_a_strict_class_still_refuses_what_json_has_a_type_for() -> None:
    body = encode(Envelope.of(Score(score=1.0))).replace(b'"Score"', b'"StrictScore"')

    class StrictScore(Score):
        model_config = ConfigDict(strict=True)
        message_type = "StrictScore"

    assert taken(StrictScore, body) == StrictScore(score=1.0)
    with pytest.raises(MalformedMessage, match=r"payload\.score: expected"):
        decode(body.replace(b"1.0}", b'"1.0"}')).payload_as(StrictScore)


def test_a_class_that_writes_infinity_as_text_reads_it() -> None:
    class Ratio(Payload):
        message_type = "Ratio"
        model_config = ConfigDict(ser_json_inf_nan="strings")
        ratio: float

    payload = Ratio(ratio=float("inf"))

    assert taken(Ratio, encode(Envelope.of(payload))) == payload


def test_a_generic_class_reads_its_own() -> None:
    payload = Page[UUID](rows=[UUID(int=1)])

    assert taken(Page[UUID], encode(Envelope.of(payload))) == payload


def test_what_interrupts_the_writing_of_a_payload_is_no_malformed_message() -> None:
    class Interrupted(Payload):
        message_type = "Interrupted"
        n: int = 0

        @model_serializer(mode="wrap")
        def interrupt(self, write: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Envelope.of(Interrupted())


def interrupted_at(event: int, work: Callable[[], object]) -> bool:
    """Whether *work* executes so many lines of the library; a signal interrupts it there."""
    left = event

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal left
        if "attune_mq" not in frame.f_code.co_filename:
            return None
        left -= kind == "line"
        if left == 0:
            left = -1
            raise KeyboardInterrupt
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(previous)
    return False


def test_an_interruption_of_any_line_that_writes_a_message_is_raised_as_it_is() -> None:
    payload = PackTestRequested.model_validate(json.loads(BODIES["PackTestRequested"].wire))

    lines = 1
    while interrupted_at(lines, lambda: encode(Envelope.of(payload, source_service="tests"))):
        lines += 1

    assert lines > 50


@pytest.mark.parametrize(
    "update",
    [{"message_id": 5}, {"payload": {"n": float("nan")}}, {"timestamp": datetime(2020, 1, 1)}],
    ids=repr,
)
def test_a_copy_of_an_envelope_is_as_valid_as_the_envelope(update: dict[str, Any]) -> None:
    envelope = Envelope.of(Score(score=1.0))

    with pytest.raises(ValidationError):
        envelope.model_copy(update=update)
    again = envelope.model_copy(update={"message_id": "m-2"})
    assert decode(encode(again)) == again


def test_headers_that_were_copied_with_a_wrong_value_are_refused() -> None:
    envelope = Envelope.of(Score(score=1.0))
    wrong = envelope.headers.model_copy(update={"retry_count": "s3cr3t"})

    with pytest.raises(ValidationError):
        envelope.model_copy(update={"headers": wrong})
