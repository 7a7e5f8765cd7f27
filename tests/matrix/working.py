"""Victims that work: members of a group, who share its events."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from functools import partial

import eventbus
from eventbus.member import Member
from harness import Child, Line, sealed, until
from matrix.scene import (
    CAPACITY,
    OWN_LOOK,
    READY,
    ROOM,
    SURVIVOR,
    Aim,
    Hold,
    Scene,
    Survivors,
    asleep,
    await_go,
    idle,
    job_of,
    join,
    send_job,
    tell_each,
)

JOBS = 6
CHECK = 0.01  # CHECK_NS: how often members look who is dead
TIMES = 3


def work(line: Line, name: str, aim: Aim, prefetch: int) -> None:
    """Gives each job back once and then does it; says what it has in hand, and stays for what may come."""
    member = join(eventbus.open(name), prefetch)
    await_go(line)
    aim.take()
    while (event := member.receive(OWN_LOOK)) is not None:
        line.say(job_of(event))
        if event.deliveries == 1:
            member.reject()


def sleep(line: Line, name: str, dozing: bool) -> None:
    """A member that sleeps; ``dozing``: in an event loop."""
    member = join(eventbus.open(name), name="sleeper", spin=0)
    line.say(READY)
    tell_jobs(line, member, dozing)


def tell_jobs(line: Line, member: Member, dozing: bool) -> None:
    """Tells of each job until the end."""
    if dozing:
        asyncio.run(tell_each(line, member, job_of))
    for event in member:
        line.say(job_of(event))


def check(survivors: Survivors, said: list[tuple[int, int]], jobs: int, marked: bool) -> None:
    """All jobs are done, those that the victim had not done by the survivors, once: with a delivery more for each time
    that it was handed them, and one for the next if that was ``marked`` as handed out."""
    survivors.finish_jobs()
    assert said == [(number, deliveries) for number in range(1, jobs + 1) for deliveries in (1, 2)][: len(said)]
    first, of_it = divmod(len(said), 2)  # it asks for the next once it has done those before
    again = [(number, 1) for number in range(first + 1, jobs + 1)]
    if again:
        again[0] = first + 1, 1 + of_it + marked
    assert sorted(survivors.jobs) == again


@dataclass(frozen=True)
class Working:
    """A member at work.

    Attributes:
        hold: what it has at its point.
        prefetch: how many jobs it claims at once.
        other: a member that dies before, at this point of its first claim: "" for none, "asleep" for in its sleep.
        aged: so long ago that the next to come looks who is dead.
        unheard: there are events that the group does not hear, and no job.
        marked: from which time at its point on the first of those that it has read, and was not handed yet, is marked
            as handed out; 0 for never.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    prefetch: int = 1
    other: str = ""
    aged: bool = False
    unheard: bool = False
    marked: int = 0
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        jobs = 0 if self.unheard else JOBS
        victim = scene.victim(work, self.prefetch)
        if self.other == "asleep":
            start_sleeper(scene, survivors).kill()
        for number in range(TIMES * self.unheard):
            survivors.send(f"unheard{number}")
        if jobs:
            survivors.send_jobs(jobs)
        if self.other not in ("", "asleep"):
            other = scene.ready(work, Aim(self.other, signal.SIGKILL, 1), 1)
            other.say("go")
            other.killed()
        died = time.monotonic()
        until(lambda: not self.aged or time.monotonic() - died > CHECK, "its death to be looked for")
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(self.hold, pid))
        check(survivors, victim.said(), jobs, 0 < self.marked <= scene.passes)
        survivors.end()


# --- with others asleep ---


def take_job(line: Line, name: str, aim: Aim) -> None:
    """Takes a job, once it is told to."""
    member = join(eventbus.open(name))
    await_go(line)
    aim.take()
    member.receive(OWN_LOOK)


def give_back(line: Line, name: str, aim: Aim) -> None:
    """Takes a job, and gives it back once it is told to."""
    member = join(eventbus.open(name))
    await_go(line)
    member.receive(OWN_LOOK)
    await_go(line)
    aim.take()
    member.reject()


def start_sleeper(scene: Scene, survivors: Survivors, dozing: bool = False) -> Child:
    """A member that is asleep."""
    sleeper = scene.ready(sleep, dozing)
    until(lambda: asleep(survivors.bus, "sleeper"), "the member to sleep")
    return sleeper


@dataclass(frozen=True)
class PassingOn:
    """A member that takes a job and sees to it that a sleeper is woken by the next one."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(take_job)
        sleeper = start_sleeper(scene, survivors)
        sleeper.stop()
        survivors.send_jobs(1)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.NOTHING, pid))
        sleeper.go_on()
        assert sleeper.hear(OWN_LOOK) == (1, 1)
        sleeper.kill()
        survivors.end()


@dataclass(frozen=True)
class Returning:
    """A member that gives a job back and wakes a sleeper; ``dozing``: in an event loop."""

    dozing: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(give_back)
        survivors.send_jobs(1)
        victim.say("go")
        assert victim.hear() == READY
        sleeper = start_sleeper(scene, survivors, self.dozing)
        victim.say("go")
        scene.strike(victim, lambda _: None)
        assert sleeper.hear(OWN_LOOK) == (1, 2)
        sleeper.kill()
        survivors.end()


# --- asleep ---


def await_jobs(line: Line, name: str, *aims: Aim, dozing: bool = False) -> None:
    """Waits for jobs, without looking first, once it is told to; ``dozing``: in an event loop."""
    member = join(eventbus.open(name), name="victim", spin=0)
    await_go(line)
    for aim in aims:
        aim.take()
    tell_jobs(line, member, dozing)


@dataclass(frozen=True)
class Sleeping:
    """A member around its sleep, beside another one that sleeps; ``dozing``: both in event loops."""

    dozing: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(partial(await_jobs, dozing=self.dozing))
        victim.say("go")
        until(lambda: scene.struck(victim) or asleep(survivors.bus, "victim"), "the victim to sleep")
        sleeper = start_sleeper(scene, survivors, self.dozing)
        sent, got = 0, list[tuple[int, int]]()
        while not scene.struck(victim):
            until(lambda: scene.struck(victim) or asleep(survivors.bus, "victim", "sleeper"), "both to sleep")
            if not scene.struck(victim):
                sent += 1
                send_job(survivors.bus, sent)
                until(lambda: scene.struck(victim) or idle(survivors.bus), "the job to be done")
        scene.strike(victim, lambda pid: None)
        sent += 1
        send_job(survivors.bus, sent)
        mine = victim.said()
        while len(got) + len(mine) < sent:
            got.append(sleeper.hear(OWN_LOOK))
        assert sorted(got + mine) == [(number, 1) for number in range(1, sent + 1)]
        sleeper.kill()
        survivors.drain()
        survivors.end()


@dataclass(frozen=True)
class Watching:
    """A member that sleeps and watches whether another one lives, who has a job."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim, holder = scene.victim(await_jobs), scene.ready(give_back, scene.aim)
        survivors.send_jobs(1)
        holder.say("go")
        assert holder.hear() == READY
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.NOTHING, holder.pid))
        sleeper = start_sleeper(scene, survivors)
        holder.kill()
        assert sleeper.hear(OWN_LOOK) == (1, 2)
        sleeper.kill()
        survivors.drain()
        survivors.end()


# --- making room ---

MOMENT = 0.0002  # ROOM_NS: how soon after it has told publishers of room a member does so again


def send_jobs_when_possible(line: Line, name: str) -> None:
    """Sends jobs of one size until the ring is full, and once more when there is room; stops before it sleeps."""
    bus = eventbus.open(name)
    await_go(line)
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    while True:
        line.say(READY)
        bus.send("jobs", "job", "/job", sealed(SURVIVOR, 0), timeout=None)


def do_one(line: Line, name: str, aim: Aim) -> None:
    """Takes a job once it is told to, and acknowledges it more than a moment later, so that it tells of room anew."""
    member = join(eventbus.open(name))
    await_go(line)
    assert member.receive(ROOM) is not None
    taken = time.monotonic()
    until(lambda: time.monotonic() - taken > MOMENT, "the moment to pass")
    aim.take()
    member.ack()


@dataclass(frozen=True)
class MakingRoom:
    """A member that acknowledges a job while a publisher waits for room."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        with eventbus.open(scene.name, capacity=CAPACITY) as bus:
            victim, publisher = scene.victim(do_one), scene.ready(send_jobs_when_possible)
            publisher.say("go")
            publisher.wait_stopped()
            begun = len(publisher.said())
            victim.say("go")
            scene.strike(victim, lambda _: None)
            publisher.go_on()
            until(lambda: bus.stats().sent == begun, "the publisher to find room", ROOM)
            publisher.kill()
