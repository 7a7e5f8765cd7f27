"""Opening, describing and leaving a bus: options, statistics, pickling, the default bus."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

import eventbus
from eventbus import Bus, BusStats, ClosedError, InvalidError, SubscribersFullError, errors
from harness import ring_of, roster_of

PAGE = os.sysconf("SC_PAGESIZE")


BAD_BUS_NAMES: list[Any] = ["", "a/b", "/a", ".a", "-a", "a b", "é", "a\0b", "a\n", "x" * 201, None, 7, b"a"]


@pytest.mark.parametrize("bad", BAD_BUS_NAMES)
def test_a_bad_bus_name(bad: Any) -> None:
    """A name that no bus can have is an error of `open` and `unlink` that says what a name is made of."""
    for call in (eventbus.open, eventbus.unlink):
        with pytest.raises(InvalidError, match=r"name"):
            call(bad)


BAD_OPTIONS: list[tuple[str, Any]] = [
    *(("capacity", bad) for bad in (0, -1, 1.5, "1", True, 1 << 41, 1 << 70)),
    *(("max_subscribers", bad) for bad in (0, -1, 1.5, "1", True, 1025, 1 << 70)),
    *(("mode", bad) for bad in (0o666, 0o644, 0, "600", None)),
    *(("role", bad) for bad in ("owner", None, 1)),
]


@pytest.mark.parametrize(("option", "bad"), BAD_OPTIONS)
def test_a_bad_option(name: str, option: str, bad: Any) -> None:
    """A bad option of `open` is an error that names it, and nothing is created."""
    with pytest.raises(InvalidError, match=option):
        eventbus.open(name, **{option: bad})
    assert not roster_of(name).exists()


def test_an_unknown_option(bus: Bus) -> None:
    """An option that does not exist is a TypeError everywhere."""
    calls: list[Any] = [eventbus.open, bus.subscribe, bus.send_many, bus.stats, eventbus.unlink]
    for call in calls:
        with pytest.raises(TypeError):
            call("x", colour="red")


def test_capacity(name: str) -> None:
    """The capacity is rounded up to a page, is the first opener's, and another one is an error that names both."""
    with eventbus.open(name, capacity=PAGE + 1, max_subscribers=3) as bus:
        assert (bus.stats().capacity, bus.stats().max_subscribers) == (2 * PAGE, 3)
        eventbus.open(name).close()
        eventbus.open(name, capacity=2 * PAGE - 5, max_subscribers=3).close()
        for option, asked, there in (("capacity", 3 * PAGE, 2 * PAGE), ("max_subscribers", 4, 3)):
            with pytest.raises(InvalidError, match=f"{there}.*{asked}") as caught:
                eventbus.open(name, **{option: asked})  # type: ignore[arg-type]
            assert caught.value.details == {"existing": there, "requested": asked}
    with eventbus.open(name) as bus:
        assert (bus.stats().capacity, bus.stats().max_subscribers) == (16 << 20, 64)


def test_subscriber_slots(name: str) -> None:
    """With all slots taken the error says how many there are, and a closed subscription gives its slot back."""
    with eventbus.open(name, capacity=PAGE, max_subscribers=2) as bus:
        first, second = bus.subscribe("a"), bus.subscribe("b")
        with pytest.raises(SubscribersFullError, match=r"all 2 .* leaking") as caught:
            bus.subscribe("c")
        assert (caught.value.kind, caught.value.retryable, caught.value.details) == ("UNAVAILABLE", True, {"limit": 2})
        first.close()
        bus.subscribe("c").close()
        second.close()


def test_stats(bus: Bus) -> None:
    """The snapshot is exact, counts per topic and per subscriber, and is frozen."""
    with bus.subscribe("a.*", "b", name="first") as first, bus.subscribe("**", overflow="drop", name="second"):
        bus.send_many([("a", "b", "/1"), ("a", "c", "/2"), ("x", "b", "/3"), ("a", "b", "/4")])
        assert first.receive(0) is not None
        stats = bus.stats()
        assert isinstance(stats, BusStats)
        assert (stats.name, stats.sent, stats.attached, stats.closed, stats.persist) == (bus.name, 4, 1, False, False)
        assert stats.used == stats.committed > 0
        assert stats.topics == {("a", "b"): 2, ("a", "c"): 1, ("x", "b"): 1}
        one, two = stats.subscribers
        assert (one.name, one.pid, one.system, one.kind, one.overflow) == ("first", os.getpid(), "a.*", "b", "block")
        assert (two.name, two.backlog, two.lost, two.kind, two.overflow) == ("second", 4, 0, "**", "drop")
        with pytest.raises(AttributeError):
            stats.sent = 5  # type: ignore[misc]


def test_wait_for_subscribers(bus: Bus) -> None:
    """It counts live subscriptions that would hear the system, any if none is named, and says when the time is up."""
    assert bus.wait_for_subscribers(0, timeout=0)
    assert not bus.wait_for_subscribers(1, timeout=0)
    with bus.subscribe("orders.*"), bus.subscribe("users"):
        assert bus.wait_for_subscribers(2, timeout=0)
        assert bus.wait_for_subscribers(1, "orders.eu", 0)
        assert not bus.wait_for_subscribers(2, "orders.eu", 0.01)
        with bus.subscribe(["users", "orders.(eu|us)", "x"]):
            assert bus.wait_for_subscribers(2, "orders.eu", 0)
            assert bus.wait_for_subscribers(2, "users", 0)
            assert not bus.wait_for_subscribers(2, "x", 0)
        for count, system in ((-1, "a"), (True, "a"), ("1", "a"), (1.0, "a"), (1, "a.*"), (1, "")):
            with pytest.raises(InvalidError):
                bus.wait_for_subscribers(count, system)  # type: ignore[arg-type]
    assert not bus.wait_for_subscribers(1, timeout=0)
    bus.shutdown()
    with pytest.raises(ClosedError):
        bus.wait_for_subscribers(1)


def test_closing_twice(name: str) -> None:
    """A closed bus says so wherever it is used, and closing it again does nothing."""
    with eventbus.open(name) as bus, bus.subscribe("a") as sub:
        bus.close()
        bus.close()
        sub.close()
        assert (bus.closed, bus.attached, sub.closed, sub.backlog, sub.lost) == (True, False, True, 0, 0)
        assert sub.receive() is None
        assert sub.channel().receive() == (None, False)
        for call in (
            lambda: bus.send("a", "b", "/c"),
            lambda: bus.send_many([("a", "b", "/c")]),
            lambda: bus.subscribe("a"),
            lambda: bus.wait_for_subscribers(0),
            bus.stats,
            bus.shutdown,
            lambda: pickle.dumps(bus),
        ):
            with pytest.raises(ClosedError) as caught:
                call()
            assert (caught.value.kind, caught.value.retryable) == (errors.CANCELED, False)


def test_a_subscriber_cannot_send(bus: Bus) -> None:
    """With role="subscriber" a process receives, and can neither send nor shut down."""
    bus.send("a", "b", "/known")
    with eventbus.open(bus.name, role="subscriber") as other, other.subscribe("**") as sub:
        for call in (lambda: other.send("a", "b", "/c"), lambda: other.send("c", "d", "/e"), other.shutdown):
            with pytest.raises(InvalidError, match="role='subscriber'"):
                call()
        bus.send("a", "b", "/c", 1)
        event = sub.receive(0)
        assert event is not None
        assert event.data == 1


def test_pickling(bus: Bus) -> None:
    """A Bus pickles by name with its options; a Subscription does not, and says what to do."""
    with pickle.loads(pickle.dumps(bus)) as other, other.subscribe("a") as sub:
        bus.send("a", "b", "/c", 1)
        assert sub.receive(0) is not None
        assert other.stats().attached == 2
        with pytest.raises(TypeError, match="pass the Bus"):
            pickle.dumps(sub)


def test_unlink(name: str) -> None:
    """`unlink` removes both segments; without a bus of that name it says so."""
    with eventbus.open(name):
        eventbus.unlink(name)
        assert not ring_of(name).exists()
        assert not roster_of(name).exists()
        with pytest.raises(FileNotFoundError, match=name):
            eventbus.unlink(name)


def test_the_default_bus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`eventbus.send` and `eventbus.subscribe` use the bus that EVENTBUS_NAME names, opened anew after its close."""
    monkeypatch.setenv("EVENTBUS_NAME", name)
    for _ in range(2):
        with eventbus.default_bus() as bus, eventbus.subscribe("a", "b") as sub:
            assert bus.name == name
            assert eventbus.send("a", "b", "/c", {"x": 1}, timeout=1)
            event = sub.receive(0)
            assert event is not None
            assert event.data == {"x": 1}
    monkeypatch.delenv("EVENTBUS_NAME")
    with eventbus.default_bus() as bus:
        assert bus.name == f"default-{os.getuid()}"
