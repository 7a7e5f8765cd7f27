"""Victims that subscribe, receive, sleep and leave: subscribers, and members of a group where they do the same."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import eventbus
from harness import Line, sealed, unsealed, until
from matrix.scene import (
    CAPACITY,
    ROOM,
    SURVIVOR,
    Aim,
    Changes,
    Hold,
    Role,
    Scene,
    Survivors,
    asleep,
    join,
)

TIMES = 3


def subscribe(line: Line, name: str, aim: Aim, role: Role) -> None:
    """Subscribes and closes, again and again."""
    bus = eventbus.open(name)
    line.say("open")
    line.hear()
    aim.take()
    for _ in range(TIMES):
        (join(bus) if role is Role.MEMBER else bus.subscribe("**")).close()


def subscribe_while_it_moves(line: Line, name: str, aim: Aim, role: Role) -> None:
    """Subscribes; stops with the slot open, which is where the test sends an event, again and again."""
    bus = eventbus.open(name)
    line.say("open")
    line.hear()
    aim.take()
    for _ in range(TIMES):
        Aim("slot_open", signal.SIGSTOP, 1).take()
        (join(bus) if role is Role.MEMBER else bus.subscribe("**")).close()


@dataclass(frozen=True)
class Joining:
    """A victim that subscribes or closes its subscription.

    Attributes:
        hold: what it has at its point; a plain subscriber's place is a ``place`` there.
        moved: events are sent between the opening of its slot and the fixing of its cursor.
        told: somebody waits for subscribers to come or go, whom it tells.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    place: bool = False
    moved: bool = False
    told: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=scene.role is Role.MEMBER)
        changes = Changes(scene, survivors) if self.told else None
        victim = scene.victim(subscribe_while_it_moves if self.moved else subscribe, scene.role)
        assert victim.hear() == "open"
        victim.say("go")
        for _ in range(scene.passes if self.moved else 0):
            victim.wait_stopped()
            survivors.send()
            victim.go_on()
        hold = self.hold | (Hold.GATE if self.place and scene.role is Role.SUBSCRIBER else Hold.NOTHING)
        scene.strike(victim, lambda pid: survivors.meanwhile(hold, pid))
        survivors.drain()
        survivors.go_on()
        if changes is not None:
            changes.check()
        survivors.close()


def receive(line: Line, name: str, aim: Aim) -> None:
    """Receives event after event, each once the test has sent it."""
    sub = eventbus.open(name).subscribe("**")
    line.say("subscribed")
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
        assert victim.hear() == "subscribed"
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
        survivors.go_on()
        survivors.close()


def hear_some(line: Line, name: str, aim: Aim, role: Role) -> None:
    """Receives and meets topics that it does not hear."""
    bus = eventbus.open(name)
    sub = join(bus) if role is Role.MEMBER else bus.subscribe("jobs.**")
    line.say("subscribed")
    line.hear()
    aim.take()
    sub.receive(ROOM)


@dataclass(frozen=True)
class Deciding:
    """A subscriber or a member that decides what it hears."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=scene.role is Role.MEMBER)
        victim = scene.victim(hear_some, scene.role)
        assert victim.hear() == "subscribed"
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
        survivors.go_on()
        survivors.close()


# --- asleep ---


def sleep(line: Line, name: str, aim: Aim) -> None:
    """Waits for events, without looking first."""
    sub = eventbus.open(name).subscribe("**", name="victim", spin=0)
    line.say("subscribed")
    aim.take()
    for event in sub:
        line.say(unsealed(event))


@dataclass(frozen=True)
class Sleeping:
    """A subscriber around its sleep."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        victim = scene.victim(sleep)
        assert victim.hear() == "subscribed"
        heard = list[tuple[int, int]]()
        while not scene.struck(victim):
            if asleep(survivors.bus, "victim"):
                number = survivors.send()
                scene.listen(victim, heard, number + 1)
        heard += victim.said()
        assert heard in ([(SURVIVOR, number) for number in range(count)] for count in range(survivors.sent + 1))
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.GATE, pid))
        survivors.drain()
        survivors.go_on()
        survivors.close()


# --- telling publishers that there is room ---


def send_when_possible(line: Line, name: str) -> None:
    """Sends until the ring is full, and once more when there is room; stops once it is about to sleep."""
    bus = eventbus.open(name)
    line.say("open")
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    number = 0
    while True:
        number += 1
        line.say(number)
        bus.send("still", "here", "/full", sealed(SURVIVOR, number), timeout=None)


def receive_all(line: Line, name: str, aim: Aim) -> None:
    """Receives once it is told to."""
    sub = eventbus.open(name).subscribe("**")
    line.say("subscribed")
    line.hear()
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
            assert victim.hear() == "subscribed"
            publisher = scene.start(send_when_possible)
            assert publisher.hear() == "open"
            publisher.wait_stopped()
            last = publisher.said()[-1]
            publisher.go_on()
            victim.say("go")
            scene.strike(victim, lambda _: publisher.hear(ROOM))
            until(lambda: bus.stats().sent >= last, "the publisher to find room", ROOM)
            publisher.kill()
        with eventbus.open(scene.name, capacity=CAPACITY):
            pass
