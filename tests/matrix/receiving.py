"""Victims that subscribe, receive, sleep and leave: subscribers, and members of a group where they do the same."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

import eventbus
from harness import Line, sealed, unsealed, until
from matrix.scene import (
    CAPACITY,
    READY,
    ROOM,
    SURVIVOR,
    Aim,
    Changes,
    Hold,
    Role,
    Scene,
    Survivors,
    asleep,
    await_go,
    join,
    tell_each,
)

TIMES = 3


def subscribe(line: Line, name: str, aim: Aim, role: Role, moved: bool, watched: bool) -> None:
    """Subscribes and closes, again and again; ``moved``: stops with the slot open, where the test sends an event;
    ``watched``: a loop watches it by itself."""
    bus = eventbus.open(name)
    await_go(line)
    aim.take()
    for _ in range(TIMES):
        if moved:
            Aim("slot_open", signal.SIGSTOP, 1).take()
        with join(bus) if role is Role.MEMBER else bus.subscribe("**") as sub:
            assert not watched or sub.fileno() >= 0


@dataclass(frozen=True)
class Joining:
    """A victim that subscribes or closes its subscription.

    Attributes:
        hold: what it has at its point; a plain subscriber's place is a ``place`` there.
        moved: events are sent between the opening of its slot and the fixing of its cursor.
        told: somebody waits for subscribers to come or go, whom it tells.
        watched: a loop watches its subscription by itself.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    place: bool = False
    moved: bool = False
    watched: bool = False
    told: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        if self.told:
            survivors.changes = Changes(scene, survivors.bus)
        victim = scene.victim(subscribe, scene.role, self.moved, self.watched)
        victim.say("go")
        for _ in range(scene.passes if self.moved else 0):
            victim.wait_stopped()
            survivors.send()
            victim.go_on()
        hold = self.hold | (Hold.GATE if self.place and scene.role is Role.SUBSCRIBER else Hold.NOTHING)
        scene.strike(victim, lambda pid: survivors.meanwhile(hold, pid))
        survivors.drain()
        survivors.end()


def receive(line: Line, name: str, aim: Aim) -> None:
    """Receives event after event, each once the test has sent it."""
    sub = eventbus.open(name).subscribe("**")
    line.say(READY)
    aim.take()
    for _ in range(TIMES):
        line.hear()
        line.say(unsealed(sub.receive(ROOM)))


@dataclass(frozen=True)
class Receiving:
    """A subscriber that receives events."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        victim = scene.victim(receive)
        heard = list[tuple[int, int]]()
        for count in range(scene.passes):
            survivors.send()
            victim.say("sent")
            scene.listen(victim, heard, count + 1)
            if scene.struck(victim):
                break
            assert heard == [(SURVIVOR, number) for number in range(count + 1)]
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.GATE, pid))
        assert victim.said() == []
        survivors.drain()
        survivors.end()


def hear_some(line: Line, name: str, aim: Aim, role: Role) -> None:
    """Receives and meets topics that it does not hear."""
    bus = eventbus.open(name)
    sub = join(bus) if role is Role.MEMBER else bus.subscribe("jobs.**")
    await_go(line)
    aim.take()
    sub.receive(ROOM)


@dataclass(frozen=True)
class Deciding:
    """A subscriber or a member that decides what it hears."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        victim = scene.victim(hear_some, scene.role)
        for number in range(TIMES):
            survivors.send(f"unheard{number}")
        survivors.send_jobs(1)
        victim.say("go")
        hold = Hold.GATE if scene.role is Role.SUBSCRIBER else Hold.NOTHING
        scene.strike(victim, lambda pid: survivors.meanwhile(hold, pid))
        if survivors.member is not None:
            survivors.finish_jobs()
            assert survivors.jobs == [(1, 1)]
        survivors.drain()
        survivors.end()


# --- asleep ---


def sleep(line: Line, name: str, aim: Aim) -> None:
    """Waits for events, without looking first."""
    sub = eventbus.open(name).subscribe("**", name="victim", spin=0)
    line.say(READY)
    aim.take()
    for event in sub:
        line.say(unsealed(event))


def doze(line: Line, name: str, aim: Aim) -> None:
    """The same in an event loop."""
    sub = eventbus.open(name).subscribe("**", name="victim", spin=0)
    line.say(READY)
    aim.take()
    asyncio.run(tell_each(line, sub, unsealed))


@dataclass(frozen=True)
class Sleeping:
    """A subscriber around its sleep; ``dozing``: in an event loop."""

    dozing: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        victim = scene.victim(doze if self.dozing else sleep)
        heard = list[tuple[int, int]]()
        while not scene.struck(victim):
            if asleep(survivors.bus, "victim"):
                number = survivors.send()
                scene.listen(victim, heard, number + 1)
        heard += victim.said()
        assert heard in ([(SURVIVOR, number) for number in range(count)] for count in range(survivors.sent + 1))
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.GATE, pid))
        survivors.drain()
        survivors.end()


# --- telling publishers that there is room ---


def send_when_possible(line: Line, name: str) -> None:
    """Sends until the ring is full, and once more when there is room; stops once it is about to sleep."""
    bus = eventbus.open(name)
    line.say(READY)
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    number = 0
    while True:
        number += 1
        line.say(number)
        bus.send("still", "here", "/full", sealed(SURVIVOR, number), timeout=None)


def receive_all(line: Line, name: str, aim: Aim) -> None:
    """Receives once it is told to."""
    sub = eventbus.open(name).subscribe("**")
    await_go(line)
    aim.take()
    sub.receive(ROOM)


@dataclass(frozen=True)
class Freeing:
    """A subscriber whose receiving makes room, and who tells the publisher that waits for it."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        with eventbus.open(scene.name, capacity=CAPACITY) as bus:
            victim = scene.victim(receive_all)
            publisher = scene.ready(send_when_possible)
            publisher.wait_stopped()
            last = publisher.said()[-1]
            publisher.go_on()
            victim.say("go")
            scene.strike(victim, lambda _: publisher.hear(ROOM))
            until(lambda: bus.stats().sent >= last, "the publisher to find room", ROOM)
            publisher.kill()
        with eventbus.open(scene.name, capacity=CAPACITY):
            pass
