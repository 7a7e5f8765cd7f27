"""Victims that send what is due: late, for want of room; or as the one of those asleep who looks for it."""

from __future__ import annotations

from dataclasses import dataclass

import eventbus
from harness import Line, sealed, unsealed, until
from matrix.scene import (
    OWN_LOOK,
    READY,
    VICTIM,
    Aim,
    Hold,
    Role,
    Scene,
    Survivors,
    asleep,
    join,
    sleep_and_tell,
)
from matrix.sending import place
from matrix.turns import send_for_ever

SOON = 0.05  # seconds: less than anybody sleeps who does not keep


def all_heard(survivors: Survivors, count: int) -> bool:
    """Whether the survivors have heard so many events of the victim; they send what is due where they find nothing."""
    survivors.drain(jobs=False)
    return len(survivors.heard) >= count


@dataclass(frozen=True)
class PuttingOff:
    """A victim that finds no room for what is due."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        victim = scene.victim(send_for_ever, scene.role, True)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.PUBLISH | place(scene.role), pid))
        said = victim.said()
        until(lambda: all_heard(survivors, len(said)), "all that was put down to be sent")
        assert survivors.heard == said
        survivors.end()


def keep(line: Line, name: str, aim: Aim, role: Role) -> None:
    """Waits for events, without looking first, with something that is due soon."""
    bus = eventbus.open(name)
    sub = join(bus, name="victim", spin=0) if role is Role.MEMBER else bus.subscribe("**", name="victim", spin=0)
    line.say(READY)
    aim.take()
    for event in sub:
        line.say(unsealed(event))


@dataclass(frozen=True)
class Keeping:
    """A victim that sleeps until something is due; beside one that sleeps on, where that is not told first."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        victim = scene.victim(keep, scene.role)
        sleeper = scene.ready(sleep_and_tell) if scene.role is Role.SUBSCRIBER else None
        names = ["victim"] if sleeper is None else ["victim", "sleeper"]
        put_down: list[int] = []
        heard: list[tuple[int, int]] = []

        def sleeper_tells() -> None:
            while sleeper is not None and len(heard) < len(put_down):
                heard.append(sleeper.hear(OWN_LOOK))

        def meanwhile(pid: int) -> None:
            sleeper_tells()
            survivors.meanwhile(place(scene.role), pid)

        while not scene.struck(victim):
            until(lambda: scene.struck(victim) or asleep(survivors.bus, *names), "all to sleep")
            put_down.append(len(put_down) + 1)
            survivors.bus.send_later("known", "topic", "/later", sealed(VICTIM, put_down[-1]), delay=SOON)
            until(lambda: scene.struck(victim) or survivors.bus.stats().sent == len(put_down), "what is due to be sent")
        scene.strike(victim, meanwhile)
        sleeper_tells()
        assert heard == [(VICTIM, number) for number in put_down] * (sleeper is not None)
        until(lambda: all_heard(survivors, len(put_down)), "what is due to be sent")
        assert survivors.heard == put_down
        if sleeper is not None:
            sleeper.kill()
        survivors.end()
