"""Who sends what is due: whoever sleeps, polls or publishes, when others have ended, and after the end of the bus."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, FullError, Subscription
from harness import Fork, Line, arm, take, until

DAY = 86400.0
SOON = 0.05  # seconds
ATTEMPTS = 20


def numbers(bus: Bus) -> list[int]:
    """Of what is to be sent, the next one first."""
    return [one.number for one in bus.stats().scheduled]


def all_of(sub: Subscription) -> list[Any]:
    """The data of all that there is."""
    return [event.data for event in sub.receive_many(1 << 20, 0)]


def put_down_until(bus: Bus, condition: Callable[[], bool]) -> int:
    """Puts down numbers, one after the other, each due soon, until the condition holds; the last one.

    On a busy machine one may be due before whoever is told of it has run.
    """
    for number in range(1, ATTEMPTS):
        until(lambda: condition() or bus.stats().subscribers[0].sleeping, "it to sleep")
        bus.send_later("a", "b", "/", number, delay=SOON)
        until(lambda: condition() or not bus.stats().scheduled, "it to be sent")
        if condition():
            return number
    pytest.fail("nobody looks when something is due")


def keep(line: Line, name: str, group: str | None) -> None:
    """Receives; says, and stops, once it sleeps until something is due."""
    with eventbus.open(name) as bus, bus.subscribe("a", group=group, spin=0, name="keeper") as sub:
        line.say("ready")
        arm("keeper_set", signal.SIGSTOP)
        for _ in sub:
            pass


def receive_one(line: Line, name: str, group: str | None) -> int:
    """The number that comes next."""
    with eventbus.open(name) as bus, bus.subscribe("a", group=group, spin=0, name="heir") as sub:
        line.say("ready")
        number: int = take(sub).data
        return number


@pytest.mark.parametrize("group", [None, "g"])
def test_the_keeper_is_killed(fork: Fork, bus: Bus, group: str | None) -> None:
    """One that sleeps is told by another process of what is due soon, and sleeps until then. When it is killed in that,
    another one sends it that was not told anything."""
    keeper = fork(keep, bus.name, group)
    assert keeper.hear() == "ready"
    last = put_down_until(bus, keeper.stands_still)
    heir = fork(receive_one, bus.name, group)
    assert heir.hear() == "ready"
    keeper.kill()
    assert heir.result() == last


def put_down(_: Line, name: str, point: str | None, delay: float) -> None:
    """Puts one down, and dies at the point."""
    bus = eventbus.open(name)
    bus.send("a", "b", "/", "known")
    if point is not None:
        arm(point)
    bus.send_later("a", "b", "/", 7, delay=delay)


@pytest.mark.parametrize(("point", "heard"), [("schedule_look", []), ("schedule_stored", [7]), (None, [7])])
def test_who_put_it_down_has_ended(fork: Fork, bus: Bus, point: str | None, heard: list[int]) -> None:
    """It is sent once by whoever is there, or not at all if it was not put down yet."""
    with bus.subscribe("a") as sub:
        child = fork(put_down, bus.name, point, SOON)
        child.killed() if point else child.result()
        assert take(sub).data == "known"
        assert [event.data for event in iter(lambda: sub.receive(10 if bus.stats().scheduled else 0), None)] == heard
        assert bus.stats().scheduled == ()


def test_nobody_sleeps(bus: Bus) -> None:
    """It is sent by the next publisher, after its own; or by who polls."""
    with bus.subscribe("a") as sub:
        bus.send_later("a", "b", "/", 7, delay=SOON)
        until(lambda: bus.stats().scheduled[0].due < 0, "it to be due")
        bus.send("a", "b", "/", 1)
        assert bus.stats().scheduled == ()
        assert all_of(sub) == [1, 7]
        bus.send_later("a", "b", "/", 8, delay=0)
        assert all_of(sub) == [8]


def test_with_full_hands(bus: Bus) -> None:
    """A member that waits until one of its events is finished sends what is due meanwhile."""
    with bus.subscribe("jobs", group="g", ack="manual", prefetch=1) as member, bus.subscribe("a") as sub:
        bus.send("jobs", "job", "/")
        event = take(member)
        bus.send_later("a", "b", "/", 7, delay=SOON)
        waiting = threading.Thread(target=member.receive, args=(60,))
        waiting.start()
        until(lambda: bus.stats().scheduled == (), "it to be sent")
        member.ack(event)
        bus.send("jobs", "job", "/")
        waiting.join()
        assert all_of(sub) == [7]


def test_it_comes_in_its_turn_while_others_wait_for_room(fork: Fork, name: str) -> None:
    """A large one that is due is sent although small ones fill the ring as fast as it is emptied."""
    with eventbus.open(name, capacity=64 * 1024) as bus, bus.subscribe("**") as sub:
        floods = [fork(flood, name) for _ in range(2)]
        for child in floods:
            assert child.hear() == "full"
        large = b"x" * 7000
        bus.send_later("a", "large", "/", large, delay=0)
        seen: Counter[str] = Counter()
        while not seen["large"]:
            event = take(sub)
            seen[event.kind] += 1
            assert event.kind == "small" or event.data == large
        for child in floods:
            child.kill()


def flood(line: Line, name: str) -> None:
    """Sends for ever, and says when the ring is full for the first time."""
    bus = eventbus.open(name)
    try:
        while True:
            bus.send("a", "small", "/", "x" * 100, timeout=0)
    except FullError:
        line.say("full")
    while True:
        bus.send("a", "small", "/", "x" * 100, timeout=None)


# --- the life of the bus ---


def test_it_outlives_all_processes(name: str) -> None:
    """On a bus that stays, what was due while nobody was there is sent by the next one, once; the rest later."""
    with eventbus.open(name, persist=True) as bus:
        bus.group("g", "a")
        bus.send_later("a", "b", "/", 1, delay=0.001)
        late = bus.send_later("a", "b", "/", 2, delay=DAY)
    with eventbus.open(name) as bus, bus.subscribe("a", group="g") as member:
        assert take(member).data == 1
        assert numbers(bus) == [late]
        assert bus.send_later("a", "b", "/", 3, delay=DAY) == late + 1
        assert bus.cancel(late)
    eventbus.unlink(name)


def test_shut_down(name: str) -> None:
    """On a bus that was shut down nothing is sent any more; it can be seen what was to be."""
    with eventbus.open(name) as bus, bus.subscribe("a") as sub:
        number = bus.send_later("a", "b", "/", 1, delay=SOON)
        bus.shutdown()
        assert sub.receive(1) is None
        assert sub.closed
        until(lambda: bus.stats().scheduled[0].due < 0, "it to be due")
        assert numbers(bus) == [number]
        with pytest.raises(ClosedError):
            bus.send_later("a", "b", "/", 1, delay=SOON)
    with pytest.raises(ClosedError):
        bus.send_later("a", "b", "/", 1, delay=SOON)
    with pytest.raises(ClosedError):
        bus.cancel(number)


def put_down_in_a_fork(_: Line, bus: Bus) -> int:
    """What the child of a process that has the bus open puts down."""
    return bus.send_later("a", "b", "/", "child", delay=SOON)


def test_after_a_fork(fork: Fork, bus: Bus) -> None:
    """A forked child goes on counting where its parent did; both events come."""
    with bus.subscribe("a") as sub:
        assert bus.send_later("a", "b", "/", "parent", delay=2 * SOON) == 1
        assert fork(put_down_in_a_fork, bus).result() == 2
        assert sorted(take(sub).data for _ in range(2)) == ["child", "parent"]
        assert sub.receive(0) is None


def test_threads(bus: Bus) -> None:
    """Threads put down at once: each gets a number of its own, and all come."""
    threads, each = 4, 8
    given: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + each):
            given.append(bus.send_later("a", "b", "/", number, delay=SOON))

    with bus.subscribe("a") as sub:
        all_threads = [threading.Thread(target=work, args=(n * each,)) for n in range(threads)]
        for thread in all_threads:
            thread.start()
        for thread in all_threads:
            thread.join()
        assert sorted(given) == [*range(1, threads * each + 1)]
        assert sorted(take(sub).data for _ in given) == [*range(threads * each)]
