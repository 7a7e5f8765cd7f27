"""Members that look at what a publisher waits for: they make room, or die and are reaped by it."""

from __future__ import annotations

import enum
import signal
import time
from dataclasses import dataclass

import eventbus
from harness import Line, sealed, until
from matrix.onlookers import SOME, Album, Onlookers, named, show
from matrix.paging import take
from matrix.scene import READY, ROOM, SURVIVOR, Aim, Hold, Scene, await_go, join
from matrix.sharing import begin, check_figures, meanwhile
from matrix.viewing import show_on, show_when_possible
from matrix.working import MOMENT

MUCH = 136  # events that need most of the ring at once

# --- who holds a publisher up ---


class Why(enum.Enum):
    """How a member makes room."""

    DONE = "its job is done"
    LET_GO = "its job is done before, and it lets go of what it kept"
    ASK = "its job is done before, and it asks for more, so that what it kept becomes a copy"
    SLEEP = "the same, but what it kept is not too much for one that is awake: a copy once it sleeps"


def keep_the_first(line: Line, name: str, aim: Aim, why: Why) -> None:
    """Keeps a part of the first job in the ring, which fills up; then it makes room."""
    member = join(eventbus.open(name), name="viewer", view=True)
    await_go(line)
    album = Album()
    album.keep(*take(member, 1))
    if why is not Why.DONE:
        taken = time.monotonic()
        until(lambda: time.monotonic() - taken > MOMENT, "the moment to pass")
        assert member.receive(0) is None
    await_go(line)
    aim.take()
    if why is Why.LET_GO:
        album.close()
    elif why is Why.DONE:
        member.ack()
    member.receive()
    album.check()


def send_much(line: Line, name: str) -> None:
    """Sends events that need room for all of them at once; stops once it is about to sleep."""
    bus = eventbus.open(name)
    line.say(READY)
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    line.say(1)
    bus.send_many([("still", "here", "/much", sealed(SURVIVOR, number)) for number in range(MUCH)], timeout=None)


@dataclass(frozen=True)
class Relenting:
    """A member that looks at what is oldest in the ring, while a publisher sleeps until there is room.

    Attributes:
        why: how it makes room.
        freed: whether there is room at its point.
        done: whether its job is.
        again: never.
    """

    why: Why
    freed: bool = False
    done: bool = True
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Onlookers(scene.name, group=True)
        victim = scene.victim(keep_the_first, self.why)
        survivors.show()
        survivors.drain(jobs=False)
        survivors.album.close()  # it would keep the same
        victim.say("go")
        assert victim.hear() == READY
        for number in range(1, 1 if self.why is Why.SLEEP else SOME):
            show(survivors.bus, SURVIVOR, number)
            survivors.drain()
        publisher = scene.ready(send_much if self.why is Why.SLEEP else show_when_possible)
        publisher.wait_stopped()
        waiting = publisher.said()[-1]
        publisher.go_on()
        victim.say("go")

        def wait(_: int) -> None:
            if self.freed:
                until(lambda: survivors.bus.stats().sent > waiting, "the publisher to find room", ROOM)
            else:
                assert survivors.bus.stats().sent == waiting

        scene.strike(victim, wait)
        until(lambda: survivors.bus.stats().sent > waiting, "the publisher to find room", ROOM)
        publisher.kill()
        survivors.finish_jobs()
        assert survivors.jobs == [(0, 2)] * (not self.done)
        check_figures(survivors)
        survivors.drain()
        survivors.jobs.clear()
        survivors.end()


# --- who is dead ---


def look_and_stay(line: Line, name: str) -> None:
    """Looks at a picture for ever."""
    member = join(eventbus.open(name), name="dead", view=True)
    await_go(line)
    event = member.receive(ROOM)
    line.say(named(event))
    line.hear()


@dataclass(frozen=True)
class Reaping:
    """A publisher that waits for room which a dead member holds that looked at something.

    Attributes:
        hold: what it has at its point.
        freed: whether there is room at its point.
        again: never.
    """

    hold: Hold = Hold.ROSTER
    freed: bool = True
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = begin(scene)
        dead = scene.ready(look_and_stay)
        survivors.send_jobs(1)
        survivors.drain(jobs=False)
        dead.say("go")
        assert dead.hear() == (SURVIVOR, 1)
        victim = scene.victim(show_on, "raw")
        dead.kill()
        victim.say("go")

        def refused(pid: int) -> None:
            if self.freed:
                meanwhile(survivors, self.hold, pid)
            else:
                assert survivors.fill(self.hold) is not None

        scene.strike(victim, refused)
        survivors.finish_jobs()
        assert survivors.jobs == [(1, 2)]
        survivors.drain()
        assert survivors.heard == [0, *victim.said()[:-1]]
        check_figures(survivors)
        survivors.end()
