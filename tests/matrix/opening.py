"""Victims that open a bus: make it, join it, replace what a crash left, repair what is to stay."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import eventbus
from harness import Line, roster_of, sealed, unsealed
from matrix.scene import CAPACITY, SLOTS, SURVIVOR, Aim, Hold, Scene, Survivors, await_go, check_door, join
from seccomp import can_forbid, forbid

EVENTS = 3  # of each kind that a crash leaves


def open_bus(line: Line, name: str, aim: Aim, persist: bool, mute: bool = False) -> None:
    """Opens the bus; ``mute``: where no socket may be made."""
    if mute:
        forbid("socket")
    aim.take()
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS, persist=persist)
    await_go(line)
    bus.close()


def crash(line: Line, name: str) -> None:
    """Is the last one on a bus and does not leave it."""
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS)
    bus.send("old", "topic", "/old", sealed(SURVIVOR, 0))
    await_go(line)


def crash_at_work(line: Line, name: str) -> None:
    """Leaves a bus that is to stay: a job in hand, one claimed and not done, subscribers, events not yet counted."""
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS, persist=True)
    bus.group("g", "jobs.**")
    with bus.subscribe("**"), join(bus) as member:
        bus.send_many([("jobs", "job", "/job", sealed(SURVIVOR, number)) for number in range(1, EVENTS + 1)])
        member.receive(0)
        Aim("publish_committed", signal.SIGKILL, 1).take()
        bus.send_many([("still", "here", "/left", sealed(SURVIVOR, number)) for number in range(EVENTS)])


@dataclass(frozen=True)
class Opening:
    """A victim that opens a bus: there is none, or one in use.

    Attributes:
        hold: what it has at its point.
        used: the bus is there and others work on it.
        abandoned: the last process on it died.
        headless: there is a ring and no roster.
        persist: it is told to stay.
        mute: whoever opens it may make no socket.
        again: never.
    """

    hold: Hold = Hold.DOOR
    used: bool = False
    abandoned: bool = False
    headless: bool = False
    persist: bool = False
    mute: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        if self.mute and not can_forbid():
            return
        users = Survivors(scene.name) if self.used else None
        if self.abandoned or self.headless:
            scene.ready(crash).kill()
        if self.headless:
            roster_of(scene.name).unlink()
        victim = scene.start(open_bus, scene.aim, self.persist, self.mute)
        if users is not None:
            scene.strike(victim, lambda pid: users.meanwhile(self.hold, pid))
        else:
            scene.strike(victim, lambda _: check_door(scene.name, self.hold))
        (users or Survivors(scene.name, persist=self.persist)).end()
        if self.persist:
            eventbus.unlink(scene.name)


@dataclass(frozen=True)
class Repairing:
    """A victim that repairs a bus which was told to stay and whose last process was killed."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        scene.start(crash_at_work).killed()
        victim = scene.start(open_bus, scene.aim, False)
        scene.strike(victim, lambda _: check_door(scene.name, Hold.DOOR))
        survivors = Survivors(scene.name, group=True)
        assert survivors.sequence == 2 * EVENTS
        with survivors.bus.subscribe("**", start="oldest") as sub:
            left = [unsealed(event)[1] for event in sub.receive_many(99, 0)]
            assert left == [*range(1, EVENTS + 1), *range(EVENTS)]
        assert survivors.bus.stats().topics == {("jobs", "job"): EVENTS, ("still", "here"): EVENTS}
        survivors.finish_jobs()
        assert survivors.jobs == [(1, 2)] + [(number, 1) for number in range(2, EVENTS + 1)]
        survivors.end()
        eventbus.unlink(scene.name)
