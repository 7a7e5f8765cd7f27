"""Victims that leave: among others, as the last one out, with jobs in hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import eventbus
from harness import Line, unsealed
from loops import bells
from matrix.scene import (
    CAPACITY,
    OWN_LOOK,
    READY,
    SHORT,
    SLOTS,
    SURVIVOR,
    Aim,
    Changes,
    Hold,
    Scene,
    Survivors,
    await_go,
    check_door,
    join,
)
from matrix.working import start_sleeper

JOBS = 4


def leave(line: Line, name: str, aim: Aim, dozed: bool) -> None:
    """Leaves the bus, with two subscriptions open; ``dozed``: of which one has waited in an event loop."""
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS)
    subs = [bus.subscribe("**") for _ in range(2)]
    while dozed and not bells(bus):  # where the time is up before it waits, it has none
        assert asyncio.run(subs[0].areceive(SHORT)) is None
    await_go(line)
    aim.take()
    bus.close()
    line.say(len(subs))


@dataclass(frozen=True)
class Leaving:
    """A victim that leaves while others stay; ``told``: one of them waits for subscribers to come or go; ``dozed``: it
    has waited in an event loop."""

    hold: Hold = Hold.NOTHING
    told: bool = False
    dozed: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        victim = scene.victim(leave, self.dozed)
        if self.told:
            survivors.changes = Changes(scene, survivors.bus)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        survivors.drain()
        survivors.end()


@dataclass(frozen=True)
class LastOut:
    """A victim that leaves when nobody else is there; ``persist``: whoever comes next wants the bus to stay; ``dozed``:
    it has waited in an event loop."""

    hold: Hold = Hold.DOOR
    persist: bool = False
    dozed: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        victim = scene.victim(leave, self.dozed)
        victim.say("go")
        scene.strike(victim, lambda _: check_door(scene.name, self.hold))
        Survivors(scene.name, persist=self.persist).end()
        if self.persist:
            eventbus.unlink(scene.name)


def remove(line: Line, name: str, aim: Aim) -> None:
    """Removes a bus that outlived its last process."""
    eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS, persist=True).close()
    await_go(line)
    aim.take()
    eventbus.unlink(name)


@dataclass(frozen=True)
class Removing:
    """A victim that removes a bus which nobody is on; ``whole``: it is all there at its point."""

    whole: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        victim = scene.victim(remove)
        victim.say("go")
        scene.strike(victim, lambda _: check_door(scene.name, Hold.NOTHING))
        Survivors(scene.name).end()
        if self.whole:
            eventbus.unlink(scene.name)


def leave_with_jobs(line: Line, name: str, aim: Aim, prefetch: int) -> None:
    """Leaves the bus with one job in hand and, with a higher ``prefetch``, others that it has not seen."""
    bus = eventbus.open(name)
    member = join(bus, prefetch)
    await_go(line)
    assert unsealed(member.receive(0)) == (SURVIVOR, 1)
    aim.take()
    bus.close()


@dataclass(frozen=True)
class LeavingWithJobs:
    """A member that leaves the bus.

    Attributes:
        hold: what it has at its point.
        prefetch: how many jobs it has claimed, the first of which it acknowledges.
        again: never.
    """

    hold: Hold = Hold.NOTHING
    prefetch: int = JOBS
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(leave_with_jobs, self.prefetch)
        survivors.send_jobs(JOBS)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        survivors.finish_jobs()
        assert sorted(survivors.jobs) == [(number, 1) for number in range(2, JOBS + 1)]
        survivors.drain()
        survivors.end()


def leave_at_once(line: Line, name: str, aim: Aim) -> None:
    """Claims all jobs, is handed one, and leaves once it is told to."""
    bus = eventbus.open(name)
    member = join(bus, JOBS)
    await_go(line)
    member.receive(0)
    await_go(line)
    aim.take()
    bus.close()


@dataclass(frozen=True)
class Handing:
    """A member that leaves and wakes whoever sleeps, before it has acknowledged the job that it was handed."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(leave_at_once)
        survivors.send_jobs(JOBS)
        victim.say("go")
        assert victim.hear() == READY
        sleeper = start_sleeper(scene, survivors)
        victim.say("go")
        scene.strike(victim, lambda _: None)
        jobs = sorted(sleeper.hear(OWN_LOOK) for _ in range(JOBS))
        assert jobs == [(number, 1 + (number == 1)) for number in range(1, JOBS + 1)]
        sleeper.kill()
        survivors.drain()
        survivors.end()
