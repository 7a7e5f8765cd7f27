"""An event as the sequence of its fields: all that a tuple with names can."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event
from eventbus.request import Request

VALUES = ("a", "b", "/c", {"d": [1]}, 7, 8, 9, 2, {"e": "f"}, "elsewhere")
NAMES = ("system", "kind", "path", "data", "sequence", "time", "sender", "deliveries", "headers", "origin")
NAMED: Any = namedtuple
TUPLE = NAMED("TUPLE", NAMES)
EVENT = Event(*VALUES)
TUPLE_DEFAULTS = {"deliveries": 1, "headers": {}, "origin": ""}


@pytest.fixture
def received(name: str) -> Event:
    """An event that came through the ring."""
    with eventbus.open(name) as bus, bus.subscribe("**") as subscription:
        bus.send("a", "b", "/c", {"d": [1]}, headers={"e": "f"})
        event = subscription.receive(10)
    assert event is not None
    return event


def test_names_and_places() -> None:
    """Each field is there by its name and by its number, from the end and in slices too."""
    assert Event._fields == NAMES
    assert tuple(getattr(EVENT, field) for field in NAMES) == VALUES
    assert [EVENT[i] for i in range(10)] == [EVENT[i - 10] for i in range(10)] == list(VALUES)
    assert EVENT[2:5] == VALUES[2:5]
    assert EVENT[::-3] == VALUES[::-3]
    assert len(EVENT) == 10
    for place in (10, -11):
        with pytest.raises(IndexError):
            EVENT[place]
    with pytest.raises(TypeError):
        EVENT["system"]  # type: ignore[call-overload]


def test_unpacks() -> None:
    """Into names, into arguments, in a match; it is a sequence, and takes part in sums of tuples."""
    system, kind, path, data, *rest = EVENT
    assert (system, kind, path, data, *rest) == VALUES
    assert [*EVENT] == list(EVENT) == list(VALUES)
    assert list(reversed(EVENT)) == list(VALUES)[::-1]
    assert isinstance(EVENT, Sequence)
    match EVENT:
        case [_, "b", where, *_]:
            assert where == "/c"
        case _:
            raise AssertionError("a match that takes a tuple apart takes no event apart")
    match EVENT:
        case Event("a", kind=named):
            assert named == "b"
        case _:
            raise AssertionError("a match knows its fields by their places")
    assert operator.add(EVENT, (1,)) == (*VALUES, 1)
    assert operator.add((1,), EVENT) == (1, *VALUES)
    assert EVENT + EVENT == VALUES + VALUES
    assert (EVENT.count(7), EVENT.index("/c"), "elsewhere" in EVENT, 3 in EVENT) == (1, 2, True, False)
    with pytest.raises(ValueError, match="not in tuple"):
        EVENT.index(3)


@pytest.mark.parametrize("how", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_compares(how: Callable[[object, object], bool]) -> None:
    """With events and with tuples as tuples do, from either side."""
    plain = tuple(Event("a", "b", "/c", 1, 7, 8, 9))
    for other in (plain, ("a", "b", "/d"), ("a",), (*plain, 1), ("a", "a"), TUPLE(*plain)):
        assert how(Event(*plain), other) == how(plain, other)
        assert how(other, Event(*plain)) == how(other, plain)
    assert how(Event(*plain), Event(*plain)) == how(plain, plain)
    assert how(Event(*plain), Event(*plain)._replace(path="/d")) == how(0, 1)


def test_compares_with_nothing_else() -> None:
    """A list is no tuple; where data cannot be compared the error is that of the data."""
    assert list(VALUES) != EVENT
    with pytest.raises(TypeError, match="not supported between instances"):
        operator.lt(EVENT, list(VALUES))
    with pytest.raises(TypeError, match="'dict'"):
        operator.lt(EVENT, EVENT._replace(data={"e": 1}))


def test_hash() -> None:
    """That of the tuple; where its data have none, neither has it."""
    event = Event("a", "b", "/c", "data", 7, 8, 9)
    assert hash(event) == hash(tuple(event))
    assert {event: 1}[tuple(event)] == 1  # type: ignore[index]
    with pytest.raises(TypeError, match="unhashable"):
        hash(EVENT)


@pytest.mark.parametrize("made", ["by hand", "received"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(made: str, protocol: int, received: Event) -> None:
    """By each protocol, and copied; what was received too."""
    event = EVENT if made == "by hand" else received
    for same in (pickle.loads(pickle.dumps(event, protocol)), copy.copy(event), copy.deepcopy(event)):
        assert same == event
        assert type(same) is Event
    assert copy.deepcopy(event).data is not event.data


def test_what_namedtuples_have() -> None:
    """_asdict, _replace, _make, and the text of it."""
    assert EVENT._asdict() == dict(zip(NAMES, VALUES, strict=True))
    assert EVENT._replace(path="/x", sequence=8) == (*VALUES[:2], "/x", VALUES[3], 8, *VALUES[5:])
    assert Event._make(VALUES) == EVENT
    assert Event("a", "b", "/c", None, sequence=1, time=2, sender=3)[7:] == (1, {}, "")
    assert repr(EVENT) == repr(TUPLE(*VALUES)).replace("TUPLE", "Event")
    assert repr(Request(*VALUES)).startswith("Request(system='a'")
    if sys.version_info >= (3, 13):
        assert copy.replace(EVENT, path="/x").path == "/x"
    with pytest.raises(TypeError, match="nonsense"):
        EVENT._replace(nonsense=1)
    with pytest.raises(TypeError, match="sender"):
        Event("a", "b", "/c", None, 1, 2)  # type: ignore[call-arg]


class Noted(Event):
    """A type of event that is made of something else."""

    note: str

    def __new__(cls, event: Event, note: str) -> Noted:
        self = cls._make(event)
        self.note = note
        return self


def test_types_of_events_with_a_constructor_of_their_own() -> None:
    """Others are made of fields without it, as of any tuple with names."""
    noted = Noted(EVENT, "mine")
    for other in (Noted._make(VALUES), noted._replace(path="/x")):
        assert type(other) is Noted
        assert other[3:] == VALUES[3:]
    with pytest.raises(TypeError, match="ten fields"):
        Noted._make(VALUES[:9])
    assert Event._field_defaults == TUPLE_DEFAULTS


class Slotted(Event):
    """What else it has is in slots."""

    __slots__ = ("left_out", "note")
    note: list[Any]


class Both(Slotted):
    """And in a dict."""

    other: str


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Slotted, Both])
def test_what_types_of_events_add_is_pickled_too(kind: type[Slotted], protocol: int) -> None:
    """And copied, be it in slots."""
    event = kind(*VALUES)
    event.note = ["mine"]
    if isinstance(event, Both):
        event.other = "too"
    for same in (pickle.loads(pickle.dumps(event, protocol)), copy.copy(event), copy.deepcopy(event)):
        assert type(same) is kind
        assert (same, same.note) == (event, ["mine"])
        assert getattr(same, "__dict__", None) == getattr(event, "__dict__", None)
        assert not hasattr(same, "left_out")
    assert copy.deepcopy(event).note is not event.note


@pytest.mark.parametrize("field", NAMES)
def test_nothing_can_be_changed(field: str, received: Event) -> None:
    """No field of it, and nothing can be added."""
    for event in (EVENT, received):
        before = getattr(event, field)
        with pytest.raises(AttributeError):
            setattr(event, field, 1)
        with pytest.raises(AttributeError):
            delattr(event, field)
        assert getattr(event, field) is before or getattr(event, field) == before
    with pytest.raises(AttributeError):
        EVENT.another = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        EVENT[0] = "x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("sequence", -1, OverflowError),
        ("time", 2**64, OverflowError),
        ("sender", 2**32, OverflowError),
        ("deliveries", 2**32, OverflowError),
        ("sequence", "7", TypeError),
        ("sender", None, TypeError),
    ],
)
def test_numbers_are_such_as_a_record_holds(field: str, value: Any, error: type[Exception]) -> None:
    """Of what is none an event cannot be made; the references that it was given are given back."""
    data = Data()
    ended = weakref.ref(data)
    with pytest.raises(error):
        EVENT._replace(**{"data": data, field: value})
    del data
    gc.collect()
    assert ended() is None


@pytest.mark.parametrize("field", ["sequence", "time", "sender", "deliveries"])
def test_the_largest_numbers(field: str) -> None:
    """64 bits of sequence and time, 32 of sender and deliveries."""
    largest = 2**64 - 1 if field in ("sequence", "time") else 2**32 - 1
    assert getattr(EVENT._replace(**{field: largest}), field) == largest


class Data:
    """Something that says when it goes."""

    event: Event


def test_the_collector_finds_it() -> None:
    """An event that its own data refer to goes with them."""
    data = Data()
    data.event = EVENT._replace(data=data)
    ended = weakref.ref(data)
    assert gc.is_tracked(data.event)
    del data
    gc.collect()
    assert ended() is None


def test_nothing_but_events_is_put_back(name: str) -> None:
    """What is handed out next was handed out before."""
    with eventbus.open(name) as bus, bus.subscribe("**") as subscription:
        bus.send("a", "b", "/c")
        with pytest.raises(TypeError, match="only events"):
            subscription._ready.put_back([EVENT, ("a", "b")])  # type: ignore[list-item]
        event = subscription.receive(10)
        assert event is not None
        subscription._ready.put_back([event])
        assert subscription.receive(10) is event


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between two steps of Python only")
@pytest.mark.parametrize("requests", [False, True])
def test_one_that_is_not_made_yet(bus: Bus, requests: bool) -> None:
    """Whoever finds it among all objects, in a destructor, gets an error that says so, as of any missing attribute."""
    ways: list[Callable[[Any], object]] = [repr, tuple, lambda event: event[0], lambda event: event == ()]
    found: list[Exception] = []

    class Looking:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            everything = gc.get_objects()
            lists = [one for one in everything if type(one) is list]
            for event in (one for one in everything + gc.get_referents(*lists) if issubclass(type(one), Event)):
                for way in ways:
                    try:
                        way(event)
                    except Exception as error:
                        found.append(error)

    before = gc.get_threshold()
    with bus.subscribe("**") as subscription:
        for threshold in range(1, 12):
            for number in range(3):
                if requests:
                    _asked_in_vain(bus)
                else:
                    bus.send("a", "b", "/c", number)
            gc.disable()
            gc.collect()
            Looking()
            gc.set_threshold(threshold)
            gc.enable()
            try:
                assert len(subscription.receive_many(3, 0)) == 3
            finally:
                gc.set_threshold(*before)
    assert found
    assert {type(error) for error in found} == {AttributeError}


def _asked_in_vain(bus: Bus) -> None:
    with pytest.raises(eventbus.UnavailableError):
        bus.request("a", "b", "/c", timeout=0)
