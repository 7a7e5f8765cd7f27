"""Views beside others: publishers that fill the ring, and threads that share a subscription."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, Event, FullError, Subscription
from harness import DEADLINE, Fork, Line, until
from viewing import CAPACITY, LARGE, is_released, look, payload, put


@pytest.fixture
def roomy(name: str) -> Iterator[Bus]:
    with eventbus.open(name, capacity=CAPACITY, send_timeout=DEADLINE) as opened:
        yield opened


# --- publishers ---


def fill(line: Line, name: str, first: int, last: int, size: int) -> None:
    with eventbus.open(name, send_timeout=DEADLINE) as bus:
        line.say()
        for number in range(first, last):
            put(bus, number, size=size)


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_beside_a_publisher_that_fills_the_ring(roomy: Bus, fork: Fork, name: str, kept: int) -> None:
    """It never overwrites what is looked at, nor waits for ever."""
    with roomy.subscribe("a", view=True) as sub:
        other = fork(fill, name, 0, 400, 60_000)
        other.hear()
        window: list[memoryview] = []
        for number in range(400):
            view = look(sub)
            window.append(view[:])
            assert view == payload(number, 60_000)
            for age, part in enumerate(reversed(window)):
                assert part == payload(number - age, 60_000)
            del window[: len(window) - kept]
        other.result()


def test_who_looks_is_named(roomy: Bus) -> None:
    """A full ring is somebody's who looks at it: the error says whose, and what to do."""
    with roomy.subscribe("a", view=True, name="watcher") as sub:
        put(roomy, *range(roomy.stats().capacity // (LARGE + 48)))
        events = sub.receive_many(99, 0)
        with pytest.raises(
            FullError, match=r"'watcher' of process [0-9]+ still looks at [0-9]+ bytes of the ring; let it ask"
        ):
            roomy.send("a", "raw", "/x", payload(0), timeout=0)
        assert sub.receive(0) is None
        assert all(is_released(event.data) for event in events)
        roomy.send("a", "raw", "/x", payload(1), timeout=0)
        assert look(sub) == payload(1)


def test_what_is_kept_holds_up_no_others(roomy: Bus, fork: Fork, name: str) -> None:
    """Who waits for the next and keeps the last holds nobody up with what it does not hear."""

    def flood(line: Line) -> None:
        with eventbus.open(name, send_timeout=DEADLINE) as bus:
            for number in range(100):
                bus.send("b", "raw", "/x", payload(number))
            put(bus, 2)

    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1)
        part = look(sub)[:]
        other = fork(flood)
        assert look(sub) == payload(2)
        assert part == payload(1)
        other.result()


def test_who_may_only_subscribe(roomy: Bus) -> None:
    """The ring is mapped to be read alone, once more for views; nothing of it can be written through them."""
    with eventbus.open(roomy.name, role="subscriber") as reader, reader.subscribe("a", view=True) as sub:
        kept = []
        for number in range(30):
            put(roomy, number)
            kept.append(look(sub)[1:])
            with pytest.raises(TypeError, match="read-only"):
                kept[-1][0] = 0
        assert [view == payload(number)[1:] for number, view in enumerate(kept)] == [True] * 30


# --- threads ---


def test_each_thread_has_its_own(roomy: Bus) -> None:
    """What one looks at is not released because another one asks; each asks for itself."""
    got: list[memoryview] = []
    asked, go_on = threading.Event(), threading.Event()

    def other(sub: Subscription) -> None:
        got.append(look(sub))
        asked.set()
        go_on.wait(DEADLINE)
        got.append(look(sub))

    with roomy.subscribe("a", view=True) as sub:
        thread = threading.Thread(target=other, args=(sub,))
        thread.start()
        put(roomy, 0)
        asked.wait(DEADLINE)
        for number in range(1, 40):
            put(roomy, number)
            mine = look(sub)
            assert mine == payload(number)
            assert got[0] == payload(0)
        put(roomy, 40)
        go_on.set()
        thread.join()
        assert is_released(got[0])
        assert mine == payload(39)
        assert got[1] == payload(40)


@pytest.mark.parametrize("size", [500, 20_000])
@pytest.mark.parametrize("style", ["receive", "iterate", "many"])
def test_a_crowd_of_threads(roomy: Bus, fork: Fork, name: str, size: int, style: str) -> None:
    """Wherever they take turns, each event goes to one of them, with the right bytes; none comes to an early end."""
    got: list[list[int]] = [[] for _ in range(4)]

    def check(mine: list[int], events: list[Event]) -> None:
        for event in events:
            number = int(bytes(event.data[:8]))
            assert event.data == payload(number, size)
            mine.append(number)

    def listen(sub: Subscription, mine: list[int]) -> None:
        if style == "iterate":
            for event in sub:
                check(mine, [event])
        else:
            while events := sub.receive_many(5) if style == "many" else [sub.receive()]:
                if events == [None]:
                    break
                check(mine, events)  # type: ignore[arg-type]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with roomy.subscribe("a", view=True) as sub:
            threads = [threading.Thread(target=listen, args=(sub, mine)) for mine in got]
            for thread in threads:
                thread.start()
            other = fork(fill, name, 0, 1500, size)
            other.hear()
            other.result()
            until(lambda: sum(map(len, got)) == 1500, "not all came")
            assert all(thread.is_alive() for thread in threads)
            roomy.shutdown()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(number for mine in got for number in mine) == list(range(1500))


def test_of_a_thread_that_is_gone_nothing_stays(roomy: Bus) -> None:
    """What it looked at and nobody has any more frees the ring."""
    got: list[bytes] = []
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, *range(6))
        for _ in range(5):
            thread = threading.Thread(target=lambda: got.append(bytes(look(sub))))
            thread.start()
            thread.join()
        assert look(sub) == payload(5)
        assert got == [payload(number) for number in range(5)]
        assert sub.receive(0) is None
        assert roomy.stats().subscribers[0].viewed == 0
        assert sub.receive(0) is None
        assert sub._lent == []
