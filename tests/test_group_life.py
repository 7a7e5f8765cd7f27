"""Members that wait, end, are asked for the impossible, or find their group damaged."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, InvalidError, SegmentError
from eventbus.member import Member
from harness import DEADLINE, Fork, Line, ring_of, roster_of, until
from jobs import bury_without_room, fill, holders, join, numbers, send

# --- wait, end ---


def wait_and_count(line: Line, name: str) -> tuple[int, float]:
    """A member that waits until the end: how often it slept, and the CPU seconds that it took."""
    with eventbus.open(name) as bus, join(bus, spin=0) as member:
        line.say("joined")
        line.hear()
        before = resource.getrusage(resource.RUSAGE_SELF)
        got = sum(1 for _ in member)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return got, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wait_together(fork: Fork, name: str) -> float:
    """The CPU seconds that three seconds take of eight members, at most, until they see the end."""
    with eventbus.open(name) as bus:
        members = [fork(wait_and_count, name) for _ in range(8)]
        for member in members:
            member.hear()
            member.say("wait")
        threading.Event().wait(3)
        bus.shutdown()
        results: list[tuple[int, float]] = [member.result() for member in members]
    assert [got for got, _ in results] == [0] * 8
    return max(seconds for _, seconds in results)


def test_idle_members_cost_nothing(fork: Fork, name: str) -> None:
    """Eight members that wait three seconds for nothing take no measurable CPU, but where the host takes it."""
    assert any(wait_together(fork, name) < 0.05 for _ in range(3))


def count_wakes(line: Line, name: str) -> int:
    """A member that never looks by itself: how often its waits ended."""
    with eventbus.open(name) as bus, join(bus, spin=0) as member:
        line.say("joined")
        return sum(1 for _ in member)


def test_one_event_wakes_one_member(fork: Fork, bus: Bus) -> None:
    """Events that come one by one, each when all sleep, are each handed to one member at once."""
    members = [fork(count_wakes, bus.name) for _ in range(3)]
    for member in members:
        member.hear()
    for number in range(50):
        send(bus, 1, number)
        until(lambda: not bus.stats().groups[0].backlog and not holders(bus), "the event to be done")
    bus.shutdown()
    assert sum(member.result() for member in members) == 50


def test_shutdown_drains_first(fork: Fork, bus: Bus) -> None:
    """After a shutdown members still get what was sent, and what another one holds may still come back to them."""
    one, two = join(bus), join(bus)
    send(bus, 2)
    held = one.receive(0)
    bus.shutdown()
    assert two.receive(0).data == 1  # type: ignore[union-attr]
    assert two.receive(0.05) is None
    assert not two.closed
    assert two.channel().receive(0) == (None, True)
    one.reject()
    again = two.receive(DEADLINE)
    assert again is not None
    assert held is not None
    assert (again.data, again.deliveries) == (held.data, 2)
    assert two.receive() is None
    assert two.closed
    assert two.channel().receive() == (None, False)
    assert one.receive() is None


@pytest.mark.parametrize("end", [Member.stop, Member.close])
def test_a_waiting_member_can_be_stopped_and_closed(bus: Bus, end: Callable[[Member], None]) -> None:
    """``stop`` and ``close`` end a wait in another thread."""
    member = join(bus)
    send(bus, 1)
    member.receive(0)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(member.receive()))
    thread.start()
    until(lambda: not holders(bus), "the thread to ask for the next one")
    end(member)
    thread.join(DEADLINE)
    assert got == [None]
    assert join(bus).receive(0) is None


def ring_while(wait: Callable[[], object]) -> None:
    """Waits, with an alarm that is about to ring."""
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    wait()


def test_signals_are_handled_while_waiting(bus: Bus) -> None:
    """A handler runs while a member waits, on a bus that was shut down as well as before."""
    one, two = join(bus), join(bus)
    send(bus, 1)
    one.receive(0)

    def fail(*_: object) -> None:
        raise InterruptedError("the alarm")

    before = signal.signal(signal.SIGALRM, fail)
    try:
        for shut_down in (False, True):
            if shut_down:
                bus.shutdown()
            with pytest.raises(InterruptedError):  # from here on: the alarm may be faster than the next line
                ring_while(two.receive)
    finally:
        signal.signal(signal.SIGALRM, before)


# --- bad input ---


def test_other_patterns_than_the_group_has(bus: Bus) -> None:
    """Joining or making a group with another pattern or kind is an error that names both, and changes nothing."""
    bus.group("g", "jobs.**", "job.*", max_deliveries=3)
    with pytest.raises(InvalidError, match=r"'jobs\.\*\*' and kind 'job.*'orders\.\*'") as caught:
        bus.subscribe("orders.*", "job.*", group="g")
    assert caught.value.details["existing"] == ("jobs.**", "job.*")
    assert caught.value.details["requested"] == ("orders.*", "job.*")
    for system, kind in (("jobs.**", None), ("jobs.*", "job.*"), (["jobs.**", "a"], "job.*")):
        with pytest.raises(InvalidError, match="use the same"):
            bus.group("g", system, kind, max_deliveries=4)
    bus.subscribe("jobs.**", "job.*", group="g").close()
    assert [group.max_deliveries for group in bus.stats().groups] == [3]


@pytest.mark.parametrize(
    "options",
    [{"prefetch": 0}, {"prefetch": True}, {"prefetch": 1.5}, {"overflow": "drop"}, {"group": ""}, {"group": "x" * 64}],
)
def test_bad_arguments(bus: Bus, options: dict[str, Any]) -> None:
    """What cannot be a member's argument is refused, and nothing is made."""
    with pytest.raises(InvalidError):
        bus.subscribe("jobs", **{"group": "g", **options})
    with pytest.raises(InvalidError):
        bus.group("g", "jobs", max_deliveries=0)
    assert bus.stats().groups == ()


def test_plain_subscriptions_have_nothing_to_acknowledge(bus: Bus) -> None:
    """``ack`` and ``reject`` of a subscription that is no member say so."""
    plain = bus.subscribe("jobs")
    for call in (plain.ack, plain.reject):
        with pytest.raises(InvalidError, match="group="):
            call()


@pytest.mark.parametrize("working", [0, 1, 2])
def test_a_full_ring_names_the_group_and_its_members(bus: Bus, working: int) -> None:
    """A group that nobody works for fills the ring like any subscriber; the error says which, and its members."""
    bus.group("g", "jobs.**")
    bus.subscribe("jobs.**", group="other", overflow="block").close()
    members = [join(bus, name=f"idler {number}") for number in range(working)]
    other = bus.subscribe("jobs.**", group="other")
    send(bus, 1)
    for one in members:
        one.receive(0)
    error, _ = fill(bus, lambda: numbers(other))
    assert error.details["group"] == "g"
    assert error.details["pids"] == [os.getpid()] * working
    assert error.details["backlog"] > 100
    assert all(f"idler {number}" in error.message for number in range(working))


def test_stats_tell_who_holds_what(bus: Bus) -> None:
    """A snapshot names each group with its terms, and each member with what it holds."""
    idle, busy = join(bus, name="idle"), join(bus, prefetch=2, name="busy")
    send(bus, 5)
    busy.receive(0)
    (group,) = bus.stats().groups
    assert (group.name, group.system, group.kind, group.max_deliveries, group.backlog) == ("g", "jobs.**", "**", 5, 3)
    lazy, one = group.members
    assert (lazy.name, lazy.events, lazy.deliveries, lazy.held) == ("idle", 0, 0, 0)
    assert (one.name, one.pid, one.events, one.deliveries) == ("busy", os.getpid(), 2, 1)
    assert 0 <= one.held < DEADLINE
    assert idle.backlog == 3
    assert [(sub.name, sub.group, sub.overflow, sub.backlog) for sub in bus.stats().subscribers] == [
        ("idle", "g", "block", 0),
        ("busy", "g", "block", 0),
    ]


# --- damage ---


def scribble_groups(name: str, seed: int, span: range, writes: int) -> None:
    """Writes random words over the groups' part of the roster."""
    dice = random.Random(seed)
    with roster_of(name).open("r+b") as file:
        for _ in range(writes):
            length = dice.choice((1, 8, 8, 64))
            file.seek(dice.choice(span) // 8 * 8)
            file.write(dice.choice((dice.randbytes(length), b"\xff" * length, b"\0" * length)))
            file.flush()


def publish_until_told(line: Line, name: str) -> int:
    """Sends, whatever comes of it, until the test says that it is enough: how many it sent."""
    with eventbus.open(name) as bus:
        sent = int(bus.send("jobs", "job", "/load", {"number": 0}, timeout=DEADLINE))
        line.say("open")
        told = False
        while not told:
            told = line.told()
            with contextlib.suppress(eventbus.EventBusError):
                sent += bus.send("jobs", "job", "/load", {"number": sent}, timeout=0.01)
    return sent


def work_until_told(line: Line, name: str) -> Counter[str]:
    """Works, whatever comes of it, until the test says that it is enough: what came of it."""
    seen: Counter[str] = Counter()
    with eventbus.open(name) as bus:
        line.say("open")
        told = False
        while not told:
            told = line.told()
            try:
                with join(bus, prefetch=4, spin=0) as member:
                    for _ in range(50):
                        seen["calls"] += 1
                        member.receive(0.001)
                    member.reject()
                    bus.stats()
            except eventbus.EventBusError as error:
                seen[type(error).__name__] += 1
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_over_the_groups(fork: Fork, name: str, seed: int) -> None:
    """Whatever is written over the state of the groups, publishers and members neither die of a signal nor hang."""
    with eventbus.open(name, capacity=16 * 1024) as bus:
        bus.group("g", "jobs.**")
        publisher, *members = [fork(publish_until_told, name), *(fork(work_until_told, name) for _ in range(2))]
        for child in (publisher, *members):
            child.hear()
        scribble_groups(name, seed, GROUP_BYTES, 3000)
        for child in (publisher, *members):
            child.say("enough")
        assert publisher.result() > 0
        assert all(sum(member.result().values()) > 0 for member in members)
    if ring_of(name).exists() or roster_of(name).exists():  # the last one out could not trust it any more
        eventbus.unlink(name)


GROUP_BYTES = range(4096, 4096 + 13_000)  # of the first group; layout in csrc/layout.h


LOCK_BYTE = 2176  # of a group: its lock, its cursor and its claims begin there; layout in csrc/layout.h


def damage_group(name: str, first: int = 0) -> None:
    """Overwrites the state of the group g, from its ``first`` byte, with what it cannot be."""
    with roster_of(name).open("r+b") as file:
        start = file.read().index(b"g\0", 4096)
        file.seek(start - start % 64 + first)
        file.write(b"\xa5" * 64 * 200)


def test_a_damaged_group_is_said_to_be_one(bus: Bus) -> None:
    """Positions that cannot be are a SegmentError for members, and publishers go on."""
    member = join(bus)
    send(bus, 1)
    damage_group(bus.name)
    with pytest.raises(SegmentError):
        member.receive(0)
    member.stop()
    for number in range(2000):
        bus.send("other", "event", "/", number, timeout=1)


def test_a_damaged_group_can_be_left(bus: Bus, name: str) -> None:
    """Whoever finds it damaged while it leaves says so, and has left the bus all the same."""
    own = eventbus.open(name)
    member = join(own)
    send(bus, 1)
    assert member.receive(0) is not None
    damage_group(name)
    with pytest.raises(SegmentError):
        own.close()
    assert not bus.stats().subscribers
    with pytest.raises(ClosedError):
        send(own, 1)


def test_a_dead_letter_that_no_damage_lets_out_is_told(
    bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A member that cannot send its letter, because the shared memory is damaged, tells it to the log and leaves."""
    monkeypatch.setattr("eventbus.member.LETTER_SECONDS", 0)
    with eventbus.open(name) as own:
        bury_without_room(own, bus)
        damage_group(name, LOCK_BYTE)
    assert [(record.levelname, "cannot be sent any more" in record.message) for record in caplog.records[-1:]] == [
        ("ERROR", True)
    ]


def work_and_die(line: Line, name: str) -> None:
    """A member that takes an event and is killed with it in hand."""
    member = eventbus.open(name).subscribe("jobs.**", group="g")
    event = member.receive(DEADLINE)
    assert event is not None
    line.say(event.data)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_persistent_bus_keeps_its_groups(fork: Fork, name: str) -> None:
    """What no member did before the last process was gone is there for the next one; what was in hand comes again."""
    with eventbus.open(name, persist=True) as bus:
        bus.group("g", "jobs.**")
        send(bus, 3)
        child = fork(work_and_die, name)
        assert child.hear() == 0
        child.killed()
    with eventbus.open(name) as bus, bus.subscribe("jobs.**", group="g") as member:
        events = [member.receive(DEADLINE) for _ in range(3)]
        assert [(event.data, event.deliveries) for event in events if event is not None] == [(0, 2), (1, 1), (2, 1)]
        assert member.receive(0) is None
    eventbus.unlink(name)


def work_until_terminated(line: Line, name: str) -> None:
    """A member that waits for ever; SIGTERM ends its wait."""
    with eventbus.open(name) as bus:
        member = join(bus)
        signal.signal(signal.SIGTERM, lambda *_: member.stop())
        line.say("ready")
        assert member.receive() is None


def test_members_that_are_told_to_stop_together_do(fork: Fork, bus: Bus) -> None:
    """A signal ends a wait, also when another member's end wakes everybody at the same moment."""
    for _ in range(5):
        members = [fork(work_until_terminated, bus.name) for _ in range(4)]
        for member in members:
            member.hear()
        for member in members:
            os.kill(member.pid, signal.SIGTERM)
        for member in members:
            member.result()
