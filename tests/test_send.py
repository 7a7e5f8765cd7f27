"""What can be sent, and what each bad argument of a send is told."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, errors
from harness import take


def heard(bus: Bus, *events: tuple[Any, ...]) -> list[Event]:
    """What a subscriber of everything gets of these events."""
    with bus.subscribe("**") as sub:
        for event in events:
            assert bus.send(*event) is True
        return sub.receive_many(len(events), 5)


def test_the_first_example(name: str) -> None:
    """The first example of the specification does what it says."""
    bus = eventbus.open(name)
    sub = bus.subscribe("orders.*")
    assert bus.send("orders", "order.created", "/orders/123", {"order_id": "123", "total": 99.99}) is True
    event, ok = sub.channel().receive(timeout=1.0)
    assert ok
    assert event is not None
    assert event.data == {"order_id": "123", "total": 99.99}
    assert sub.receive(timeout=0) is None
    bus.shutdown()
    assert list(sub) == []
    sub.close()
    bus.close()


def test_an_event(bus: Bus) -> None:
    """An event has its four parts, a sequence from 1, a time of sending, a sender, and is immutable."""
    first, second = heard(bus, ("a.b", "c.d", "/é", {"x": [1, None]}), ("a.b", "c.d", "/2"))
    assert first[:5] == ("a.b", "c.d", "/é", {"x": [1, None]}, 1)
    assert (second.data, second.sequence) == (None, 2)
    assert 0 < first.time <= second.time
    assert (first.sender, first.deliveries) == (os.getpid(), 1)
    with pytest.raises(AttributeError):
        first.path = "/other"  # type: ignore[misc]


BAD_NAMES: list[Any] = ["", None, 7, b"bytes", "x" * 256, "é" * 128, "a*", "**", "a|b", "(a)", "a..b", ".a", "a."]


@pytest.mark.parametrize("bad", BAD_NAMES)
@pytest.mark.parametrize("where", ["system", "kind"])
def test_a_bad_system_or_kind(bus: Bus, where: str, bad: Any) -> None:
    """A system or kind that nobody could have is an error that names it, by `send` and `send_many`; nothing is sent."""
    event = (bad, "kind", "/path") if where == "system" else ("system", bad, "/path")
    calls: list[Callable[[], Any]] = [lambda: bus.send(*event), lambda: bus.send_many([("a", "b", "/c"), event])]
    for call in calls:
        with pytest.raises(InvalidError, match=where) as caught:
            call()
        assert isinstance(caught.value, ValueError)
        assert (caught.value.kind, caught.value.retryable) == (errors.INVALID, False)
    assert bus.stats().sent == 0


BAD_PATHS: list[Any] = ["", None, 7, b"bytes", "x" * 4097, "é" * 2049, "\ud800", Path("/x")]


@pytest.mark.parametrize("data", [{"a": 1}, b"raw"])
@pytest.mark.parametrize("bad", BAD_PATHS)
def test_a_bad_path(bus: Bus, bad: Any, data: Any) -> None:
    """A path that is empty, no str or too long is an error that says so, also for a topic that is known."""
    for system in ("new", "known"):
        with pytest.raises(InvalidError, match="path"):
            bus.send(system, "kind", bad, data)
        bus.send("known", "kind", "/good", data)
    assert bus.stats().sent == 2


def test_arguments_are_checked_in_order(bus: Bus) -> None:
    """Of several bad arguments the first one is named: system, kind, path, then the data."""
    for arguments, named in (
        (("", "", "", {1, 2}), "system"),
        (("a", "", "", {1, 2}), "kind"),
        (("a", "b", "", {1, 2}), "path"),
        (("a", "b", "/c", {1, 2}), "data of type set"),
    ):
        for _ in range(2):
            with pytest.raises(InvalidError, match=named):
                bus.send(*arguments)
    assert bus.stats().sent == 0


def test_the_longest_names_and_path(bus: Bus) -> None:
    """255 bytes of system and kind and 4096 bytes of path arrive as they were sent, ASCII or not."""
    for letter in ("x", "é"):
        width = len(letter.encode())
        system, path = "s" + letter * (254 // width), letter * (4096 // width)
        event = heard(bus, (system, "k" + system[1:], path, b"raw"), (system, "k" + system[1:], path, 1))[0]
        assert (event.system, event.path, event.data) == (system, path, b"raw")


def test_the_largest_event(bus: Bus) -> None:
    """An event of a quarter of the ring arrives; one byte more is an error with both sizes, whatever its form."""
    quarter = bus.stats().capacity // 4 - 32
    for large, more in (("x" * (quarter - 7), "x"), (b"x" * (quarter - 2), b"x")):
        assert heard(bus, ("a", "b", "/c", large))[0].data == large
        sent = bus.stats().sent
        for call in (bus.send, lambda *event: bus.send_many([("a", "b", "/c"), event])):
            with pytest.raises(InvalidError, match="larger capacity") as caught:
                call("a", "b", "/c", large + more * 8)  # type: ignore[operator]
        assert caught.value.details["limit"] == bus.stats().capacity // 4
        assert bus.stats().sent == sent


BAD_TIMEOUTS: list[Any] = [-1, -0.001, math.nan, -math.inf, "1", True, [], b"1"]


@pytest.mark.parametrize("bad", BAD_TIMEOUTS)
def test_a_bad_timeout(bus: Bus, name: str, bad: Any) -> None:
    """A timeout that is no number of seconds is an error wherever one is taken, even with nothing to wait for."""
    bus.send("a", "b", "/c")
    with bus.subscribe("a") as sub:
        for call in (
            lambda: bus.send("a", "b", "/c", timeout=bad),
            lambda: bus.send_many([("a", "b", "/c")], timeout=bad),
            lambda: bus.wait_for_subscribers(1, timeout=bad),
            lambda: sub.receive(bad),
            lambda: sub.receive_many(1, bad),
            lambda: sub.channel().receive(bad),
            lambda: eventbus.open(name, send_timeout=bad),
        ):
            with pytest.raises(InvalidError, match="timeout"):
                call()
    assert bus.stats().sent == 1


def test_good_timeouts(bus: Bus) -> None:
    """None, 0, numbers and infinity are timeouts."""
    with bus.subscribe("a") as sub:
        for timeout in (None, 0, 0.0, 1, 0.5, 1e300, math.inf):
            bus.send("a", "b", "/c", timeout=timeout)
            assert sub.receive(timeout) is not None
        assert sub.receive(0) is None
        assert sub.receive(1e-9) is None


def test_send_many(bus: Bus) -> None:
    """`send_many` takes events with and without data from any iterable, and returns their number."""
    with bus.subscribe("**") as sub:
        assert bus.send_many(("a", "b", f"/{n}") if n % 2 else ("a", "b", f"/{n}", b"raw") for n in range(5)) == 5
        assert [(event.path, event.data) for event in sub.receive_many(9, 0)] == [
            ("/0", b"raw"),
            ("/1", None),
            ("/2", b"raw"),
            ("/3", None),
            ("/4", b"raw"),
        ]
        assert bus.send_many([]) == 0
        assert len({event.sequence for event in sub.receive_many(9, 0)}) == 0


@pytest.mark.parametrize("bad", [("a", "b"), ("a", "b", "/c", 1, 2), "abc", None, 7])
def test_send_many_with_something_else(bus: Bus, bad: Any) -> None:
    """What is no event is an error, and the good ones beside it are not sent."""
    with pytest.raises(InvalidError, match="each event must be"):
        bus.send_many([("a", "b", "/c"), bad])
    assert bus.stats().sent == 0


def test_send_many_is_all_or_nothing(bus: Bus) -> None:
    """When one of the events is bad, raises while it is made, or all together are too many, none is sent."""

    def broken() -> Iterator[tuple[str, str, str]]:
        yield "a", "b", "/c"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        bus.send_many(broken())
    with pytest.raises(InvalidError, match="cannot be encoded"):
        bus.send_many([("a", "b", "/c"), ("a", "b", "/d", object())])
    with pytest.raises(InvalidError, match="fit into the ring"):
        bus.send_many([("a", "b", "/c", "x" * 8000)] * 9)
    assert bus.stats().sent == 0


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytearray(2 * data))[::2],
        lambda data: type("B", (bytes,), {})(data),
    ],
)
def test_whatever_holds_bytes_is_sent_as_they_are(bus: Bus, make: Callable[[bytes], Any], many: bool) -> None:
    """Raw data of any type arrive as bytes; in one piece or not, alone or with others; and may change afterwards."""
    sub = bus.subscribe("a")
    data = make(b"abcabc")
    if many:
        assert bus.send_many([("a", "k", "/1", data), ("a", "k", "/2", data, None), ("a", "k", "/3", 3)]) == 3
        assert [event.data for event in sub.receive_many(9, 0)] == [bytes(data), bytes(data), 3]
    else:
        for _ in range(2):  # the second time its topic is known
            bus.send("a", "k", "/1", data)
            assert take(sub).data == bytes(data)
    if isinstance(data, bytearray):
        data.append(1)


@pytest.mark.parametrize("many", [False, True])
def test_released_memory_is_refused(bus: Bus, many: bool) -> None:
    """A memoryview that was released is an error of its own, and nothing is sent."""
    bus.send("a", "k", "/1")
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        bus.send_many([("a", "k", "/1"), ("a", "k", "/1", view)]) if many else bus.send("a", "k", "/1", view)
    assert bus.stats().sent == 1
