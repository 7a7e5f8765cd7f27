"""Processes that die or stand still under load, and what the others see of it."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

import eventbus
from eventbus import Bus, FullError, UnavailableError
from eventbus.core import native
from harness import DEADLINE, Fork, Line, arm, sealed, unsealed, until
from matrix.scene import ROOM

PUBLISHERS = 40
FILLER = "x" * 200
MARKER = -1  # the publisher number of the test's own events


def publish_for_ever(line: Line, name: str, publisher: int) -> None:
    """Sends one sealed event after the other until it is killed."""
    bus = eventbus.open(name, send_timeout=None)
    line.say("open")
    number = 0
    while True:
        bus.send("load", "event", "/load", sealed(publisher, number))
        number += 1


def check_all(line: Line, name: str) -> Counter[int]:
    """Receives until the last marker: each event whole, each publisher's in order without a gap."""
    with eventbus.open(name) as bus, bus.subscribe("**", name="checker") as sub:
        line.say("subscribed")
        heard: Counter[int] = Counter()
        for sequence, event in enumerate(sub, 1):
            assert event.sequence == sequence
            publisher, number = unsealed(event)
            assert number == heard[publisher]
            heard[publisher] += 1
            if heard[MARKER] == PUBLISHERS:
                break
        return heard


def test_forty_publishers_killed_at_random_moments(fork: Fork, name: str) -> None:
    """Killed under load at any moment, publishers leave whole events without a gap, and the bus goes on at once."""
    seed = time.time_ns()
    print(f"seed {seed}")
    moments = random.Random(seed)
    with eventbus.open(name, capacity=1 << 20) as bus:
        checkers = [fork(check_all, name) for _ in range(2)]
        for checker in checkers:
            checker.hear()
        for marker in range(PUBLISHERS):
            publisher = fork(publish_for_ever, name, marker)
            companion = fork(publish_for_ever, name, PUBLISHERS + marker)
            publisher.hear()
            companion.hear()
            time.sleep(moments.uniform(0, 0.005))
            publisher.kill()
            bus.send("load", "marker", "/marker", sealed(MARKER, marker), timeout=DEADLINE)
            companion.kill()
        first, second = (checker.result() for checker in checkers)
        assert first == second
        assert first[MARKER] == PUBLISHERS
        stats = bus.stats()
        assert sum(stats.topics.values()) == stats.sent


def subscribe_and_wait(line: Line, name: str) -> int:
    """A subscriber that receives only when it is told to; how many events it got."""
    with eventbus.open(name) as bus, bus.subscribe("**", name="lazy") as sub:
        line.say("subscribed")
        line.hear()
        return len(sub.receive_many(1 << 20, timeout=0))


def fill(bus: Bus) -> int:
    """Sends until the ring has no room for one more like these; how many events that took."""
    sent = 0
    while True:
        try:
            bus.send("load", "event", "/load", FILLER, timeout=0)
        except FullError:
            return sent
        sent += 1


def test_dead_subscribers_do_not_hold_a_full_ring(fork: Fork, bus: Bus) -> None:
    """Three subscribers killed while the ring is full: the publisher goes on."""
    lazy = [fork(subscribe_and_wait, bus.name) for _ in range(3)]
    for child in lazy:
        child.hear()
    fill(bus)
    for child in lazy:
        child.kill()
    assert bus.send("load", "event", "/load", FILLER, timeout=DEADLINE)
    assert bus.stats().subscribers == ()


def test_a_publisher_blocked_on_dead_subscribers_goes_on(fork: Fork, bus: Bus) -> None:
    """A publisher that already waits for room when the subscribers die gets on too."""
    lazy = [fork(subscribe_and_wait, bus.name) for _ in range(3)]
    for child in lazy:
        child.hear()
    fill(bus)
    publisher = fork(send_when_possible, bus.name)
    assert publisher.hear() == "waits"
    for child in lazy:
        child.kill()
    assert publisher.result(ROOM) is True


def send_when_possible(line: Line, name: str) -> bool:
    """Sends one event, however long it takes."""
    with eventbus.open(name) as bus:
        with pytest.raises(FullError):
            bus.send("load", "event", "/load", FILLER, timeout=0)
        line.say("waits")
        return bus.send("load", "event", "/load", FILLER, timeout=None)


def test_a_stopped_subscriber_is_named(fork: Fork, bus: Bus) -> None:
    """A subscriber that was stopped is no dead one: `send` ends with its timeout and names it, and nothing is lost."""
    lazy = fork(subscribe_and_wait, bus.name)
    lazy.hear()
    lazy.stop()
    sent = fill(bus)
    with pytest.raises(FullError, match=f"process {lazy.pid}") as caught:
        bus.send("load", "event", "/load", FILLER, timeout=0.2)
    assert caught.value.details == {"name": "lazy", "pid": lazy.pid, "backlog": sent, "timeout": 0.2}
    assert caught.value.retryable
    lazy.go_on()
    lazy.say("receive")
    assert lazy.result() == sent


def stop_with_the_lock(line: Line, name: str, point: str) -> None:
    """Stands still at a test point while it holds the publish lock."""
    with eventbus.open(name) as bus:
        bus.send("load", "event", "/known", sealed(0, 0))
        arm(point, signal.SIGSTOP)
        bus.send("load", "event", "/held", sealed(0, 1))


@pytest.mark.parametrize("point", ["publish_locked", "publish_header", "publish_committed"])
@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_stopped_publisher_is_named(fork: Fork, bus: Bus, point: str, timeout: float) -> None:
    """Whoever stands still with the publish lock is named when `send`'s time is up; later all goes on, nothing lost."""
    with bus.subscribe("**") as sub:
        holder = fork(stop_with_the_lock, bus.name, point)
        holder.wait_stopped()
        with pytest.raises(UnavailableError, match=f"process {holder.pid} keeps the publish lock") as caught:
            bus.send("load", "event", "/late", timeout=timeout)
        assert caught.value.details["pid"] == holder.pid
        holder.go_on()
        holder.result()
        bus.send("load", "event", "/late", sealed(0, 2))
        assert [unsealed(event) for event in sub.receive_many(9, timeout=0)] == [(0, 0), (0, 1), (0, 2)]


def test_a_stopped_publisher_does_not_hold_up_a_new_topic(
    fork: Fork, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout bounds the whole of `send`, the first one of a topic too."""
    monkeypatch.setattr(native, "LOCK_SECONDS", 2 * DEADLINE)
    holder = fork(stop_with_the_lock, bus.name, "publish_locked")
    holder.wait_stopped()
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=f"process {holder.pid} keeps the publish lock"):
        bus.send("unknown", "topic", "/late", timeout=0.1)
    assert time.monotonic() - begun < DEADLINE
    holder.go_on()
    holder.result()


def test_a_stopped_publisher_stops_no_receiver(fork: Fork, bus: Bus) -> None:
    """What was committed is received while the publish lock is held."""
    with bus.subscribe("**") as sub:
        bus.send("load", "event", "/before", sealed(1, 0))
        holder = fork(stop_with_the_lock, bus.name, "publish_copied")
        holder.wait_stopped()
        assert unsealed(sub.receive(5)) == (1, 0)
        assert unsealed(sub.receive(5)) == (0, 0)
        assert sub.receive(timeout=0) is None
        holder.go_on()
        holder.result()
        assert unsealed(sub.receive(5)) == (0, 1)


def send_three(_: Line, name: str, point: str, passes: int) -> None:
    """Sends three events at once and dies in the middle."""
    bus = eventbus.open(name)
    bus.send("load", "event", "/known", sealed(0, 0))
    arm(point, passes=passes)
    bus.send_many([("load", "event", "/batch", sealed(0, number)) for number in range(1, 4)])


@pytest.mark.parametrize(
    ("point", "passes", "heard"),
    [("publish_header", 1, 1), ("publish_header", 3, 1), ("publish_copied", 1, 1), ("publish_committed", 1, 4)],
)
def test_a_batch_is_heard_whole_or_not_at_all(fork: Fork, bus: Bus, point: str, passes: int, heard: int) -> None:
    """Killed in the middle of `send_many`, a publisher leaves all of its events or none, and exact counts."""
    with bus.subscribe("**") as sub:
        fork(send_three, bus.name, point, passes).killed()
        bus.send("load", "event", "/after", sealed(0, 99))
        expected = [(0, number) for number in range(heard)] + [(0, 99)]
        assert [unsealed(event) for event in sub.receive_many(9, timeout=0)] == expected
        assert bus.stats().topics == {("load", "event"): heard + 1}


def sleep_and_hear(line: Line, name: str) -> None:
    """Sleeps until an event comes, tells it, and sleeps again."""
    with eventbus.open(name) as bus, bus.subscribe("a", spin=0) as sub:
        for event in sub:
            line.say(event.path)


def send_and_die(_: Line, name: str, point: str) -> None:
    """Sends one event and is killed at the point."""
    bus = eventbus.open(name)
    arm(point)
    bus.send("a", "k", "/last")


def test_whoever_was_woken_wakes_the_others(fork: Fork, name: str) -> None:
    """A publisher that dies when it has woken the first of many sleepers leaves none of them asleep for its slice."""

    def all_hear_soon() -> bool:
        until(lambda: all(one.sleeping for one in bus.stats().subscribers), "all asleep")
        fork(send_and_die, name, "wake_posted").killed()
        begun = time.monotonic()
        assert [one.hear() for one in sleepers] == ["/last"] * 4
        return time.monotonic() - begun < 3  # seconds, of a slice of four

    with eventbus.open(name, capacity=4096) as bus:
        sleepers = [fork(sleep_and_hear, name) for _ in range(4)]
        bus.wait_for_subscribers(4)
        for _ in range(3):
            assert any(all_hear_soon() for _ in range(5))  # once more where the host stood still
        bus.shutdown()
        for one in sleepers:
            one.result()
