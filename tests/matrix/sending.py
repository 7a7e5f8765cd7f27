"""Victims that send: a publisher, a subscriber that answers, a member that sends what came of its job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import eventbus
from eventbus import Bus, ClosedError, UnavailableError
from harness import Line, sealed, unsealed, until
from matrix.parking import Holder
from matrix.scene import (
    AT_ONCE,
    OWN_LOOK,
    READY,
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
    await_go,
    doze_and_tell,
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
        line.say(READY)
        for _ in range(ENOUGH):
            yield
    sub = join(bus) if role is Role.MEMBER else bus.subscribe("jobs.**", name="replier")
    line.say(READY)
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
            event = "known", kind, "/victim", sealed(VICTIM, number)
            if plan.later:
                bus.send_later(*event, delay=0)
            elif plan.noted:
                bus._bring("far", [event], ("stream", b"%d" % number), timeout=None)
            else:
                bus.send(*event, timeout=None)


def place(role: Role) -> Hold:
    """The place that a subscriber has at any point, which holds publishers back; what a member has in hand does not."""
    return Hold.GATE if role is Role.SUBSCRIBER else Hold.NOTHING


class Sender:
    """A victim that is about to send; there are jobs for one that only answers.

    Attributes:
        process: the victim.
        said: the numbers that it began to send, as far as it has been looked at.
    """

    def __init__(self, scene: Scene, survivors: Survivors, plan: Sending) -> None:
        self.process = scene.victim(send, scene.role, plan)
        self.said: list[int] = []
        self._survivors = survivors
        self._plan = plan
        if scene.role is not Role.PUBLISHER:
            survivors.send_jobs(JOBS)

    def check_heard(self, dead: bool = False) -> None:
        """Of one that stands still or is dead: the survivors hear what the plan says of all that it began to send."""
        self.said.extend(self.process.said())
        self._survivors.drain(jobs=False)
        warm = [0] * (not self._plan.new) + [-1] * (BATCH + 1) * self._plan.owner_dead
        sent = self._plan.sent or (dead and self._plan.kept)
        assert self._survivors.heard == warm + (self.said if sent else self.said[:-1])

    def check_note(self) -> None:
        """Of one that is dead: what it noted last is of the last event that is heard."""
        heard = self.said if self._plan.sent else self.said[:-1]
        assert self._survivors.bus._noted("stream") == (b"%d" % heard[-1] if heard else None)


def stand_by(line: Line, name: str) -> list[tuple[int, int]]:
    """A subscriber, and a group without members, that hear nothing until they may go on; what they hear then."""
    with eventbus.open(name) as bus, bus.subscribe("quiet") as sub:
        bus.group("quiet", "quiet")
        await_go(line)
        with bus.subscribe("quiet", group="quiet") as member:
            return [unsealed(one.receive(AT_ONCE)) for one in (sub, member)]


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
        hold: what it has at its point, besides the place that a subscriber has anyway.
        sent: whether the last event that it began to send is heard.
        sleepers: somebody sleeps each time that it sends; ``unwoken``: and is not woken by the victim, nor by others;
            ``dozing``: in an event loop.
        new: each event is the first one of its topic.
        lapped: the ring has gone round before.
        full: it sends for ever, and nobody receives.
        bystanders: others hear nothing of what passes.
        owner_dead: the last owner of the publish lock died in the middle.
        noted: it notes with each event how far it has come, as a bridge does.
        later: it puts each event down to be sent later, which is at once; ``kept``: and others send the last one.
        parked: a member has events in hand for long; ``orphaned``: and dies after it.
        again: whether it comes to its point more than once.
    """

    hold: Hold = Hold.NOTHING
    sent: bool = False
    noted: bool = False
    later: bool = False
    kept: bool = False
    sleepers: bool = False
    unwoken: bool = False
    dozing: bool = False
    new: bool = False
    lapped: bool = False
    full: bool = False
    bystanders: bool = False
    owner_dead: bool = False
    parked: bool = False
    orphaned: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        quiet = scene.ready(stand_by) if self.bystanders else None
        if self.lapped:
            for _ in range(150):
                survivors.send()
                survivors.drain()
        sleeper = scene.ready(doze_and_tell if self.dozing else sleep_and_tell)
        holder = Holder(scene, survivors) if self.parked else None
        victim = Sender(scene, survivors, self)
        if self.owner_dead:
            scene.start(die_in_a_batch).killed()
        victim.process.say("go")
        told: list[tuple[int, int]] = []

        def sleeper_tells() -> None:
            expected = [(VICTIM, number) for number in survivors.heard]
            while expected and expected[-1] not in told:
                told.append(sleeper.hear(OWN_LOOK))
                assert told[-1] in expected or told[-1][0] == SURVIVOR

        def meanwhile(pid: int) -> None:
            victim.check_heard()
            if Hold.PUBLISH not in self.hold and not self.unwoken:
                survivors.send()
                sleeper_tells()  # before a lap, which the sleeper must not miss its events by
            survivors.meanwhile(self.hold | place(scene.role), pid, lap=not self.unwoken)

        scene.strike(victim.process, meanwhile)
        victim.check_heard(dead=True)
        if self.noted:
            victim.check_note()
        assert survivors.sequence == survivors.bus.stats().sent
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
            in_hand = 1 if self.full else len(victim.said)
            assert sorted(survivors.jobs) == [(in_hand, 2)] + [(number, 1) for number in range(in_hand + 1, JOBS + 1)]
        if not self.unwoken:
            survivors.send(timeout=0.0 if self.parked else ROOM)
        sleeper_tells()
        survivors.send()
        sleeper.kill()
        if holder is not None:
            holder.check(self.orphaned)
        if quiet is not None:
            number = survivors.send("quiet")
            quiet.say("go")
            assert quiet.result() == [(SURVIVOR, number)] * 2
        survivors.end()


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
        survivors = scene.survivors()
        victim = Sender(scene, survivors, Sending()).process
        owner = scene.start(stand_still)
        owner.wait_stopped()
        victim.say("go")
        scene.strike(victim, lambda _: survivors.meanwhile(Hold.PUBLISH | place(scene.role), owner.pid))
        owner.go_on()
        owner.result()
        survivors.drain(jobs=False)
        assert survivors.heard == [0]
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
        survivors.end()


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
        survivors = scene.survivors()
        lazy = [scene.ready(stay) for _ in range(LAZY)]  # all before the first dies, or the next takes its slot
        victim = Sender(scene, survivors, Sending(full=True))
        if self.told:
            survivors.changes = Changes(scene, survivors.bus)
        for child in lazy:
            child.kill()
        victim.process.say("go")

        def meanwhile(pid: int) -> None:
            victim.check_heard()
            if not self.freed and Hold.ROSTER in self.hold:  # it has the lock that freeing them takes
                assert survivors.fill(self.hold) is not None
            if self.freed:
                survivors.meanwhile(self.hold | place(scene.role), pid)

        scene.strike(victim.process, meanwhile)
        victim.check_heard()
        if scene.role is Role.MEMBER:
            survivors.finish_jobs()
        survivors.send(timeout=ROOM)
        survivors.end()


# --- the end of the bus for all ---


def shut_down(line: Line, name: str, aim: Aim) -> None:
    """Shuts the bus down."""
    bus = eventbus.open(name)
    await_go(line)
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
        dozing: as in ``Sending``.
        again: never.
    """

    hold: Hold = Hold.NOTHING
    dozing: bool = False
    closed: bool = True
    owner_dead: bool = False
    told: bool = False
    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name)
        number = survivors.send()
        sleeper = scene.ready(doze_and_tell if self.dozing else sleep_and_tell)
        waiter = scene.start(await_the_end)
        waiter.wait_stopped()
        waiter.go_on()
        victim = scene.victim(shut_down)
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
        survivors.bus.close()
