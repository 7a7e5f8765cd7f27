"""What every actor stands on, and the publishers."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import mmap
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn, Protocol

import eventbus
from eventbus import Bus, ClosedError, FullError, InvalidError, PolicyDeniedError, UnavailableError
from soak.arming import arm
from soak.forks import MANNERS, fall_off, start_helper
from soak.insisting import insist
from soak.ledger import Kind, Ledger, Why, entry
from soak.message import DENIED, Message, message
from soak.plan import Round
from soak.roles import (
    SESSIONS,
    Actor,
    Group,
    Offspring,
    Publisher,
)

PUBLISH, FINISH, DRAIN, LEAVE = range(4)  # the phases of a round
PATIENCE = 30.0  # seconds in which any stop is over and any living subscriber has gone on
LIFETIME = 240  # seconds after which an actor ends itself, should nobody be left to do it
HELPING = 1.5  # seconds that a helper lives at most
HELPERS = "helpers"  # the file that says who has forked which of them
_IDENTITY_AT = 24  # the random identity in a roster's signature

_POLICY = {"default": "allow", "rule": [{"effect": "deny", "actions": ["*"], "resources": [DENIED]}]}


class Stage:
    """Where a round is played: its plan, its bus's name, its directory, and the phase that all can see."""

    def __init__(self, plan: Round, name: str, directory: Path) -> None:
        self.plan = plan
        self.name = name
        self.directory = directory
        with (directory / "phase").open("a+b") as file:
            file.truncate(2)
            self._phase = mmap.mmap(file.fileno(), 2)

    @property
    def phase(self) -> int:
        """PUBLISH, FINISH (publishers end), DRAIN (all publishers have ended) or LEAVE (all but the finisher have)."""
        return self._phase[0]

    def enter(self, phase: int) -> None:
        """The next phase, for all."""
        self._phase[0] = phase

    @property
    def bell(self) -> int:
        """How often it has rung, as far as a byte can say."""
        return self._phase[1]

    def ring(self) -> None:
        """There is something for who stands still; if two ring at once, it may count as once."""
        self._phase[1] = (self._phase[1] + 1) % 256


class Part:
    """One actor at work."""

    def __init__(self, stage: Stage, actor: Actor, inherited: Bus | None = None) -> None:
        self.stage = stage
        self.plan = stage.plan
        self.actor = actor
        self.dice, self.helping = random.Random(actor.seed), random.Random(actor.seed + 1)
        self.ledger = Ledger(stage.directory, actor.number)
        self._inherited = inherited
        self.kept: Bus | None = None  # what is not closed before the process ends

    @property
    def phase(self) -> int:
        """Of the round."""
        return self.stage.phase

    def open(self, role: Literal["member", "subscriber"] = "member") -> Bus:
        """The round's bus: at first the one that was inherited, if any."""
        bus = self.attach(role)
        self.ledger.write(entry(Kind.OPENED, c=identity(bus)))
        return bus

    def attach(self, role: Literal["member", "subscriber"] = "member") -> Bus:
        """The same, and nothing is written of it."""
        inherited, self._inherited = self._inherited, None
        if inherited is not None:
            return inherited
        while True:
            try:
                return eventbus.open(
                    self.stage.name,
                    capacity=self.plan.traffic.capacity,
                    max_subscribers=self.plan.max_subscribers,
                    persist=self.plan.persist,
                    role=role,
                    policy=_POLICY if self.plan.traffic.policy else None,
                    actor="soak",
                )
            except OSError as error:
                if error.errno != errno.ENOSPC or not self.plan.small:
                    raise
                self.ledger.write(entry(Kind.REFUSED))
                time.sleep(0.02)

    def close(self, bus: Bus) -> None:
        """Leaves the bus."""
        if bus.attached:
            self.ledger.write(entry(Kind.LEAVING, c=identity(bus)))
        bus.close()

    def help(self) -> None:
        """Forks a helper in C."""
        pid = start_helper(self.helping.choice(MANNERS), self.helping.uniform(0, HELPING))
        self.ledger.write(entry(Kind.HELPED, a=pid))
        with (self.stage.directory / HELPERS).open("a") as file:
            file.write(f"{self.actor.number} {pid}\n")

    def make_group(self, bus: Bus, group: Group) -> None:
        """Makes the group, or finds it made."""
        self.ledger.write(entry(Kind.GROUPING, group.number, bus.stats().sent, c=identity(bus)))
        bus.group(group.name, group.system, group.kind, start=group.start, max_deliveries=group.max_deliveries)
        self.ledger.write(entry(Kind.GROUPED, group.number, bus.stats().sent, c=identity(bus)))


def identity(bus: Bus) -> int:
    """What tells one bus from the next of the same name."""
    handle = bus._handle
    assert handle is not None, "the bus is closed"
    return int.from_bytes(os.pread(handle.roster_fd, 8, _IDENTITY_AT), "little", signed=True)


def descriptors() -> int:
    """How many are open in this process."""
    return len(os.listdir("/proc/self/fd"))


def held(name: str) -> list[str]:
    """The descriptors of this process that are of a bus of this name."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [one for one in found if f"/eventbus.{name}." in one]


def speak_into(log: Path) -> None:
    """What this process and its faults say goes there, where it stands too when SIGUSR1 asks. No Ctrl-C ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    faulthandler.enable(2)
    faulthandler.register(signal.SIGUSR1, 2)


def live(stage: Stage, actor: Actor, work: Callable[[Part], None], inherited: Bus | None = None) -> NoReturn:
    """The life of an actor's process; its last entry says that it ended by itself, but for what may follow."""
    try:
        signal.alarm(LIFETIME)
        speak_into(stage.directory / f"{actor.number}.log")
        part = Part(stage, actor, inherited)
        signal.signal(signal.SIGUSR2, lambda *_: part.help())
        part.ledger.write(entry(Kind.START, a=os.getpid()))
        arm(part)
        try:
            work(part)
        except BaseException:
            part.ledger.fault(f"actor {actor}: {traceback.format_exc()}")
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        ending = actor.ending if isinstance(actor, Offspring) else "close"
        if ending == "close" and (kept := held(stage.name)):
            part.ledger.fault(f"actor {actor} has closed all it had, and has the descriptors {kept}")
        part.ledger.write(entry(Kind.END))
        if ending == "fall":
            fall_off()
    finally:
        os._exit(0)


# --- publishers ---


class Shared:
    """The bus that a publisher's threads share; one of them leaves it now and then, under the others' hands."""

    def __init__(self, part: Part) -> None:
        self._part = part
        bus = part.open()
        self._now = bus, identity(bus)

    def now(self) -> tuple[Bus, int]:
        """The bus, and which one it is."""
        return self._now

    def reopen(self) -> None:
        """Leaves the bus and comes back."""
        self.close()
        bus = self._part.open()
        self._now = bus, identity(bus)

    def close(self) -> None:
        """Leaves the bus."""
        self._part.close(self._now[0])


def publish(part: Part) -> None:
    """A publisher: its threads send until the phase ends."""
    actor = part.actor
    assert isinstance(actor, Publisher)
    shared = Shared(part)
    send_by_threads(part, actor, shared, Sending(part, actor, shared, 0).run)


def send_by_threads(part: Part, actor: Publisher, shared: Shared, work_first: Callable[[], None]) -> None:
    """All threads but the first send until the phase ends, beside what the first does; then the bus is left."""
    failures: list[str] = []

    def work(thread: int) -> None:
        try:
            Sending(part, actor, shared, thread).run() if thread else work_first()
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, actor.threads)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    shared.close()
    for failure in failures:
        part.ledger.fault(f"actor {actor}: {failure}")


class HasBus(Protocol):
    """Where a thread that sends finds the bus."""

    def now(self) -> tuple[Bus, int]:
        """The bus, and which one it is."""


class Sending:
    """One thread that sends."""

    def __init__(self, part: Part, actor: Publisher, shared: HasBus, thread: int) -> None:
        self._part = part
        self._actor = actor
        self._shared = shared
        self._thread = thread
        self._publisher = actor.number * SESSIONS + thread
        self._dice = random.Random(actor.seed * 31 + thread)
        self.next = 1  # its number

    def run(self) -> None:
        """Sends until the phase ends."""
        sends, actor = 0, self._actor
        while self._part.phase == PUBLISH:
            self.send()
            sends += 1
            if actor.reopen and self._thread == 0 and sends % actor.reopen == 0 and isinstance(self._shared, Shared):
                self._shared.reopen()
            if actor.pause:
                time.sleep(self._dice.random() * 2 * actor.pause)

    def send(self) -> None:
        """One send, of the events that come next."""
        events = self._collect(first := self.next)
        last = first + len(events) - 1
        self.next = last + 1
        bus, which = self._shared.now()
        write = self._part.ledger.write
        write(entry(Kind.WILL, self._publisher, first, last, which, flag=len(events) > 1))
        why = self._attempt(bus, which, events)
        if why is None:
            write(entry(Kind.SENT, self._publisher, first, last, which))
        else:
            write(entry(Kind.NOT_SENT, self._publisher, first, last, which, flag=why))

    def _collect(self, first: int) -> list[Message]:
        """What is sent together: together it fits, and what must be refused mostly comes alone."""
        traffic, room = self._part.plan.traffic, self._part.plan.traffic.capacity // 2
        events: list[Message] = []
        for number in range(first, first + self._dice.randint(1, self._actor.batch)):
            one = message(traffic, self._publisher, number)
            room -= one.bytes
            if events and (room < 0 or (self._bad(one) and self._dice.random() < 0.9)):
                break
            events.append(one)
        return events

    def _bad(self, one: Message) -> bool:
        return one.over or (self._part.plan.traffic.policy and one.system == DENIED)

    def _attempt(self, bus: Bus, which: int, events: list[Message]) -> Why | None:
        """Sends; why not, if the plan allows that, else it is a fault."""
        patient = self._actor.patient and sum(one.bytes for one in events) < self._part.plan.traffic.capacity // 32
        timeout = self._dice.choice((PATIENCE, None) if patient else (0, 0, 0.02, 0.3))
        alone = len(events) == 1 and self._dice.random() < 0.9
        try:
            self._send(bus, events, alone, timeout)
        except PolicyDeniedError:
            return self._expected(Why.DENIED, self._part.plan.traffic.policy and DENIED in {one[0] for one in events})
        except InvalidError:
            return self._expected(Why.LARGE, any(one.over for one in events))
        except FullError as error:
            blame(self._part, self._publisher, which, error)
            size = sum(one.bytes for one in events)
            if not insist(self._part.ledger, bus, error, size, lambda: self._send(bus, events, alone, 0)):
                return self._expected(Why.FULL, not patient)
        except UnavailableError:
            return self._expected(Why.BUSY, not patient)
        except ClosedError:
            reopens = self._actor.threads > 1 and self._actor.reopen > 0
            return self._expected(Why.CLOSED, reopens or self._part.phase >= DRAIN)
        if any(map(self._bad, events)):
            raise AssertionError(f"what must be refused was sent: {[one[:3] for one in events if self._bad(one)]}")
        return None

    def _send(self, bus: Bus, events: list[Message], alone: bool, timeout: float | None) -> None:
        if alone:
            bus.send(*events[0][:4], timeout=timeout, headers=events[0].headers or None)
        elif bus.send_many([one[: 5 if one.headers else 4] for one in events], timeout=timeout) != len(events):
            raise AssertionError("send_many told another number")

    def _expected(self, why: Why, expected: bool) -> Why:
        if not expected:
            self._part.ledger.fault(f"publisher {self._publisher}: {why.name} unexpectedly: {traceback.format_exc()}")
        return why


def blame(part: Part, publisher: int, which: int, error: FullError) -> None:
    """Writes down whom the error names: a subscription or a group, by the names that the soak gave them."""
    name, group = error.details.get("name") or "", error.details.get("group") or ""
    subscription = int(name) if name.isdigit() and not group else 0
    number = int(group[1:]) if group else 0
    backlog = error.details.get("backlog") or 0
    part.ledger.write(entry(Kind.BLAMED, publisher, subscription, backlog, which, other=number))


@contextlib.contextmanager
def left(part: Part, bus: Bus) -> Iterator[Bus]:
    """Closes the bus whatever comes; ``Bus`` as a context manager would give back what is in hand after an error."""
    try:
        yield bus
    finally:
        part.close(bus)
