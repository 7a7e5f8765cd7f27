"""Victims that wait for room in turn: whatever their role, they send more than the ring holds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import eventbus
from harness import Line, sealed, until
from matrix.scene import CAPACITY, VICTIM, Aim, Hold, Role, Scene, await_go, join
from matrix.sending import ENOUGH, place


def send_for_ever(line: Line, name: str, aim: Aim, role: Role, later: bool = False) -> None:
    """Sends event after event and says each before, or puts it down to be sent at once; nobody sends it anything."""
    bus = eventbus.open(name)
    joined = {Role.MEMBER: join, Role.SUBSCRIBER: lambda bus: bus.subscribe("jobs.**")}
    with joined.get(role, contextlib.nullcontext)(bus):
        await_go(line)
        aim.take()
        for number in range(1, ENOUGH):
            line.say(number)
            event = "known", "topic", "/victim", sealed(VICTIM, number)
            if later:
                bus.send_later(*event, delay=0)
            else:
                bus.send(*event, timeout=None)


@dataclass(frozen=True)
class TakingTurns:
    """A victim that waits for room, gets it, and waits again; whether its last event is ``sent``."""

    sent: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        victim = scene.victim(send_for_ever, scene.role)
        victim.say("go")
        said: list[int] = []

        def check_heard() -> None:
            said.extend(victim.said())
            survivors.drain(jobs=False)
            assert survivors.heard == (said if self.sent else said[:-1])

        def meanwhile(pid: int) -> None:
            check_heard()
            survivors.meanwhile(Hold.PUBLISH | place(scene.role), pid)

        def waits() -> bool:
            return survivors.bus.stats().used > CAPACITY // 2

        while not scene.struck(victim):
            until(lambda: scene.struck(victim) or waits(), "the ring to be filled")
            survivors.drain(jobs=False)
        scene.strike(victim, meanwhile)
        check_heard()
        survivors.end()
