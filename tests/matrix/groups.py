"""Victims that make a group, change or remove it, fight for its lock, or bury what nobody could handle."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import pytest

import eventbus
from eventbus import Bus, UnavailableError
from eventbus.core.reader import BATCH_LIMIT
from harness import Line, sealed, unsealed, until
from matrix.paging import MANY, PAGES, RINGS, join_by_hand, pages_of, take
from matrix.scene import (
    AT_ONCE,
    CAPACITY,
    LAP,
    OWN_LOOK,
    READY,
    REDELIVERY,
    ROOM,
    SHORT,
    SURVIVOR,
    VICTIM,
    Aim,
    Hold,
    Scene,
    Survivors,
    await_go,
    idle,
    join,
    patience,
    send_job,
)
from matrix.working import await_jobs, give_back, start_sleeper, take_job

GROUPS = 3


def make(line: Line, name: str, aim: Aim) -> None:
    """Makes group after group before it joins them, to hear what the ring still holds."""
    bus = eventbus.open(name)
    await_go(line)
    aim.take()
    for number in range(GROUPS):
        bus.group(f"new {number}", "still", start="oldest")


def take_old(line: Line, name: str) -> None:
    """A member of another group, that has many events in hand."""
    member = join_by_hand(eventbus.open(name), BATCH_LIMIT, "old")
    await_go(line)
    take(member, MANY)
    await_go(line)


def leave_claims(scene: Scene, survivors: Survivors) -> None:
    """A group is removed of which a member had many events in hand, who is dead."""
    holder = scene.ready(take_old)
    for _ in range(MANY):
        survivors.send("old")
    survivors.drain()
    holder.say("go")
    assert holder.hear() == READY
    assert len(pages_of(survivors.bus, "old")) == PAGES
    survivors.bus.remove_group("old")
    holder.kill()


@dataclass(frozen=True)
class Making:
    """A member that makes its group.

    Attributes:
        hold: what it has at its point.
        opened: the group is there.
        left: it is to be made where another one was, whose claims are left; the group of the first pass is.
        again: whether it comes to its point more than once.
    """

    hold: Hold
    opened: bool = False
    left: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, rings=RINGS if self.left else 1)
        if self.left:
            leave_claims(scene, survivors)
        for _ in range(survivors.lap):
            survivors.send()
            survivors.drain()
        victim = scene.victim(make)
        victim.say("go")
        scene.strike(victim, lambda pid: self._meanwhile(survivors, pid))
        survivors.drain()
        made = {group.name for group in survivors.bus.stats().groups}
        assert made == {f"new {number}" for number in range(0 if self.left else scene.passes - (not self.opened))}
        for number in range(GROUPS):
            with survivors.bus.subscribe("still", group=f"new {number}", start="oldest", prefetch=9) as member:
                events, pages = list[eventbus.Event](), set[int]()
                while more := member.receive_many(1 << 20, 0):
                    events += more
                    pages |= pages_of(survivors.bus, f"new {number}")
                assert pages == {number}, "a page of claims was lost"
                assert {event.deliveries for event in events} == {1}
                numbers = [unsealed(event)[1] for event in events]
                assert numbers == list(range(survivors.sent - len(numbers), survivors.sent))
                assert numbers
        full = survivors.fill(Hold.NOTHING)  # the groups have no member any more, and hold publishers back
        assert full is not None
        assert full.details["group"].startswith("new ")
        survivors.bus.close()

    def _meanwhile(self, survivors: Survivors, pid: int) -> None:
        with patience(SHORT), pytest.raises(UnavailableError):
            survivors.bus.group("another", "jobs.**")
        survivors.meanwhile(self.hold, pid)


# --- change, remove ---

LIMIT = 7


def change(line: Line, name: str, aim: Aim) -> None:
    """Has the group deliver more often."""
    bus = eventbus.open(name)
    await_go(line)
    aim.take()
    bus.group("g", "jobs.**", max_deliveries=LIMIT)


@dataclass(frozen=True)
class Changing:
    """A member's process that changes its group while others work."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(change)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.ROSTER, pid))
        (group,) = survivors.bus.stats().groups
        assert group.max_deliveries == LIMIT
        survivors.drain()
        survivors.end()


def remove(line: Line, name: str, aim: Aim) -> None:
    """Removes the group that it is a member of."""
    bus = eventbus.open(name)
    member = join(bus)
    await_go(line)
    aim.take()
    bus.remove_group(member.group)


@dataclass(frozen=True)
class Dissolving:
    """A member that removes its group, which has jobs left, and members that are awake and asleep.

    Attributes:
        hold: what it has at its point.
        again: never.
    """

    hold: Hold
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim, sleeper = scene.victim(remove), start_sleeper(scene, survivors)
        sleeper.stop()
        survivors.send_jobs(3)
        assert survivors.work(AT_ONCE)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        sleeper.go_on()
        sleeper.result(OWN_LOOK)
        start_anew(survivors)


def start_anew(survivors: Survivors) -> None:
    """The member has come to its end, and another group of the name goes on."""
    old = survivors.member
    assert old is not None
    assert (old.receive(AT_ONCE), old.closed) == (None, True)
    assert survivors.bus.stats().groups == ()
    survivors.member = join(survivors.bus)
    old.close()
    survivors.drain()
    survivors.end()


def send(line: Line, name: str, aim: Aim) -> None:
    """Sends events until it has to wait for room."""
    bus = eventbus.open(name)
    await_go(line)
    aim.take()
    for number in range(LAP):
        bus.send("still", "here", "/victim", sealed(VICTIM, number), timeout=ROOM)


@dataclass(frozen=True)
class Withdrawing:
    """A publisher that waits for the room which a group holds, whose remover died half-way."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        remover, victim = scene.ready(remove, Aim("group_removed", signal.SIGKILL, 1)), scene.victim(send)
        survivors.send_jobs(1)
        assert survivors.fill(Hold.GROUP) is not None
        remover.say("go")
        remover.killed()
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.ROSTER, pid))
        start_anew(survivors)


# --- the group's lock ---


@dataclass(frozen=True)
class Contending:
    """Two members want the group's lock: the victim has it, or with ``waits`` the other one."""

    waits: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        stops = Aim("group_locked", signal.SIGSTOP, 1), Aim("event_flagged", signal.SIGSTOP, 1)
        owner = scene.ready(await_jobs, *((stops[0],) if self.waits else (scene.aim, stops[0])))
        waiter = scene.ready(await_jobs, scene.aim if self.waits else stops[1])
        survivors.send_jobs(2)
        owner.say("go")
        owner.wait_stopped()
        waiter.say("go")
        if self.waits:
            scene.strike(waiter, lambda pid: survivors.meanwhile(Hold.GROUP | Hold.GATE, pid=owner.pid))
            owner.go_on()
            assert {owner.hear(REDELIVERY) for _ in range(2)} == {(1, 1), (2, 1)}
            owner.kill()
        else:
            waiter.wait_stopped()
            waiter.go_on()
            owner.go_on()
            scene.strike(owner, lambda _: None)
            assert [waiter.hear(OWN_LOOK) for _ in range(2)] == [(1, 1), (2, 1)]
            waiter.kill()
        survivors.drain()
        survivors.end()


# --- dead letters ---


@dataclass(frozen=True)
class Burying:
    """A member that sends a dead letter: ``letters`` of them come in the end, because it dies before or after.

    Attributes:
        letters: how many there are of the one job: two where it died after sending and before acknowledging.
        hold: what it has at its point, besides the job.
        again: whether it comes to its point more than once.
    """

    letters: int
    hold: Hold = Hold.NOTHING
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        with eventbus.open(scene.name, capacity=CAPACITY) as bus:
            grave = bus.subscribe("eventbus.dead", "exhausted")
            bus.group("g", "jobs.**", max_deliveries=1)
            other, victim = scene.ready(give_back, scene.aim), scene.victim(take_job)
            send_job(bus, 1)
            other.say("go")
            assert other.hear() == READY
            other.kill()
            victim.say("go")
            scene.strike(victim, lambda _: self._meanwhile(bus))
            with join(bus) as member:
                until(lambda: member.receive(0) is None and idle(bus), "the group to be idle", REDELIVERY)
                letters = grave.receive_many(9, 0)
                assert len(letters) == self.letters
                assert all(letter.data["data"] == sealed(SURVIVOR, 1) for letter in letters)
                send_job(bus, 2)
                event = member.receive(REDELIVERY)
                assert event is not None
                assert (unsealed(event), event.deliveries) == ((SURVIVOR, 2), 1)

    def _meanwhile(self, bus: Bus) -> None:
        if Hold.PUBLISH in self.hold:
            with pytest.raises(UnavailableError, match="keeps the publish lock"):
                bus.send("other", "topic", "/other", timeout=SHORT)
        else:
            bus.send("other", "topic", "/other", timeout=SHORT)
