"""Members that have events in hand while the ring goes round, so that publishers park what they have."""

from __future__ import annotations

import signal

import eventbus
from harness import Line, take
from matrix.scene import CAPACITY, READY, REDELIVERY, Aim, Hold, Scene, Survivors, await_go, claims_of, job_of

EVENTS = 3
GROUP = "slow"


def hold(line: Line, name: str) -> None:
    """Does one event, claims the next ones and stops before it copies them; then tells each, and acknowledges it."""
    member = eventbus.open(name).subscribe(GROUP, group=GROUP, prefetch=EVENTS, ack="manual", name=GROUP)
    await_go(line)
    member.ack(take(member))
    await_go(line)
    Aim("group_unlocked", signal.SIGSTOP, 1).take()
    for _ in range(EVENTS):
        event = take(member)
        line.say(job_of(event))
        member.ack(event)
    line.say(READY)
    line.hear()


class Holder:
    """A member with events in hand that it did not read yet, which are older than what else the ring holds.

    Attributes:
        numbers: those of its events.
    """

    def __init__(self, scene: Scene, survivors: Survivors) -> None:
        self._survivors = survivors
        self._process = scene.ready(hold)
        survivors.send(GROUP)
        self._process.say("go")
        assert self._process.hear() == READY
        self.numbers = [survivors.send(GROUP) for _ in range(EVENTS)]
        self._process.say("go")
        self._process.wait_stopped()
        begun = survivors.bus.stats().committed
        while survivors.bus.stats().committed - begun < CAPACITY // 8:
            survivors.send()
        survivors.drain()

    def check(self, dies: bool) -> None:
        """A ring goes by without waiting for it; then its events come, whole and once: to itself or, if it ``dies``, to
        the next member as if nobody had claimed them."""
        survivors = self._survivors
        assert survivors.fill(Hold.NOTHING) is None
        claims = claims_of(survivors.bus, GROUP)
        assert [claim.parked for claim in claims] == [True] * EVENTS
        if dies:
            self._process.kill()
        else:
            self._process.go_on()
            assert [self._process.hear() for _ in range(EVENTS)] == [(number, 1) for number in self.numbers]
            assert self._process.hear() == READY
        with survivors.bus.subscribe(GROUP, group=GROUP, prefetch=EVENTS) as heir:
            for number in self.numbers * dies:
                event = heir.receive(REDELIVERY)
                assert event is not None
                assert job_of(event) == (number, 1)
            assert heir.receive(0) is None
        assert claims_of(survivors.bus, GROUP) == ()
        self._process.kill()
