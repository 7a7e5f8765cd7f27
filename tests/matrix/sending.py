"""Victims that send: a publisher, a subscriber that answers, a member that sends what came of its job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import eventbus
from eventbus import Bus, ClosedError, FullError, UnavailableError
from harness import Line, sealed, unsealed, until
from matrix.scene import (
    AT_ONCE,
    OWN_LOOK,
    ROOM,
    SHORT,
    SURVIVOR,
    VICTIM,
    Aim,
    Changes,
    Hold,
    Role,
    Scene,
    Survivors,
    asleep,
    join,
    sleep_and_tell,
    stay,
)

JOBS = 3  # events that make a subscriber or a member send
BATCH = 3  # events of one send_many
LAZY = 2  # subscribers that never receive
ENOUGH = 1000  # more events than any victim lives to send


def turns(line: Line, bus: Bus, role: Role) -> Iterator[None]:
    """The occasions to send: all the time, at each event heard, or at each job."""
    if role is Role.PUBLISHER:
        line.say("ready")
        for _ in range(ENOUGH):
            yield
    sub = join(bus) if role is Role.MEMBER else bus.subscribe("jobs.**", name="replier")
    line.say("ready")
    for _ in sub:
        yield


def send(line: Line, name: str, aim: Aim, role: Role, plan: Sending) -> None:
    """Sends event after event and says each before; its topic is in the table before the first, if not ``plan.new``."""
    bus = eventbus.open(name)
    if not plan.new:
        bus.send("known", "topic", "/warm", sealed(VICTIM, 0))
    number = 0
    for turn, _ in enumerate(turns(line, bus, role)):
        if turn == 0:
            line.hear()
            aim.take()
        for _ in range(ENOUGH if plan.full else 1):
            if plan.sleepers:
                until(lambda: asleep(bus, "sleeper"), "the sleeper to sleep")
            number += 1
            line.say(number)
            kind = f"topic{number}" if plan.new else "topic"
            bus.send("known", kind, "/victim", sealed(VICTIM, number), timeout=None)


def die_in_a_batch(_: Line, name: str) -> None:
    """Dies with the publish lock when its events are visible and not yet counted."""
    bus = eventbus.open(name)
    bus.send("known", "topic", "/warm", sealed(VICTIM, -1))
    Aim("publish_committed", signal.SIGKILL, 1).take()
    bus.send_many([("known", "topic", "/batch", sealed(VICTIM, -1)) for _ in range(BATCH)])


@dataclass(frozen=True)
class Sending:
    """A victim that sends, and what is heard of it.

    Attributes:
        hold: what it has at its point, besides the place that a subscriber or a member has anyway.
        sent: whether the last event that it began to send is heard.
        sleepers: somebody sleeps each time that it sends; ``unwoken``: and is not woken by the victim, nor by others.
        new: each event is the first one of its topic.
        lapped: the ring has gone round before.
        full: it sends for ever, and nobody receives.
        owner_dead: the last owner of the publish lock died in the middle.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    sent: bool = False
    sleepers: bool = False
    unwoken: bool = False
    new: bool = False
    lapped: bool = False
    full: bool = False
    owner_dead: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=scene.role is Role.MEMBER)
        if self.lapped:
            for _ in range(150):
                survivors.send()
                survivors.drain()
        sleeper = scene.start(sleep_and_tell)
        assert sleeper.hear() == "subscribed"
        victim = scene.victim(send, scene.role, self)
        assert victim.hear() == "ready"
        if scene.role is not Role.PUBLISHER:
            survivors.send_jobs(JOBS)
        if self.owner_dead:
            scene.start(die_in_a_batch).killed()
        victim.say("go")
        said: list[int] = []
        place = Hold.NOTHING if scene.role is Role.PUBLISHER else Hold.GATE

        def heard() -> list[int]:
            said.extend(victim.said())
            warm = [0] * (not self.new) + [-1] * (BATCH + 1) * self.owner_dead
            return warm + (said if self.sent else said[:-1])

        told: list[tuple[int, int]] = []

        def sleeper_tells() -> None:
            expected = [(VICTIM, number) for number in survivors.heard]
            while expected and expected[-1] not in told:
                told.append(sleeper.hear(OWN_LOOK))
                assert told[-1] in expected or told[-1][0] == SURVIVOR

        def meanwhile(pid: int) -> None:
            survivors.drain(jobs=False)
            assert survivors.heard == heard()
            if Hold.PUBLISH not in self.hold and not self.unwoken:
                survivors.send()
                sleeper_tells()  # before a lap, which the sleeper must not miss its events by
            survivors.meanwhile(self.hold | place, pid, lap=not self.unwoken)

        scene.strike(victim, meanwhile)
        survivors.drain(jobs=False)
        assert survivors.heard == heard()
        assert survivors.sequence == survivors.bus.stats().sent
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
            in_hand = 1 if self.full else len(said)
            assert sorted(survivors.jobs) == [(in_hand, 2)] + [(number, 1) for number in range(in_hand + 1, JOBS + 1)]
        if not self.unwoken:
            survivors.send()
        sleeper_tells()
        survivors.send()
        sleeper.kill()
        survivors.go_on()
        survivors.close()


# --- while another one has the lock ---


def stand_still(_: Line, name: str) -> None:
    """A publisher that stops with the publish lock, and sends when it may go on."""
    bus = eventbus.open(name)
    bus.send("known", "topic", "/warm", sealed(SURVIVOR, 0))
    Aim("publish_locked", signal.SIGSTOP, 1).take()
    bus.send("known", "topic", "/owner", sealed(SURVIVOR, 0))


@dataclass(frozen=True)
class Queueing:
    """A victim that waits for the publish lock, which a living process has."""

    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=scene.role is Role.MEMBER)
        victim = scene.victim(send, scene.role, Sending())
        assert victim.hear() == "ready"
        if scene.role is not Role.PUBLISHER:
            survivors.send_jobs(JOBS)
        owner = scene.start(stand_still)
        owner.wait_stopped()
        victim.say("go")
        place = Hold.NOTHING if scene.role is Role.PUBLISHER else Hold.GATE
        scene.strike(victim, lambda _: survivors.meanwhile(Hold.PUBLISH | place, owner.pid))
        owner.go_on()
        owner.result()
        survivors.drain(jobs=False)
        assert survivors.heard == [0]
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
        survivors.go_on()
        survivors.close()


# --- into a ring that is full of what the dead did not receive ---


@dataclass(frozen=True)
class Waiting:
    """A victim that waits for room in a ring that dead subscribers hold back.

    Attributes:
        hold: what it has at its point.
        freed: whether it has freed the dead ones' slots when it comes there for the second time.
        told: somebody waits for subscribers to come or go, whom it tells.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    freed: bool = False
    told: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=scene.role is Role.MEMBER)
        lazy = [scene.start(stay) for _ in range(LAZY)]
        for child in lazy:
            assert child.hear() == "subscribed"  # all of them before the first dies, or the next takes its slot
        victim = scene.victim(send, scene.role, Sending(full=True))
        assert victim.hear() == "ready"
        changes = Changes(scene, survivors) if self.told else None
        if scene.role is not Role.PUBLISHER:
            survivors.send_jobs(JOBS)
        for child in lazy:
            child.kill()
        victim.say("go")
        said: list[int] = []

        def heard() -> list[int]:
            said.extend(victim.said())
            return [0, *said[:-1]]

        def meanwhile(pid: int) -> None:
            survivors.drain(jobs=False)
            assert survivors.heard == heard()
            if not self.freed and Hold.ROSTER in self.hold:  # it has the lock that freeing them takes
                with pytest.raises(FullError):
                    survivors.send(timeout=2 * SHORT)
            if self.freed:
                place = Hold.NOTHING if scene.role is Role.PUBLISHER else Hold.GATE
                survivors.meanwhile(self.hold | place, pid)

        scene.strike(victim, meanwhile)
        survivors.drain(jobs=False)
        assert survivors.heard == heard()
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
        survivors.send(timeout=ROOM)
        survivors.go_on()
        if changes is not None:
            changes.check()
        survivors.close()


# --- the end of the bus for all ---


def shut_down(line: Line, name: str, aim: Aim) -> None:
    """Shuts the bus down."""
    bus = eventbus.open(name)
    line.say("open")
    line.hear()
    aim.take()
    bus.shutdown()


def await_the_end(_: Line, name: str) -> None:
    """Waits for more subscribers than will ever come, until the bus is closed; stops once it is about to sleep."""
    bus = eventbus.open(name)
    Aim("event_flagged", signal.SIGSTOP, 1).take()
    with pytest.raises(ClosedError):
        bus.wait_for_subscribers(99)


@dataclass(frozen=True)
class Closing:
    """A victim that shuts the bus down.

    Attributes:
        hold: what it has at its point.
        closed: whether the bus is closed there.
        owner_dead: as in ``Sending``.
        told: it tells whoever waits for subscribers, whom nobody else may tell first.
        again: never.
    """

    hold: Hold = Hold.NOTHING
    closed: bool = True
    owner_dead: bool = False
    told: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        number = survivors.send()
        sleeper = scene.start(sleep_and_tell)
        assert sleeper.hear() == "subscribed"
        waiter = scene.start(await_the_end)
        waiter.wait_stopped()
        waiter.go_on()
        victim = scene.victim(shut_down)
        assert victim.hear() == "open"
        if self.owner_dead:
            scene.start(die_in_a_batch).killed()
            assert [sleeper.hear(OWN_LOOK) for _ in range(BATCH + 1)] == [(VICTIM, -1)] * (BATCH + 1)
        until(lambda: asleep(survivors.bus, "sleeper"), "the sleeper to sleep")
        if self.told:
            sleeper.stop()
        victim.say("now")

        def meanwhile(pid: int) -> None:
            if not self.closed:
                survivors.meanwhile(self.hold, pid)
                return
            with pytest.raises(UnavailableError if Hold.PUBLISH in self.hold else ClosedError):
                survivors.send(timeout=SHORT)

        scene.strike(victim, meanwhile)
        sleeper.go_on()
        if not self.closed:
            survivors.drain()
            survivors.send()
            assert sleeper.hear(OWN_LOOK)[0] == SURVIVOR
            sleeper.kill()
            survivors.go_on()
            survivors.bus.shutdown()
            waiter.result(AT_ONCE)
        else:
            assert unsealed(survivors.blocking.receive(AT_ONCE)) == (SURVIVOR, number)
            assert survivors.blocking.receive(AT_ONCE) is None
            assert survivors.blocking.closed
            with pytest.raises(ClosedError):
                survivors.send()
            sleeper.result(OWN_LOOK)
            waiter.result(OWN_LOOK)
        survivors.close()
