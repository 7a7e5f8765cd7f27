"""Several processes on one bus: order, what waiting costs, and who removes the segments when."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, UnavailableError
from eventbus.core import native
from harness import Fork, Line, arm, ring_of, roster_of, sealed, unsealed

EVENTS = 50_000


@pytest.fixture
def stays(name: str) -> Iterator[str]:
    """The name of a bus that the test leaves behind on purpose."""
    yield name
    eventbus.unlink(name)


def count_in_order(_: Line, name: str) -> int:
    """Receives all there is to come; each sequence one higher than the one before."""
    with eventbus.open(name) as bus, bus.subscribe("load") as sub:
        for number in range(EVENTS):
            event = sub.receive()
            assert event is not None
            assert event.data == number
            assert event.sequence == number + 1
        return sub.lost


def test_one_publisher_eight_subscribers(fork: Fork, name: str) -> None:
    """Eight subscribers get 50,000 events each, in order, none lost."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        subscribers = [fork(count_in_order, name) for _ in range(8)]
        assert bus.wait_for_subscribers(8, "load", timeout=30)
        for number in range(EVENTS):
            bus.send("load", "event", "/load", number, timeout=30)
        assert [child.result() for child in subscribers] == [0] * 8


def publish(line: Line, name: str, publisher: int) -> None:
    """Sends a thousand sealed events once the test says so."""
    with eventbus.open(name) as bus:
        line.say("open")
        line.hear()
        for number in range(1000):
            bus.send("load", "event", "/load", sealed(publisher, number))


def test_four_publishers(fork: Fork, name: str) -> None:
    """Events of several publishers come in one order, which keeps the order of each."""
    with eventbus.open(name, capacity=1 << 16) as bus, bus.subscribe("**") as sub, bus.subscribe("**") as other:
        publishers = [fork(publish, name, number) for number in range(4)]
        for child in publishers:
            child.hear()
        for child in publishers:
            child.say("go")
        next_of = [0] * 4
        for sequence in range(1, 4001):
            event = sub.receive(30)
            publisher, number = unsealed(event)
            assert event == other.receive(30)
            assert event is not None
            assert (event.sequence, event.sender) == (sequence, publishers[publisher].pid)
            assert number == next_of[publisher]
            next_of[publisher] += 1
        for child in publishers:
            child.result()


def send_at_full_speed(line: Line, name: str) -> None:
    """Keeps a small ring overflowing until it is told to stop."""
    with eventbus.open(name) as bus:
        line.say("open")
        while not line.told():
            bus.send_many([("load", "event", "/load", number) for number in range(20)])


def test_statistics_under_load(fork: Fork, name: str) -> None:
    """Statistics taken while the ring overflows at full speed are possible ones."""
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("load", overflow="drop") as sub:
        publisher = fork(send_at_full_speed, name)
        publisher.hear()
        sent = 0
        for _ in range(1000):
            stats = bus.stats()
            assert 0 <= stats.used <= stats.capacity
            assert stats.sent >= sent
            assert sub.backlog <= 4096 // 40
            sent = stats.sent
        publisher.say("stop")
        publisher.result()


def idle(_: Line, name: str) -> float:
    """The processor time, in seconds, of three seconds in which nothing is sent."""
    with eventbus.open(name) as bus, bus.subscribe("**") as sub:
        before = resource.getrusage(resource.RUSAGE_SELF)
        assert sub.receive(timeout=3) is None
        after = resource.getrusage(resource.RUSAGE_SELF)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_an_idle_subscriber_costs_nothing(fork: Fork, bus: Bus) -> None:
    """Three seconds of waiting take no processor time worth the name, but where the host takes it."""
    assert any(fork(idle, bus.name).result() < 0.05 for _ in range(3))


def open_send_and_die(line: Line, name: str, point: str | None, persist: bool) -> None:
    """Opens the bus, sends four events, and dies in the fourth or when it is killed."""
    bus = eventbus.open(name, persist=persist)
    for number in range(3):
        bus.send("load", "event", "/load", sealed(0, number))
    if point is not None:
        arm(point)
        bus.send("load", "event", "/load", sealed(0, 3))
    line.say("sent")
    line.hear()


def test_the_last_one_out_removes_the_segments(fork: Fork, name: str) -> None:
    """The segments stay as long as anybody is attached, and not longer."""
    first = eventbus.open(name)
    child = fork(open_send_and_die, name, None, False)
    child.hear()
    with eventbus.open(name):
        first.close()
    assert ring_of(name).exists()
    second = eventbus.open(name)
    child.kill()
    assert second.stats().attached == 1
    second.close()
    assert not ring_of(name).exists()
    assert not roster_of(name).exists()


def leave_in_steps(_: Line, name: str, number: int) -> None:
    """Is the last one out, and gets the signal after each segment that it removes."""
    bus = eventbus.open(name)
    arm("ring_unlinked", number)
    arm("roster_unlinked", number)
    bus.close()


def test_who_leaves_slowly_removes_no_other_bus(fork: Fork, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new bus of the name is only made once nothing of the old one is left to be removed, so it stays whole."""
    monkeypatch.setattr(native, "LOCK_SECONDS", 0.05)
    leaver = fork(leave_in_steps, name, signal.SIGSTOP)
    leaver.wait_stopped()
    with pytest.raises(UnavailableError):
        eventbus.open(name)
    leaver.go_on()
    leaver.wait_stopped()
    with eventbus.open(name) as bus:
        leaver.go_on()
        leaver.result()
        with eventbus.open(name):
            assert bus.stats().attached == 2


def test_half_a_bus_is_replaced(fork: Fork, name: str, stays: str) -> None:
    """What is left of a bus whose last process died while removing it is replaced, also by one who wants it to stay."""
    fork(leave_in_steps, name, signal.SIGKILL).killed()
    with eventbus.open(stays, persist=True) as bus:
        assert bus.stats().persist


def test_a_child_that_ends_without_a_word_is_not_counted(fork: Fork, name: str) -> None:
    """What a forked child inherited goes with it, however it ends; the parent is then the last one out."""
    with eventbus.open(name) as bus:
        child = fork(lambda line: line.hear())
        assert bus.stats().attached == 2
        child.say("end")
        child.result()
        assert bus.stats().attached == 1


def test_an_abandoned_bus_is_replaced(fork: Fork, name: str) -> None:
    """What a crash left behind is a new bus for the next one to open it, of any size."""
    fork(open_send_and_die, name, "publish_committed", False).killed()
    assert ring_of(name).exists()
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("**", start="oldest") as sub:
        assert bus.stats().sent == 0
        assert sub.receive(0) is None


@pytest.mark.parametrize(("point", "kept"), [("publish_copied", 3), ("publish_committed", 4)])
def test_a_persistent_bus_is_repaired(fork: Fork, stays: str, point: str, kept: int) -> None:
    """With `persist` the events outlive the crash of the last process, whole and counted."""
    fork(open_send_and_die, stays, point, True).killed()
    with eventbus.open(stays) as bus, bus.subscribe("**", start="oldest") as sub:
        assert bus.stats().persist
        assert bus.stats().topics == {("load", "event"): kept}
        bus.send("load", "event", "/load", sealed(0, kept))
        assert [unsealed(event)[1] for event in sub.receive_many(9, 0)] == list(range(kept + 1))


def test_a_persistent_bus_outlives_its_last_process(stays: str) -> None:
    """With `persist` nobody removes the segments by leaving, and a shutdown does not outlast everybody's leaving."""
    with eventbus.open(stays, persist=True) as bus:
        bus.send("load", "event", "/load", 1)
        bus.shutdown()
    with eventbus.open(stays) as bus, bus.subscribe("**", start="oldest") as sub:
        assert not bus.closed
        event = sub.receive(0)
        assert event is not None
        assert event.data == 1


def test_unlink_while_attached(name: str) -> None:
    """Whoever is attached goes on among themselves; the name is free, and stays its new owner's."""
    with eventbus.open(name) as old, old.subscribe("**") as sub:
        eventbus.unlink(name)
        with eventbus.open(name) as new:
            old.send("old", "event", "/old", 1)
            assert new.stats().sent == 0
            event = sub.receive(0)
            assert event is not None
            sub.close()
            old.close()
            assert ring_of(name).exists()
            assert new.send("new", "event", "/new")
        assert not ring_of(name).exists()
