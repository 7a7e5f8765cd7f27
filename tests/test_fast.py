"""What is done in C instead of in Python: no other answer for it, nothing kept, nothing given back too often."""

from __future__ import annotations

import gc
import itertools
import math
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, InvalidError, SegmentError, _fast
from eventbus.core.native import lib
from harness import take

TOPIC = ("orders", "order.created")
ROUNDS = 2000


class Name(str):
    """A name of its own type, as an enum or a path library may have it."""


@pytest.mark.parametrize(
    "call",
    [
        lambda bus: bus.send(*TOPIC, "/orders/1", 1),
        lambda bus: bus.send(*TOPIC, "/orders/1", data=1),
        lambda bus: bus.send(*TOPIC, path="/orders/1", data=1),
        lambda bus: bus.send(data=1, path="/orders/1", kind=TOPIC[1], system=TOPIC[0]),
        lambda bus: bus.send(*TOPIC, "/orders/1", 1, timeout=None),
        lambda bus: bus.send(*TOPIC, "/orders/1", 1, timeout=0),
        lambda bus: bus.send(*TOPIC, "/orders/1", 1, timeout=2.5),
        lambda bus: bus.send(*TOPIC, "/orders/1", 1, timeout=math.inf),
        lambda bus: bus.send(Name(TOPIC[0]), Name(TOPIC[1]), Name("/orders/1"), 1),
    ],
)
def test_every_way_to_call_send(bus: Bus, call: Callable[[Bus], bool]) -> None:
    """By position, by name, with names of other types: the first of its topic and those after it."""
    with bus.subscribe("**") as sub:
        for sequence in (1, 2):
            assert call(bus) is True
            event = take(sub)
            assert event[:5] == (*TOPIC, "/orders/1", 1, sequence)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda bus: bus.send(), TypeError, "system"),
        (lambda bus: bus.send(*TOPIC), TypeError, "path"),
        (lambda bus: bus.send(*TOPIC, "/", 1, 2), TypeError, "argument"),
        (lambda bus: bus.send(*TOPIC, "/", 1, path="/"), TypeError, "path"),
        (lambda bus: bus.send(*TOPIC, "/", 1, patience=2), TypeError, "patience"),
        (lambda bus: bus.send(*TOPIC, "/", 1, timeout=-1), InvalidError, "timeout"),
        (lambda bus: bus.send(*TOPIC, "/", 1, timeout=math.nan), InvalidError, "timeout"),
        (lambda bus: bus.send(*TOPIC, "/", 1, timeout=True), InvalidError, "timeout"),
        (lambda bus: bus.send(*TOPIC, "/", 1, timeout="2"), InvalidError, "timeout"),
        (lambda bus: bus.send(*TOPIC, ""), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, None), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, b"/"), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, "\ud800"), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, "\ud800", b"raw"), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, "/" * 4097, b"raw"), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, "/" * 4097), InvalidError, "path"),
        (lambda bus: bus.send(*TOPIC, "/", {"a": object()}), InvalidError, "type dict cannot be encoded"),
        (lambda bus: bus.send(["orders"], TOPIC[1], "/"), InvalidError, "system"),
        (lambda bus: bus.send(TOPIC[0], {}, "/"), InvalidError, "kind"),
        (lambda bus: bus.send(*TOPIC, "/", b"x" * (bus.stats().capacity // 2)), InvalidError, "too many"),
    ],
)
def test_every_way_to_call_send_wrongly(
    bus: Bus, call: Callable[[Bus], bool], error: type[Exception], message: str
) -> None:
    """Also where the topic has its route: the error says what to change, and nothing is sent."""
    bus.send(*TOPIC, "/before")
    with pytest.raises(error, match=message):
        call(bus)
    assert bus.stats().sent == 1


def test_a_name_that_closes_the_bus_when_it_is_looked_up(bus: Bus) -> None:
    """Names are compared with what is known, which may run Python: the bus may be gone after it."""

    class Closing(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            bus.close()
            return str.__eq__(self, other)

    bus.send(*TOPIC, "/before")
    name = "".join(["or", "ders"])  # equal to the one that is known, and not the same
    for system in (Closing(name), TOPIC[0]):
        with pytest.raises(ClosedError):
            bus.send(system, TOPIC[1], "/after")
    assert bus.closed


def test_what_was_never_made_whole() -> None:
    """Without ``__init__`` there is an error, not a crash."""
    with pytest.raises(AttributeError):
        _fast.Sender().send(*TOPIC, "/c")
    receiver = _fast.Receiver()
    for call in (lambda: receiver._ready, lambda: receiver._fill(0), lambda: receiver._unpack(None)):  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            call()
    with pytest.raises(AttributeError):
        object.__new__(eventbus.Subscription).receive(0)


def test_a_batch_that_is_left_half_way(bus: Bus) -> None:
    """Events that nobody asked for any more are dropped with the subscription; those asked for stay as they are."""
    with bus.subscribe("**") as sub:
        bus.send_many([(*TOPIC, f"/{number}", {"number": number}) for number in range(10)])
        first, second = take(sub), take(sub)
    assert [(event.path, event.data, event.sequence) for event in (first, second)] == [
        ("/0", {"number": 0}, 1),
        ("/1", {"number": 1}, 2),
    ]
    assert sub.receive(0) is None


def test_events_as_keys(bus: Bus) -> None:
    """An event has the hash of its fields, made here or received."""
    with bus.subscribe("**") as sub:
        bus.send(*TOPIC, "/orders/1", 1)
        event = take(sub)
    assert hash(event) == hash(tuple(event)) == hash(event._replace())
    assert {event: "here"}[tuple(event)] == "here"  # type: ignore[index]
    deaf = event._replace(data=[])
    with pytest.raises(TypeError, match="unhashable"):
        hash(deaf)


@pytest.mark.parametrize("step", ["receive", "drain", "close"])
@pytest.mark.parametrize("data", [1, b"raw"])
def test_a_destructor_that_receives(bus: Bus, data: object, step: str) -> None:
    """What is collected while an event is made may itself receive, or close: nothing comes twice, nothing crashes."""
    sub = bus.subscribe("**")
    got: list[eventbus.Event] = []

    class Owner:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if step == "close":
                sub.close()
            while (event := sub.receive(0)) is not None:
                got.append(event)
                if step == "receive":
                    return

    bus.send_many([(*TOPIC, f"/{number}", data) for number in range(1000)])
    got.append(take(sub))
    before = gc.get_threshold()
    try:
        for threshold in range(1, 40):  # whichever allocation begins the collection
            gc.disable()
            Owner()
            gc.set_threshold(threshold, 1000, 1000)
            gc.enable()
            event = sub.receive(0)
            if event is not None:
                got.append(event)
    finally:
        gc.set_threshold(*before)
        gc.collect()
    sequences = [event.sequence for event in got]
    assert sorted(sequences) == sorted(set(sequences))
    if step == "drain":
        assert len(got) == 1000


def test_receiving_inside_of_a_receive(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is being taken, as a signal handler may find it, there is nothing; then all of it comes, once."""
    opened, nested = eventbus.Subscription._opened, list[object]()

    def receive_and_open(sub: eventbus.Subscription, *batch: Any) -> list[Any]:
        nested.extend((sub.receive(5), sub.receive_many(9, 5)))
        return opened(sub, *batch)

    monkeypatch.setattr(eventbus.Subscription, "_opened", receive_and_open)
    with bus.subscribe("**") as sub:
        for path in ("1 /a", "2 /a", "3 /a", "without"):
            bus._send_own(TOPIC[0], f"{TOPIC[1]}(request)", path, path[0], 0, 0)
        assert [take(sub).data for _ in range(3)] == ["1", "2", "3"]
        with pytest.raises(SegmentError, match="'without'"):
            sub.receive(0)
        assert sub.receive(0) is None
    assert nested == [None, []]


def test_the_columns_of_a_batch(bus: Bus, name: str) -> None:
    """Topics, sequences, texts and raw data of one batch each go with their own event."""
    rows = [
        (system, kind, f"/{number}", data)
        for number, (system, kind, data) in enumerate(
            itertools.product(["a", "b"], ["k", "l"], [1, b"raw", {"x": [2]}, b""])
        )
    ]
    with bus.subscribe("**", "(k|l)") as sub, bus.subscribe("b") as part:
        bus.send_many(rows)
        assert [event[:5] for event in sub.receive_many(100, 0)] == [(*row, at) for at, row in enumerate(rows, 1)]
        assert [event[:5] for event in part.receive_many(100, 0)] == [(*row, at) for at, row in enumerate(rows, 1)][8:]


def test_a_forgotten_subscription_goes(bus: Bus) -> None:
    """Once nobody has it, collecting what is unreachable gives its slot back."""
    sub = bus.subscribe("**")
    bus.send(*TOPIC, "/a", {"number": 1})
    take(sub)
    gone = weakref.ref(sub)
    assert len(bus.stats().subscribers) == 1
    del sub
    gc.collect()
    assert gone() is None
    assert bus.stats().subscribers == ()


# --- nothing is kept ---


def send_and_take(bus: Bus, sub: eventbus.Subscription, data: Any) -> None:
    """One event there and back."""
    bus.send(*TOPIC, "/orders/1", data)
    take(sub)


def refused(bus: Bus, _: eventbus.Subscription) -> None:
    """Every error of a send."""
    arguments: tuple[Any, ...]
    for arguments in (((*TOPIC, "/", object())), (*TOPIC, ""), (*TOPIC, "\ud800", b""), ([], "k", "/"), (*TOPIC,)):
        with pytest.raises((InvalidError, TypeError)):
            bus.send(*arguments)


def damaged(bus: Bus, sub: eventbus.Subscription) -> None:
    """A record that is not what was sent."""
    bus.send(*TOPIC, "/before")
    take(sub)
    route = bus._routes[TOPIC[0]][TOPIC[1]]
    for text in (b'["/a",1,]', b'["/a"]', b"{{}}", None):
        assert (lib.eb_send(route, text) if text else lib.eb_send_raw(route, b"\xff", 1, b"raw", 3)) == 0
        refusals = 0
        while True:
            try:
                if sub.receive(0) is None:
                    break
            except SegmentError:
                refusals += 1
        assert refusals > 0


def asked(bus: Bus, sub: eventbus.Subscription) -> None:
    """A request that nobody answers."""
    with pytest.raises(eventbus.EventBusError):
        bus.request("orders", "ask", "/a", 1, timeout=0)
    sub.receive(0)


STEPS: dict[str, Callable[[Bus, eventbus.Subscription], object]] = {
    "text": lambda bus, sub: send_and_take(bus, sub, {"number": 1, "list": [1.5, None]}),
    "raw": lambda bus, sub: send_and_take(bus, sub, b"raw"),
    "by name": lambda bus, _: bus.send(*TOPIC, path="/a", data=1, timeout=None),
    "refused": refused,
    "damaged": damaged,
    "asked": asked,
    "empty": lambda _, sub: sub.receive(0),
    "many": lambda bus, sub: [bus.send_many([(*TOPIC, "/a", 1)] * 3), sub.receive_many(2, 0), sub.receive(0)],
}


@pytest.mark.parametrize("group", [None, "workers"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_nothing_is_kept(name: str, step: Callable[[Bus, eventbus.Subscription], object], group: str | None) -> None:
    """However often it is done, Python has no more objects than after the first few times."""
    with eventbus.open(name) as bus, bus.subscribe("**", group=group, prefetch=2) as sub:

        def blocks() -> int:
            for _ in range(ROUNDS // 10):
                step(bus, sub)
            while sub.receive(0) is not None:
                pass
            gc.collect()
            return sys.getallocatedblocks()

        counts = [blocks() for _ in range(10)]
        assert counts[-1] - counts[4] < ROUNDS // 10, counts
