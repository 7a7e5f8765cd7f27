"""Victims that leave: among others, as the last one out, with jobs in hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import eventbus
from eventbus import UnavailableError
from harness import Line, sealed, unsealed
from matrix.scene import (
    AT_ONCE,
    CAPACITY,
    OWN_LOOK,
    SHORT,
    SLOTS,
    SURVIVOR,
    Aim,
    Changes,
    Hold,
    Scene,
    Survivors,
    join,
    patience,
)
from matrix.working import start_sleeper

JOBS = 4


def leave(line: Line, name: str, aim: Aim) -> None:
    """Leaves the bus, with two subscriptions open."""
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS)
    subs = [bus.subscribe("**") for _ in range(2)]
    line.say("open")
    line.hear()
    aim.take()
    bus.close()
    line.say(len(subs))


@dataclass(frozen=True)
class Leaving:
    """A victim that leaves while others stay; ``told``: one of them waits for subscribers to come or go."""

    hold: Hold = Hold.NOTHING
    told: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        victim = scene.victim(leave)
        assert victim.hear() == "open"
        changes = Changes(scene, survivors) if self.told else None
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        survivors.drain()
        survivors.go_on()
        if changes is not None:
            changes.check()
        survivors.close()


@dataclass(frozen=True)
class LastOut:
    """A victim that leaves when nobody else is there; ``persist``: whoever comes next wants the bus to stay."""

    hold: Hold = Hold.DOOR
    persist: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        victim = scene.victim(leave)
        assert victim.hear() == "open"
        victim.say("go")
        scene.strike(victim, lambda _: self._meanwhile(scene.name))
        survivors = Survivors(scene.name, persist=self.persist)
        survivors.go_on()
        survivors.close()
        if self.persist:
            eventbus.unlink(scene.name)

    def _meanwhile(self, name: str) -> None:
        if Hold.DOOR in self.hold:
            with patience(SHORT), pytest.raises(UnavailableError):
                eventbus.open(name)
            return
        with eventbus.open(name) as bus, bus.subscribe("**") as sub:
            bus.send("still", "here", "/meanwhile", sealed(SURVIVOR, 0))
            assert unsealed(sub.receive(AT_ONCE)) == (SURVIVOR, 0)


def leave_with_jobs(line: Line, name: str, aim: Aim, prefetch: int) -> None:
    """Leaves the bus with one job in hand and, with a higher ``prefetch``, others that it has not seen."""
    bus = eventbus.open(name)
    member = join(bus, prefetch)
    line.say("joined")
    line.hear()
    assert unsealed(member.receive(0)) == (SURVIVOR, 1)
    aim.take()
    bus.close()


@dataclass(frozen=True)
class LeavingWithJobs:
    """A member that leaves the bus.

    Attributes:
        hold: what it has at its point.
        prefetch: how many jobs it has claimed.
        done: whether the job in hand is acknowledged at the point.
        again: never.
    """

    hold: Hold = Hold.NOTHING
    prefetch: int = JOBS
    done: bool = True
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(leave_with_jobs, self.prefetch)
        assert victim.hear() == "joined"
        survivors.send_jobs(JOBS)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        survivors.finish_jobs()
        numbers = [number for number, _ in survivors.jobs]
        assert sorted(numbers) == list(range(1 + self.done, JOBS + 1))
        assert self.done or (1, 2) in survivors.jobs
        survivors.drain()
        survivors.go_on()
        survivors.close()


def leave_at_once(line: Line, name: str, aim: Aim) -> None:
    """Takes all jobs, and leaves once it is told to."""
    bus = eventbus.open(name)
    member = join(bus, JOBS)
    line.say("joined")
    line.hear()
    member.receive(0)
    line.say("has them")
    line.hear()
    aim.take()
    bus.close()


@dataclass(frozen=True)
class Handing:
    """A member that leaves and wakes a sleeper for the jobs that it gives back."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(leave_at_once)
        assert victim.hear() == "joined"
        survivors.send_jobs(JOBS)
        victim.say("go")
        assert victim.hear() == "has them"
        sleeper = start_sleeper(scene, survivors)
        victim.say("go")
        scene.strike(victim, lambda _: None)
        assert {sleeper.hear(OWN_LOOK)[0] for _ in range(JOBS)} == set(range(1, JOBS + 1))
        sleeper.kill()
        survivors.drain()
        survivors.finish_jobs()
        survivors.go_on()
        survivors.close()
