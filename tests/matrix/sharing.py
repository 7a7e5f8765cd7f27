"""Victims that are members of a group and look at its raw data where they lie, beside another one that does."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

import eventbus
from harness import Line
from matrix.groups import start_anew
from matrix.onlookers import Album, Onlookers, named
from matrix.paging import take
from matrix.scene import ROOM, Aim, Hold, Scene, await_go, join
from matrix.working import check

JOBS = 3  # pictures, which find room beside what the survivors look at
ORDER = (2, 1, 3)  # in which they are done by hand


def begin(scene: Scene) -> Onlookers:
    """Survivors that look, in a ring that went round before, of whom the member has a picture in hand."""
    survivors = Onlookers(scene.name, group=True)
    survivors.go_round()
    survivors.jobs.clear()
    return survivors


def meanwhile(survivors: Onlookers, hold: Hold, pid: int) -> None:
    """While the victim stands still: with a gate of its own it is who holds publishers up, by what it looks at; else it
    looks at nothing, and all goes on."""
    looks = {one.pid for one in survivors.bus.stats().subscribers if one.viewed}
    assert looks == {os.getpid()} | ({pid} if Hold.GATE in hold else set())
    if Hold.GATE in hold:
        survivors.meanwhile_held(pid)
    else:
        survivors.meanwhile(hold, pid)
    survivors.check()


def check_figures(survivors: Onlookers) -> None:
    """What the dead looked at is nobody's any more."""
    assert {one.pid for one in survivors.bus.stats().subscribers} == {os.getpid()}


# --- who works ---


def look_and_work(line: Line, name: str, aim: Aim, plan: Sharing) -> None:
    """Looks at each picture twice, since it gives it back once, and keeps parts until the last; then it sleeps."""
    member = join(eventbus.open(name), plan.prefetch, name="viewer", view=True)
    await_go(line)
    album, armed = Album(), not plan.late
    if armed:
        aim.take()
    for event in member:
        line.say((named(event)[1], event.deliveries))
        if plan.keeps:
            album.keep(event)
        if not armed:
            aim.take()
            armed = True
        if (named(event)[1], event.deliveries) == (JOBS, 1):
            album.close()
        if event.deliveries == 1:
            member.reject()
        album.check()


@dataclass(frozen=True)
class Sharing:
    """A member that looks at its jobs.

    Attributes:
        hold: what it has at its point.
        prefetch: how many jobs it claims at once.
        keeps: it keeps a part of each, of which most become copies.
        late: its point is not looked for before it has its first job in hand.
        marked: as in ``Working``.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.GATE
    prefetch: int = 1
    keeps: bool = False
    late: bool = False
    marked: int = 0
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(look_and_work, self)
        survivors.send_jobs(JOBS)
        survivors.drain(jobs=False)
        victim.say("go")
        scene.strike(victim, lambda pid: meanwhile(survivors, self.hold, pid))
        check(survivors, victim.said(), JOBS, 0 < self.marked <= scene.passes)
        check_figures(survivors)
        survivors.end()


# --- who finishes each by itself ---


def look_by_hand(line: Line, name: str, aim: Aim) -> None:
    """Looks at all pictures at once and keeps a part of each, which becomes a copy as it is done; says each before."""
    member = join(eventbus.open(name), JOBS, name="viewer", view=True, ack="manual")
    await_go(line)
    album, events = Album(), take(member, JOBS)
    for event in events:
        album.keep(event)
    aim.take()
    for number in ORDER:
        line.say(number)
        member.ack(events[number - 1])
        album.check()


@dataclass(frozen=True)
class SharingByHand:
    """A member that finishes what it looks at in another order than it came.

    Attributes:
        hold: what it has at its point.
        whole: the job that it began to finish last is done there.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.GATE
    whole: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(look_by_hand)
        survivors.send_jobs(JOBS)
        survivors.drain(jobs=False)
        victim.say("go")
        scene.strike(victim, lambda pid: meanwhile(survivors, self.hold, pid))
        said = victim.said()
        done = said if self.whole else said[:-1]
        survivors.finish_jobs()
        assert sorted(survivors.jobs) == [(number, 2) for number in range(1, JOBS + 1) if number not in done]
        check_figures(survivors)
        survivors.end()


# --- who sleeps ---


def keep_and_sleep(line: Line, name: str, aim: Aim, dozing: bool) -> None:
    """Keeps a part of a picture, has done with it and sleeps."""
    member = join(eventbus.open(name), name="viewer", view=True)
    await_go(line)
    album = Album()
    album.keep(*take(member, 1))
    aim.take()
    if dozing:
        asyncio.run(member.areceive())
    member.receive()
    album.check()


@dataclass(frozen=True)
class Resting:
    """A member that goes to sleep, so that what it kept becomes a copy; ``dozing``: in an event loop."""

    hold: Hold = Hold.GATE
    dozing: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(keep_and_sleep, self.dozing)
        survivors.send_jobs(1)
        survivors.drain(jobs=False)
        victim.say("go")
        scene.strike(victim, lambda pid: meanwhile(survivors, self.hold, pid))
        survivors.finish_jobs()
        assert survivors.jobs == []
        check_figures(survivors)
        survivors.end()


# --- who leaves, or forks, while it looks ---


def look_and_part(line: Line, name: str, aim: Aim, plan: Parting) -> None:
    """Looks at several pictures at once and keeps parts of two; then it forks, or leaves."""
    bus = eventbus.open(name)
    member = join(bus, JOBS, name="viewer", view=True, ack="auto" if plan.kept else "manual")
    await_go(line)
    album, events = Album(), take(member, JOBS)
    for event in events[1:]:
        album.keep(event)
    if plan.kept:
        member.ack()
    aim.take()
    if plan.forks:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    member.close()
    album.check()


@dataclass(frozen=True)
class Parting:
    """A member that leaves with pictures in hand, which become copies and come again to others; ``forks``: it forks.

    Attributes:
        hold: what it has at its point.
        kept: it has done with them, and keeps one in the ring.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.GATE
    forks: bool = False
    kept: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(look_and_part, self)
        survivors.send_jobs(JOBS)
        survivors.drain(jobs=False)
        victim.say("go")
        scene.strike(victim, lambda pid: meanwhile(survivors, self.hold, pid))
        survivors.finish_jobs()
        assert sorted(survivors.jobs) == [(number, 2) for number in range(1, JOBS + 1) if not self.kept]
        check_figures(survivors)
        survivors.end()


# --- who removes the group ---


def look_and_remove(line: Line, name: str, aim: Aim) -> None:
    """Looks at a picture and removes the group."""
    bus = eventbus.open(name)
    member = join(bus, name="viewer", view=True)
    await_go(line)
    event = member.receive(ROOM)
    aim.take()
    bus.remove_group(member.group)
    named(event)


@dataclass(frozen=True)
class Disbanding:
    """A member that removes its group while it looks at something, and another one does."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(look_and_remove)
        survivors.send_jobs(1)
        survivors.drain(jobs=False)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.ROSTER | Hold.GATE, pid))
        if survivors.in_hand is not None:
            survivors.crowd()
        survivors.in_hand = None
        start_anew(survivors)


# --- whose job is parked before it has its gate ---


@dataclass(frozen=True)
class TooLate:
    """A member that stands still before it has its gate, while its job is parked and the ring goes round: it looks at
    nothing, and gets a copy."""

    marked: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        victim = scene.victim(look_late)
        survivors.send_jobs(1)
        survivors.drain(jobs=False)
        victim.say("go")
        victim.wait_stopped()
        assert survivors.fill(Hold.NOTHING) is None
        victim.go_on()
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.NOTHING, pid))
        assert victim.said() == []
        survivors.finish_jobs()
        assert survivors.jobs == [(1, 1 + self.marked)]
        check_figures(survivors)
        survivors.end()


def look_late(line: Line, name: str, aim: Aim) -> None:
    """Stops before it has its gate, and dies after."""
    member = join(eventbus.open(name), name="viewer", view=True)
    await_go(line)
    Aim("look_moved", signal.SIGSTOP, 1).take()
    aim.take()
    line.say(named(member.receive(ROOM)))
