"""Data becomes bytes and bytes become data: what is sent is what arrives."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from typing import Any

import numpy
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import Bus, InvalidError, SegmentError
from eventbus.core.native import lib
from eventbus.event import encode

generated = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5), max_leaves=20
)
paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@generated
@given(st.lists(st.tuples(paths, values), max_size=10))
def test_a_batch_of_texts_is_one_array(events: list[tuple[str, Any]]) -> None:
    """The texts of several events, without their brackets and joined, decode to what was encoded."""
    texts = [encode(path, data)[1:-1] for path, data in events]
    decoded = orjson.loads(b"[" + b",".join(texts) + b"]")
    assert decoded == [part for event in events for part in event]


@generated
@given(st.lists(st.tuples(paths, values | st.binary(max_size=100)), min_size=1, max_size=10))
def test_through_the_bus(bus: Bus, events: list[tuple[str, Any]]) -> None:
    """Whatever JSON or bytes are sent arrive as they were, one by one or at once."""
    with bus.subscribe("a") as sub:
        for path, data in events:
            bus.send("a", "b", path, data)
        bus.send_many([("a", "b", path, data) for path, data in events])
        heard = [(event.path, event.data) for event in sub.receive_many(2 * len(events), 0)]
    assert heard == events + events
    assert [type(data) for _, data in heard] == [type(data) for _, data in events + events]


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


@dataclasses.dataclass
class Order:
    """A dataclass."""

    number: int
    colours: list[Colour]


class Raw(bytes):
    """A kind of bytes."""


RICH: list[tuple[Any, Any]] = [
    (Order(1, [Colour.RED]), {"number": 1, "colours": ["red"]}),
    (datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc), "2024-02-29T12:00:00+00:00"),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, "red"),
    (numpy.arange(6, dtype=numpy.int32).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (numpy.float64(0.5), 0.5),
    ((1, 2), [1, 2]),
    (float("nan"), None),
    (orjson.Fragment(b'{"ready":1}'), {"ready": 1}),
    (b"\x00\xff", b"\x00\xff"),
    (b"", b""),
    (bytearray(b"abc"), b"abc"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (Raw(b"abc"), b"abc"),
]


@pytest.mark.parametrize(("sent", "arrives"), RICH)
def test_what_orjson_encodes_and_bytes(bus: Bus, sent: Any, arrives: Any) -> None:
    """What orjson encodes arrives as what it decodes; everything that is bytes arrives as bytes."""
    with bus.subscribe("a") as sub:
        bus.send("a", "b", "/c", sent)
        bus.send("a", "b", "/c", sent)
        bus.send_many([("a", "b", "/c", sent)])
        heard = [event.data for event in sub.receive_many(3, 0)]
    assert heard == [arrives] * 3
    assert {type(data) for data in heard} == {type(arrives)}


@dataclasses.dataclass
class Unencodable:
    """A dataclass that orjson refuses inside."""

    inner: object


def circular() -> list[Any]:
    """A list that holds itself."""
    endless: list[Any] = []
    endless.append(endless)
    return endless


REFUSED: list[Any] = [
    object(),
    {1, 2},
    {1: "x"},
    "\ud800",
    2**64,
    -(2**63) - 1,
    1j,
    Unencodable(object()),
    circular(),
    int,
]


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: type(data).__name__)
def test_what_cannot_be_encoded(bus: Bus, data: Any) -> None:
    """What orjson does not encode is an error in the caller that names its type, and nothing is sent."""
    refused = f"type {type(data).__name__} cannot be encoded"
    for _ in range(2):
        with pytest.raises(InvalidError, match=refused):
            bus.send("a", "b", "/c", data)
        with pytest.raises(InvalidError, match=refused):
            bus.send_many([("a", "b", "/c", data)])
    assert bus.stats().sent == 0


@pytest.mark.parametrize(
    "damaged", [b'["/a",1,]', b'["/a"]', b'["/a",1,2]', b"{{}}", b"[]]", b"[\xff]", b"[" * 4000 + b"]"]
)
def test_text_that_is_none_of_ours(bus: Bus, damaged: bytes) -> None:
    """A text that is not path and data is an error that names its event; what comes after it is heard."""
    with bus.subscribe("a") as sub:
        bus.send("a", "b", "/before")
        assert sub.receive(0) is not None
        assert lib.eb_send(bus._routes["a"]["b"], damaged) == 0
        with pytest.raises(SegmentError, match=r"the event 2 .* cannot be read") as caught:
            sub.receive(0)
        assert caught.value.details["sequence"] == 2
        bus.send("a", "b", "/after")
        event = sub.receive(0)
        assert event is not None
        assert (event.sequence, event.path) == (3, "/after")
