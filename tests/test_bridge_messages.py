"""Messages and positions: whatever an event is, it can be read from what was written of it; and nothing else can."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import Event, InvalidError
from eventbus.bridge import messages, position, subjects
from eventbus.bridge.link import block, fields
from eventbus.bridge.messages import Place, Stamp
from eventbus.bridge.position import NOWHERE, Position
from eventbus.event import HEADERS_LIMIT, loads

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

EPOCH = "0123456789abcdef" * 2
STAMP = Stamp(EPOCH, 1 << 60, "h1")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
SYSTEM = st.lists(TEXT.filter(lambda text: not set(text) & set(".*()|")), min_size=1, max_size=3).map(".".join)
EVENTS = st.builds(
    Event,
    SYSTEM.filter(lambda text: len(text.encode()) < 256),
    SYSTEM.filter(lambda text: len(text.encode()) < 256),
    TEXT,
    JSON | st.binary(max_size=20),
    st.integers(1, (1 << 63) - 1),
    st.integers(1, (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1),
    headers=st.dictionaries(TEXT, TEXT | st.just(""), max_size=4),
    origin=st.sampled_from(["", "h7", "h7/h8"]),
)


@generated
@given(EVENTS)
def test_what_is_written_can_be_read(event: Event) -> None:
    """On the wire it is printable ASCII but for the payload, and what is read of it is what was sent."""
    subject = subjects.subject("main", "h1", event.system, event.kind)
    payload = messages.payload_of(event)
    written = block(subject, payload, messages.headers_of(event, STAMP))
    line, rest = written.split(b"\r\n", 1)
    size, total = map(int, line.split()[-2:])
    head, body = rest[:size], rest[size:total]
    assert rest[total:] == b"\r\n"
    assert head.decode("ascii").replace("\r\n", "").isprintable()
    read = messages.read(subject, fields(head), body)
    assert read.place == Place(EPOCH, 1 << 60, event.sequence)
    assert read.hops == (*(event.origin.split("/") if event.origin else ()), "h1")
    data = event.data if isinstance(event.data, bytes) else loads(payload)
    assert read.event == (*event[:3], data, event.headers, event.time, event.sender)
    assert list(read.event.headers.items()) == list(event.headers.items())


@generated
@given(st.binary(max_size=200))
def test_headers_that_are_none(raw: bytes) -> None:
    """Whatever bytes stand where headers do, reading them ends with those that could be read."""
    assert isinstance(fields(raw), dict)


@generated
@given(st.dictionaries(st.sampled_from(["Eb", "Eb-Path", "Eb-H-a", "x"]), TEXT, max_size=4), st.binary(max_size=20))
def test_messages_that_are_none(headers: dict[str, str], payload: bytes) -> None:
    """Whatever stands in them, they are an error with a reason."""
    with pytest.raises(InvalidError) as caught:
        messages.read("eb.main.h1.a.k", headers, payload)
    assert caught.value.details["reason"] in {"foreign", "hops", "encoding", "event", "json"}


@pytest.mark.parametrize("number", ["\u0661", "+1", " 1", "1_0", "-1", "", "1" * 20])
def test_numbers_that_are_none(number: str) -> None:
    """A sequence is 1 to 19 digits."""
    with pytest.raises(InvalidError, match="no header 'Eb'"):
        messages.place_of({"Eb": f"{EPOCH} {number} 1 1 j 1 h1"})


def test_the_longest_headers() -> None:
    """Headers as long as an event may have can be read again; one byte more is rejected."""
    own = {"a" * 96: "ä" * ((HEADERS_LIMIT - 96) // 2)}
    event = Event("a", "k", "/", 1, 1, 1, 1, headers=own)
    headers = messages.headers_of(event, STAMP)
    assert messages.read("eb.main.h1.a.k", headers | {"x": ""}, b"1").event.headers == own
    with pytest.raises(InvalidError, match="the limit is 4096"):
        messages.read("eb.main.h1.a.k", headers | {"Eb-H-b": "", "x": ""}, b"1")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\na: b: c\r\nd: \r\n\r\n", {"a": "b: c", "d": ""}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503", "Description": ""}),
        (
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n",
            {"Status": "408", "Description": "Request Timeout", "Nats-Pending-Messages": "3"},
        ),
    ],
)
def test_headers_and_statuses(raw: bytes, expected: dict[str, str]) -> None:
    """What a server says of itself stands in the first line."""
    assert fields(raw) == expected


# --- positions ---

PLACES = st.builds(Place, st.sampled_from(["0" * 32, EPOCH, "f" * 32]), *[st.integers(0, (1 << 64) - 1)] * 2)


@generated
@given(PLACES, *[st.integers(0, (1 << 64) - 1)] * 2)
def test_a_position_is_a_note(place: Place, message: int, created: int) -> None:
    """It fits into a note, and comes back from it."""
    made = Position(place, message, created)
    assert len(made.packed()) <= 64
    assert position.unpacked(made.packed()) == made


@pytest.mark.parametrize("note", [None, b"", b"x" * 47, b"x" * 49])
def test_what_is_no_position(note: bytes | None) -> None:
    """Of nothing, or of another version, it is the beginning."""
    assert position.unpacked(note) == NOWHERE


@pytest.mark.parametrize(
    ("place", "covered"),
    [
        ((EPOCH, 9, 5), True),
        ((EPOCH, 99, 4), True),
        ((EPOCH, 9, 6), False),
        ((EPOCH, 1, 6), False),
        (("f" * 32, 8, 99), True),
        (("f" * 32, 9, 1), False),
        (("f" * 32, 10, 1), False),
    ],
)
def test_what_a_place_covers(place: tuple[Any, ...], covered: bool) -> None:
    """Of its own bus what is not later; of another one what an earlier bridge wrote."""
    assert Place(EPOCH, 9, 5).covers(Place(*place)) is covered


def test_names_of_notes_fit() -> None:
    """The longest domain and the longest origin are a name that a note may have."""
    for name in (position.export_note("d" * 32, "o" * 32), position.import_note("d" * 32, "o" * 32)):
        assert len(name) <= 76
