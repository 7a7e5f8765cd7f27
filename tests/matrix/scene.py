"""One cell of the matrix at work: the victim, its death, and the survivors with the bounds that they are held to."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import eventbus
from eventbus import FullError, UnavailableError
from eventbus.core import native
from eventbus.core.attachment import Claim
from eventbus.member import Member
from harness import DEADLINE, Child, Job, Line, arm, sealed, unsealed, until
from loops import bells_of
from matrix import moments

CAPACITY = 8 * 1024
LAP = 100  # events, which are more than the ring holds
SLOTS = 16
SURVIVOR, VICTIM = 0, 1  # publishers, as the sealed data name them
SHORT = 0.05  # seconds that a survivor is given where it can only be refused
READY = "ready"  # what a process says once it is where the test wants it

# How long a survivor may be held up at most, in seconds: what the protocol takes, and what a loaded machine adds.
SLACK = 20.0
AT_ONCE = SLACK  # a lock of a dead owner is taken over by the next who wants it
ROOM = 0.025 + SLACK  # EB_SPACE_SLICE_NS: how long a publisher waits for room before it looks who is dead
REDELIVERY = 0.02 + SLACK  # WATCH_NS: how often an idle member looks whether those who hold events are alive
OWN_LOOK = 4.0 + SLACK  # EB_SLICE_NS: how long anybody sleeps before looking without having been woken


class Role(enum.Enum):
    """What a process is doing when it dies."""

    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"
    MEMBER = "member"
    OPENER = "opener"
    CLOSER = "closer"


class Way(enum.Enum):
    """How it dies: killed there; or stopped there, while the others work, and then killed."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP, SIGKILL"


class Hold(enum.Flag):
    """What a victim has at its point: for as long as it is stopped there, just this is refused to the others."""

    NOTHING = 0
    PUBLISH = enum.auto()  # the publish lock
    ROSTER = enum.auto()  # the roster's lock
    GROUP = enum.auto()  # the group's lock
    DOOR = enum.auto()  # the only opener or leaver
    GATE = enum.auto()  # a place that may hold publishers back: with what it or its group has to take


def await_go(line: Line) -> None:
    """Says that this process is ready, and waits until it may go on."""
    line.say(READY)
    line.hear()


class Aim(NamedTuple):
    """Where the victim dies."""

    point: str
    signal: int
    passes: int

    def take(self) -> None:
        """From now on this process gets the signal at the point."""
        (moments.arm if self.point in moments.MOMENTS else arm)(*self)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Whoever opens, leaves or subscribes waits no longer for a lock, in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(native, "LOCK_SECONDS", seconds)
        yield


class Scene:
    """A bus of its own, the processes on it, and one of them that dies at the point."""

    def __init__(self, name: str, point: str, role: Role, way: Way, passes: int) -> None:
        self.name = name
        self.point = point
        self.role = role
        self.way = way
        self.passes = passes
        self.aim = Aim(point, signal.SIGKILL if way is Way.KILL else signal.SIGSTOP, passes)
        self.children: list[Child] = []

    def start(self, job: Job, *arguments: object) -> Child:
        """A process on the bus: ``job(line, name, *arguments)``."""
        self.children.append(Child(job, self.name, *arguments))
        return self.children[-1]

    def ready(self, job: Job, *arguments: object) -> Child:
        """A process beside the victim, once it has said that it is ready."""
        child = self.start(job, *arguments)
        assert child.hear() == READY
        return child

    def victim(self, job: Job, *arguments: object) -> Child:
        """The victim, once it is ready: ``job(line, name, aim, *arguments)``."""
        return self.ready(job, self.aim, *arguments)

    def survivors(self) -> Survivors:
        """Those who see it die, with a member of the group among them if the victim is to be one."""
        return Survivors(self.name, group=self.role is Role.MEMBER)

    def struck(self, victim: Child) -> bool:
        """Whether it has come to its point; whatever else ends it is found out by ``strike``."""
        return not victim.running() or (self.way is Way.STOP and victim.stands_still())

    def listen(self, victim: Child, heard: list[tuple[int, int]], count: int) -> None:
        """Waits until the victim is at its point, or has told ``count`` events in all."""

        def received() -> bool:
            heard.extend(victim.said())
            return len(heard) >= count

        until(lambda: self.struck(victim) or received(), f"event {count} to be received")

    def strike(self, victim: Child, meanwhile: Callable[[int], object]) -> None:
        """Waits until the victim is at its point and sees it die; ``meanwhile(pid)`` runs while it is stopped."""
        until(lambda: self.struck(victim), f"the victim to come to {self.point}")
        if self.way is Way.STOP and victim.running():
            meanwhile(victim.pid)
            victim.kill()
        victim.killed()

    def release(self) -> None:
        """Ends whoever still runs."""
        for child in self.children:
            child.release()


class Survivors:
    """Subscribers, a publisher and, on demand, a member in the cell's own process; what they hear of the victim.

    Attributes:
        changes: who, if anybody, waits for subscribers to come.
        heard: the numbers of the victim's events.
        jobs: the numbers and deliveries of the jobs done.
        lap: events, which are more than the ring holds.
    """

    def __init__(self, name: str, *, group: bool = False, rings: int = 1, view: bool = False, **options: Any) -> None:
        self.bus = eventbus.open(name, capacity=rings * CAPACITY, max_subscribers=SLOTS, **options)
        self.lap = rings * LAP
        self.member: Member | None = join(self.bus, view=view) if group else None
        self.blocking = self.bus.subscribe("**", name="blocking", view=view)
        self.dropping = self.bus.subscribe("**", name="dropping", overflow="drop")
        self.first = self.sequence = self.bus.stats().sent
        self.kept = self.sent = 0
        self.heard: list[int] = []
        self.jobs: list[tuple[int, int]] = []
        self.changes: Changes | None = None

    def send(self, system: str = "still", timeout: float = ROOM) -> int:
        """Sends the next event; its number."""
        number = self.sent
        self.bus.send(system, "here", "/survivor", sealed(SURVIVOR, number), timeout=timeout)
        self.sent += 1
        return number

    def send_jobs(self, count: int, first: int = 1) -> None:
        """Sends jobs for the group, numbered from ``first``."""
        rows = [("jobs", "job", "/job", sealed(SURVIVOR, number)) for number in range(first, first + count)]
        self.bus.send_many(rows, timeout=ROOM)

    def drain(self, jobs: bool = True) -> None:
        """Receives all there is: whole, and where it blocks without a gap."""
        while events := self.blocking.receive_many(1 << 20, timeout=0):
            for event in events:
                publisher, number = self.opened(event)
                self.sequence += 1
                assert event.sequence == self.sequence
                if publisher == VICTIM:
                    self.heard.append(number)
        for event in self.dropping.receive_many(1 << 20, timeout=0):
            self.opened(event)
            self.kept += 1
        while jobs and self.work(0):
            pass

    def opened(self, event: eventbus.Event) -> tuple[int, int]:
        """Publisher and number of an event, which must be whole."""
        return unsealed(event)

    def work(self, timeout: float) -> bool:
        """Does one job, if one comes in time."""
        event = None if self.member is None else self.member.receive(timeout)
        if event is not None:
            self.jobs.append(job_of(event))
        return event is not None

    def finish_jobs(self) -> None:
        """Works until nobody holds a job and none is left, which must be soon."""
        until(lambda: not self.work(0) and idle(self.bus), "the group to be idle", REDELIVERY)

    def fill(self, hold: Hold) -> FullError | None:
        """Sends more than a ring, receiving along; the error, if somebody else does not let it go on."""
        for _ in range(self.lap):
            try:
                self.send(timeout=SHORT)
            except FullError as error:
                return error
            self.drain(jobs=Hold.GROUP not in hold)
        return None

    def meanwhile(self, hold: Hold, pid: int, *, lap: bool = True) -> None:
        """While the victim stands still: what it has is refused, within the time given; all else goes on."""
        self.drain(jobs=Hold.GROUP not in hold)
        if Hold.GROUP in hold:
            assert self._is_refused_work(pid)
        with patience(SHORT):
            for refused, call in ((Hold.ROSTER, self._subscribe), (Hold.DOOR, self._open)):
                with pytest.raises(UnavailableError) if refused in hold else contextlib.nullcontext():
                    call()
        if Hold.PUBLISH in hold:
            with pytest.raises(UnavailableError, match="keeps the publish lock"):
                self.send(timeout=SHORT)
        if Hold.PUBLISH in hold or not lap:
            return
        full = self.fill(hold)
        assert full is None or Hold.GATE in hold, f"{hold}: {full}"
        if full is not None and "pids" in full.details:
            assert full.details["pids"] == [] or pid in full.details["pids"]
        elif full is not None and "pid" in full.details:
            assert full.details["pid"] == pid

    def _is_refused_work(self, pid: int) -> bool:
        """Nothing comes; on a machine so busy that a second passes meanwhile, it is told who keeps the group's lock."""
        try:
            return not self.work(SHORT)
        except UnavailableError as error:
            return bool(error.details["pid"] == pid)

    def _subscribe(self) -> None:
        self.bus.subscribe("**").close()

    def _open(self) -> None:
        eventbus.open(self.bus.name).close()

    def go_on(self) -> None:
        """The bus does all it did before the death: takes part, sends, is heard and counted, in more than one lap."""
        if self.member is not None:
            self.finish_jobs()  # what the dead have in hand may be all that keeps the ring full
        begun = time.monotonic()
        self.send(timeout=DEADLINE)
        assert time.monotonic() - begun < ROOM, "a dead process held a publisher up"
        self.drain()
        with eventbus.open(self.bus.name) as newcomer, newcomer.subscribe("**") as late:
            for _ in range(self.lap):
                number = self.send()
                assert unsealed(late.receive(AT_ONCE)) == (SURVIVOR, number)
                self.drain()
            stats = newcomer.stats()
        assert sum(stats.topics.values()) + stats.untabled == stats.sent == self.sequence
        assert self.kept + self.dropping.lost == self.sequence - self.first
        members = set() if self.member is None else {self.member.name}
        assert {one.name for one in stats.subscribers} == {"blocking", "dropping", late.name} | members
        if self.member is not None:
            self.finish_jobs()
            done = len(self.jobs)
            for number in range(1001, 1004):
                send_job(self.bus, number)
                assert self.work(AT_ONCE)
            assert self.jobs[done:] == [(number, 1) for number in range(1001, 1004)]

    def end(self) -> None:
        """The bus goes on, whoever waits for subscribers hears of them, and the last one leaves."""
        self.go_on()
        if self.changes is not None:
            self.changes.check()
        identity = self.bus.identity
        self.bus.close()
        left = bells_of(identity)
        assert not left, f"doorbells are left: {left}"


def check_door(name: str, hold: Hold) -> None:
    """Nobody else opens the bus while the victim has the door; otherwise a newcomer sends and hears itself."""
    if Hold.DOOR in hold:
        with patience(SHORT), pytest.raises(UnavailableError):
            eventbus.open(name)
        return
    with eventbus.open(name) as bus, bus.subscribe("**") as sub:
        bus.send("still", "here", "/meanwhile", sealed(SURVIVOR, 0))
        assert unsealed(sub.receive(AT_ONCE)) == (SURVIVOR, 0)


def join(bus: eventbus.Bus, prefetch: int = 1, **options: Any) -> Member:
    """A member of the group ``g``, which hears ``jobs.**``."""
    member = bus.subscribe("jobs.**", group="g", prefetch=prefetch, **options)
    assert isinstance(member, Member)
    return member


def send_job(bus: eventbus.Bus, number: int) -> None:
    """Sends a job for the group, which must have room."""
    assert bus.send("jobs", "job", "/job", sealed(SURVIVOR, number), timeout=ROOM)


def job_of(event: eventbus.Event) -> tuple[int, int]:
    """Number and deliveries of a job, which must be whole."""
    return unsealed(event)[1], event.deliveries


def idle(bus: eventbus.Bus) -> bool:
    """Whether the group has nothing to do and nobody holds anything of it."""
    group = next(group for group in bus.stats().groups if group.name == "g")
    return not group.backlog and not group.returned and not any(member.events for member in group.members)


def claims_of(bus: eventbus.Bus, name: str) -> tuple[Claim, ...]:
    """What members of the group have in hand or gave back."""
    return next(group.claims for group in bus._open_handle().groups() if group.name == name)


def asleep(bus: eventbus.Bus, *names: str) -> bool:
    """Whether all subscriptions of these names sleep."""
    return {*names} <= {one.name for one in bus.stats().subscribers if one.sleeping}


def sleep_and_tell(line: Line, name: str) -> None:
    """A subscriber in a process of its own that holds nobody up: tells each event that it hears."""
    with eventbus.open(name) as bus, bus.subscribe("**", name="sleeper", overflow="drop", spin=0) as sub:
        line.say(READY)
        for event in sub:
            line.say(unsealed(event))


def doze_and_tell(line: Line, name: str) -> None:
    """The same in an event loop."""
    with eventbus.open(name) as bus, bus.subscribe("**", name="sleeper", overflow="drop", spin=0) as sub:
        line.say(READY)
        asyncio.run(tell_each(line, sub, unsealed))


async def tell_each(line: Line, sub: eventbus.Subscription, told: Callable[[eventbus.Event], object]) -> None:
    """Tells of each event until the end."""
    async for event in sub:
        line.say(told(event))


def stay(line: Line, name: str) -> None:
    """A subscriber that never receives."""
    with eventbus.open(name).subscribe("**"):
        await_go(line)


def await_changes(_: Line, name: str, count: int) -> bool:
    """Waits until there are so many subscribers; stops once it is about to sleep."""
    with eventbus.open(name) as bus:
        Aim("event_flagged", signal.SIGSTOP, 1).take()
        return bus.wait_for_subscribers(count)


class Changes:
    """Somebody who waits for subscribers to come, and whom the victim tells at its point that something changed."""

    def __init__(self, scene: Scene, bus: eventbus.Bus) -> None:
        self._bus = bus
        self._waiter = scene.start(await_changes, SLOTS - 2)
        self._waiter.wait_stopped()
        self._waiter.go_on()

    def check(self) -> None:
        """It sees enough of them come, though the last to tell it died."""
        coming = []  # kept: a subscription that nobody has any more goes when Python collects it
        while len(self._bus.stats().subscribers) < SLOTS - 2:
            coming.append(self._bus.subscribe("**", overflow="drop"))
        assert self._waiter.result(OWN_LOOK) is True
        for one in coming:
            one.close()
