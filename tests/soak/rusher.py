"""One process of the rush: it opens, sends, receives, forks and closes, whatever interrupts it, as its dice say."""

from __future__ import annotations

import contextlib
import functools
import gc
import mmap
import os
import random
import signal
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import eventbus
from eventbus import Bus, ClosedError, Event, Subscription, UnavailableError
from soak.actors import held, identity, speak_into
from soak.forks import MANNERS, fall_off, start_helper
from soak.ledger import Kind, Ledger, entry
from soak.storm import Boom, Storm

RUSH, QUIET, LEAVE = range(3)  # the phases of a bout
GROUP = "g"
CHILDREN = 3  # that a process has at once, helpers included
HELPING = 0.4  # seconds that a helper lives at most
GENERATIONS = 2  # of children of children


@dataclass(frozen=True)
class Bout:
    """Some seconds of the rush, drawn from the seed and the number.

    Attributes:
        every: seconds between two interruptions of a process, on average.
        kills: seconds between two deaths, on average.
    """

    seed: int
    number: int
    seconds: float
    persist: bool
    capacity: int
    every: float
    kills: float


class Ground:
    """Where a bout takes place: its plan, the name of the bus, a directory, and one byte for the phase and for each."""

    def __init__(self, bout: Bout, name: str, directory: Path, size: int) -> None:
        self.bout, self.name, self.directory = bout, name, directory
        self._bytes = mmap.mmap(-1, size + 1)

    @property
    def phase(self) -> int:
        """RUSH, QUIET (children end) or LEAVE (only the processes themselves are left)."""
        return self._bytes[0]

    def enter(self, phase: int) -> None:
        """The next phase, for all."""
        self._bytes[0] = phase

    def be_quiet(self, number: int) -> None:
        """This process has nothing and nobody any more."""
        self._bytes[1 + number] = 1

    def quiet(self) -> int:
        """How many are."""
        return sum(self._bytes[1:])

    def open(self) -> Bus:
        """The bus."""
        bout = self.bout
        return eventbus.open(self.name, capacity=bout.capacity, max_subscribers=64, persist=bout.persist)


def live(ground: Ground, number: int, life: int) -> NoReturn:
    """The life of a process; every word of it is in its ledger, what went wrong in its faults."""
    try:
        signal.alarm(0)
        speak_into(ground.directory / f"{number}-{life}.log")
        warnings.simplefilter("ignore")  # of buses that are dropped, and of what a helper may not close
        sys.unraisablehook = lambda _: None  # the handler raises in destructors too
        _Rusher(ground, f"{number}/{life}", None, GENERATIONS).last(number)
    finally:
        traceback.print_exc()
        os._exit(1)


def damage(event: Event) -> str | None:
    """What is wrong with an event; None for one that is as it was sent."""
    if event.system.startswith("eventbus."):
        return None
    if not isinstance(event.data, dict):
        return f"a misuse: {event}"
    text = event.data["text"]
    whole = event.path == f"/{event.data['from']}" == f"/{event.sender}" and event.kind == f"k.{len(text) % 7}"
    return None if whole and zlib.crc32(text.encode()) == event.data["sum"] else str(event)[:300]


class _Rusher:
    """What a process has, and what it does next."""

    def __init__(self, ground: Ground, who: str, bus: Bus | None, generations: int) -> None:
        bout = ground.bout
        self._ground, self._who, self._generations = ground, who, generations
        self._dice = random.Random(f"{bout.seed}/{bout.number}/{who}")
        self._pid, self._born = os.getpid(), 0
        self._ledger = Ledger(ground.directory, self._pid)
        self._storm = Storm(self._dice, bout.every, bout.seconds + 120, self._instead)
        self._bus, self._sequence = bus, 0
        self._sub: Subscription | None = None
        self._group = False
        if bus is not None:
            self._note_open(bus)

    def last(self, number: int) -> NoReturn:
        """To the end of the bout, with the last opening and leaving of all."""
        self._guarded(lambda: self._rush(1 << 30))
        self._guarded(lambda: self._await_children(number))
        self._end()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self._ledger.fault(f"{self._who}, process {self._pid}: {traceback.format_exc()}")
            os._exit(1)

    def _rush(self, steps: int) -> None:
        self._storm.begin()
        acts: list[Callable[[], None]] = [self._send, self._receive, self._receive, self._join] * 2
        acts += [self._ask, self._fork, self._help, self._close, self._drop, self._look]
        while steps > 0 and self._ground.phase == RUSH:
            steps -= 1
            if self._bus is None:
                self._open()
            self._dice.choice(acts)()
            self._reap()
        self._storm.end()

    # --- coming and going ---

    def _note_open(self, bus: Bus) -> None:
        self._ledger.write(entry(Kind.OPENED, c=self._storm.again(lambda: identity(bus))))

    def _open(self) -> None:
        self._bus = self._storm.again(self._ground.open)
        self._note_open(self._bus)

    def _leave(self) -> Bus | None:
        bus, self._bus = self._bus, None
        if bus is not None:
            self._ledger.write(entry(Kind.LEAVING))
        return bus

    def _close(self) -> None:
        """The subscription is left by the bus, or before it."""
        bus = self._leave()
        if bus is not None:
            if self._sub is not None and self._dice.random() < 0.5:
                self._storm.again(self._sub.close)
            self._storm.again(bus.close)
        self._sub = None
        self._check_held()

    def _close_for_good(self) -> None:
        self._close()
        gc.collect()
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/eventbus." in line]
        if mapped:
            self._ledger.fault(f"{self._who}, process {self._pid}, has left, and has mapped {mapped}")

    def _drop(self) -> None:
        """Nobody refers to the bus any more."""
        self._leave()
        self._sub = None
        self._check_held()

    def _check_held(self) -> None:
        if kept := held(self._ground.name):
            self._ledger.fault(f"{self._who}, process {self._pid}, has left, and has the descriptors {kept}")

    # --- what it does with the bus ---

    def _send(self) -> None:
        bus = self._bus
        if bus is None:
            return
        with contextlib.suppress(Boom, UnavailableError):
            for _ in range(self._dice.randrange(1, 20)):
                text = "x" * self._dice.choice((0, 5, 100, 2000))
                data = {"from": self._pid, "text": text, "sum": zlib.crc32(text.encode())}
                topic, timeout = (self._dice.choice(("a", "b")), f"k.{len(text) % 7}"), self._dice.choice((0, 0.02))
                self._storm.exposed(functools.partial(bus.send, *topic, f"/{self._pid}", data, timeout=timeout))
                self._ledger.write(entry(Kind.SENT))

    def _ask(self) -> None:
        if self._bus is not None:
            with contextlib.suppress(Boom, UnavailableError):
                data = {"from": self._pid, "text": "", "sum": 0}
                self._bus.request("a", "k.0", f"/{self._pid}", data, timeout=self._dice.choice((0, 0.005)))

    def _look(self) -> None:
        if self._bus is not None:
            stats = self._storm.again(self._bus.stats)
            if stats.used > stats.capacity or stats.attached < 1:
                self._ledger.fault(f"impossible figures: {stats}")

    def _join(self) -> None:
        """A subscription that hears all, or is a member of the group."""
        bus = self._bus
        if bus is None or self._sub is not None:
            return
        self._group = self._dice.random() < 0.3
        group = GROUP if self._group else None
        with contextlib.suppress(UnavailableError):
            self._sub, self._sequence = self._storm.again(lambda: bus.subscribe("**", group=group)), 0

    def _receive(self) -> None:
        """Of a subscription every event comes, in order; interruptions may take none away."""
        sub = self._sub
        if sub is None:
            return
        for _ in range(self._dice.randrange(1, 30)):
            try:
                events = sub.receive_many(64, self._dice.choice((0, 0.001, 0.01)))
            except Boom:
                continue
            self._check(events)
            if self._group and events and self._dice.random() < 0.02:
                self._storm.again(sub.reject)
            if not events:
                break

    def _check(self, events: list[Event]) -> None:
        for event in events:
            if problem := damage(event):
                self._ledger.fault(f"{self._who}, process {self._pid}, got what nobody sent: {problem}")
            if not self._group and self._sequence and event.sequence != self._sequence + 1:
                self._ledger.fault(f"{self._who}, process {self._pid}: {event.sequence} came after {self._sequence}")
            self._sequence = event.sequence
        if events:
            self._ledger.write(entry(Kind.GOT, a=len(events)))

    # --- children ---

    def _fork(self) -> None:
        """A child that Python forks goes on with the bus; interrupted, nobody may know of it."""
        if self._generations == 0 or self._children() >= CHILDREN:
            return
        self._born += 1
        with contextlib.suppress(Boom):
            self._storm.exposed(os.fork)
        if os.getpid() != self._pid:
            self._grow()

    def _grow(self) -> NoReturn:
        """As a child: some steps, and one of the ways to end."""
        try:
            self._sub = None  # its parent's
            self._bus, inherited = None, [self._bus]
            child = _Rusher(self._ground, f"{self._who}.{self._born}", inherited.pop(), self._generations - 1)
            child._guarded(lambda: child._rush(child._dice.randrange(40)))
            child._end()
        finally:
            os._exit(1)

    def _end(self) -> NoReturn:
        """Closes, falls off the end of the program, or ends without a word."""
        ending = self._dice.choice(("close", "fall", "exit" if self._ground.phase != LEAVE else "close"))
        if ending == "close":
            self._guarded(self._close_for_good)
        self._ledger.write(entry(Kind.INTERRUPTED, a=self._storm.hits), entry(Kind.END))
        if ending != "exit":
            fall_off()
        os._exit(0)

    def _help(self) -> None:
        """A helper that C forks; some of them try to use the bus, which is not theirs."""
        if self._children() < CHILDREN:
            self._start_helper(self._misuse if self._dice.random() < 0.3 else bool)

    def _start_helper(self, task: Callable[[], object]) -> None:
        start_helper(self._dice.choice(MANNERS), self._dice.random() * HELPING, task)
        self._ledger.write(entry(Kind.HELPED))

    def _misuse(self) -> None:
        bus = self._bus
        if bus is None:
            return
        for call in (lambda: bus.send("a", "k", "/misuse", timeout=0), bus.stats, lambda: bus.subscribe("a")):
            with contextlib.suppress(ClosedError):
                call()
                self._ledger.fault(f"a helper that C has forked from {self._who} could use its bus")
        bus.close()

    def _instead(self) -> bool:
        """In the handler, in the middle of anything: whether it forks instead of raising, by C or by Python."""
        luck = self._dice.random()
        if luck > 0.06 or self._children() >= CHILDREN or os.getpid() != self._pid:
            return False
        if luck < 0.03:
            self._start_helper(bool)  # amid a fork by Python nobody could tell whose child it is, so it tries nothing
        elif os.fork() == 0:
            self._storm.end()
            if luck < 0.045:
                fall_off()
            os._exit(0)
        return True

    def _children(self) -> int:
        return len(Path(f"/proc/self/task/{self._pid}/children").read_text().split())

    def _reap(self, options: int = os.WNOHANG) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, options))[0]:
                if os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) != signal.SIGKILL:
                    self._ledger.fault(f"{self._who}: child {ended[0]} died of signal {os.WTERMSIG(ended[1])}")

    # --- the end of the bout ---

    def _await_children(self, number: int) -> None:
        """Leaves, waits until all it has forked are gone, and for the others; then opens and leaves once more."""
        self._close()
        self._reap(0)
        self._ground.be_quiet(number)
        while self._ground.phase != LEAVE:
            time.sleep(0.002)
        self._open()
        self._send()
