"""Victims that look at raw data where they lie, and those that send them while others look."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import eventbus
from harness import Line, take, until
from matrix.onlookers import PICTURES, RINGS, SOME, Album, Onlookers, left_of, named, show
from matrix.parking import Holder
from matrix.scene import CAPACITY, READY, ROOM, SURVIVOR, VICTIM, Aim, Hold, Scene, await_go
from matrix.sending import BATCH, die_in_a_batch

# --- who looks ---


def look(line: Line, name: str, aim: Aim) -> None:
    """Looks at picture after picture, each once the test has sent it, and keeps a part of each; then gives all back."""
    sub = eventbus.open(name).subscribe("**", name="viewer", view=True)
    line.say(READY)
    aim.take()
    album = Album()
    for _ in range(PICTURES):
        line.hear()
        event = take(sub)
        album.keep(event)
        line.say(named(event))
    del event
    assert sub.receive(0) is None
    album.check()
    album.close()


@dataclass(frozen=True)
class Looking:
    """A subscriber that looks at one picture after the other and keeps a part of each, of which most become copies.

    Attributes:
        again: whether it comes to its point more than once.
    """

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Onlookers(scene.name)
        survivors.go_round()
        victim = scene.victim(look)
        first = survivors.shown
        heard = list[tuple[int, int]]()
        for count in range(PICTURES):
            survivors.show()
            survivors.drain()
            victim.say("sent")
            scene.listen(victim, heard, count + 1)
            if scene.struck(victim):
                break
        scene.strike(victim, survivors.meanwhile_held)
        heard += victim.said()
        assert heard == [(SURVIVOR, number) for number in range(first, first + len(heard))]
        survivors.end()


# --- who leaves, or forks, while it looks ---


def look_and_end(line: Line, name: str, aim: Aim, forks: bool) -> None:
    """Looks at several pictures at once and keeps parts of two; then it forks, or leaves."""
    bus = eventbus.open(name)
    sub = bus.subscribe("**", name="viewer", view=True)
    await_go(line)
    events, album = sub.receive_many(PICTURES, ROOM), Album()
    for event in events[:2]:
        album.keep(event)
    aim.take()
    if forks:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    sub.close()
    album.check()


@dataclass(frozen=True)
class Ending:
    """A subscriber that leaves with pictures in hand and kept, which become copies; ``forks``: it forks.

    Attributes:
        hold: what it has at its point.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.GATE
    forks: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Onlookers(scene.name)
        survivors.go_round()
        victim = scene.victim(look_and_end, self.forks)
        for _ in range(3):
            survivors.show()
            survivors.drain()
        victim.say("go")
        scene.strike(victim, lambda pid: self._meanwhile(survivors, pid))
        survivors.end()

    def _meanwhile(self, survivors: Onlookers, pid: int) -> None:
        if Hold.GATE in self.hold:
            survivors.meanwhile_held(pid)
        else:
            survivors.meanwhile(self.hold, pid)
        survivors.check()


# --- who holds a publisher up ---


def show_when_possible(line: Line, name: str) -> None:
    """Shows pictures until the ring is full, and more when there is room; stops once it is about to sleep."""
    bus = eventbus.open(name)
    line.say(READY)
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    for number in range(SOME, 2 * PICTURES):
        line.say(number)
        show(bus, SURVIVOR, number, None)


def keep_the_first(line: Line, name: str, aim: Aim, gives_back: bool) -> None:
    """Keeps a part of the first picture in the ring, which fills up; then it lets go of that, or asks for more."""
    sub = eventbus.open(name).subscribe("**", name="viewer", view=True)
    await_go(line)
    album = Album()
    album.keep(take(sub))
    assert sub.receive(0) is None
    await_go(line)
    if not gives_back:
        sub.receive_many(PICTURES, ROOM)
    await_go(line)
    aim.take()
    if gives_back:
        album.close()
    sub.receive(0)


@dataclass(frozen=True)
class Crowding:
    """A subscriber that looks at what is oldest in the ring, while a publisher sleeps until there is room.

    Attributes:
        freed: whether there is room at its point.
        gives_back: it lets go of that; else it has all of the ring in hand, and asks for more.
        again: never.
    """

    freed: bool = False
    gives_back: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        album = Album()
        with eventbus.open(scene.name, capacity=RINGS * CAPACITY) as bus:
            with bus.subscribe("**", name="onlooker", view=True) as onlooker:
                victim = scene.victim(keep_the_first, self.gives_back)
                show(bus, SURVIVOR, 0)
                victim.say("go")
                assert victim.hear() == READY
                for number in range(1, SOME):
                    show(bus, SURVIVOR, number)
                for event in onlooker.receive_many(PICTURES, 0):
                    album.keep(event)
                assert onlooker.receive(0) is None
                publisher = scene.ready(show_when_possible)
                publisher.wait_stopped()
                waiting = publisher.said()[-1]
                victim.say("go")
                assert victim.hear() == READY
                publisher.go_on()
                victim.say("go")
                scene.strike(victim, lambda _: self._meanwhile(bus, waiting))
                until(lambda: bus.stats().sent > waiting, "the publisher to find room", ROOM)
                album.check()
                for number in range(SOME, 2 * PICTURES):
                    assert named(onlooker.receive(ROOM)) == (SURVIVOR, number)
                album.check()
            publisher.kill()
        album.check()
        album.close()
        assert not left_of(scene.name)
        with eventbus.open(scene.name, capacity=CAPACITY):
            pass

    def _meanwhile(self, bus: eventbus.Bus, waiting: int) -> None:
        if self.freed:
            until(lambda: bus.stats().sent > waiting, "the publisher to find room", ROOM)
        else:
            assert bus.stats().sent == waiting


# --- who sends while others look ---


def show_on(line: Line, name: str, aim: Aim, system: str) -> None:
    """Sends picture after picture and says each before; their topic is in the table before the first."""
    bus = eventbus.open(name)
    show(bus, VICTIM, 0, system=system)
    await_go(line)
    aim.take()
    for number in range(1, 2 * PICTURES):
        line.say(number)
        show(bus, VICTIM, number, None, system)


@dataclass(frozen=True)
class Showing:
    """A publisher of what is looked at, in a ring that went round before, while somebody looks at its events.

    Attributes:
        hold: what it has at its point.
        sent: whether the last picture that it began to send is heard.
        owner_dead: the last owner of the publish lock died in the middle.
        shared: it is a member of a group who looks, at jobs.
        parked: another member has older events in hand, which are in the way.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    sent: bool = False
    owner_dead: bool = False
    shared: bool = False
    parked: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Onlookers(scene.name, group=self.shared)
        survivors.go_round()
        holder = self._holder(scene, survivors) if self.parked else None
        victim = scene.victim(show_on, "jobs" if self.shared else "raw")
        if self.owner_dead:
            scene.start(die_in_a_batch).killed()
        victim.say("go")
        said = list[int]()

        def check() -> None:
            survivors.check()
            said.extend(victim.said())
            survivors.drain()
            before = [0] + [-1] * (BATCH + 1) * self.owner_dead
            sent = said if self.sent else said[:-1]
            assert survivors.heard == before + sent
            jobs = [*range(survivors.shown), 0, *sent] if self.shared else []
            assert survivors.jobs == [(number, 1) for number in jobs]

        def meanwhile(pid: int) -> None:
            check()
            survivors.meanwhile(self.hold, pid)

        scene.strike(victim, meanwhile)
        if survivors.in_hand is not None:
            survivors.crowd()
        check()
        if holder is not None:
            holder.check(dies=False)
        survivors.end()

    def _holder(self, scene: Scene, survivors: Onlookers) -> Holder:
        survivors.drain()
        holder = Holder(scene, survivors)
        survivors.show()
        survivors.drain()
        survivors.take_one()
        return holder
