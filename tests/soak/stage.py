"""Plays one round: starts the actors, strikes them, ends the round, and has the ledgers judged."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eventbus._eventbus import lib

import eventbus
from orphans import adopt_orphans, children
from soak import ledger
from soak.actors import DRAIN, FINISH, HELPERS, LEAVE, Stage, live
from soak.arming import where_it_looks
from soak.forks import LONGEST
from soak.guests import SHARED_MEMORY, perform
from soak.ledger import Kind
from soak.plan import Blow, Round
from soak.roles import Actor, Finisher, Founder, Keeper, Maker, Publisher, Visitor
from soak.verdict import Verdict, judge

PRODDED = 0.3  # seconds between two looks after those who stand still at test points
HANGS = 60.0  # seconds in which everybody must have ended
HARMED = 10.0  # the same where somebody has told a fault already, and may have left others waiting
SLACK = 6 << 20  # bytes of a small /dev/shm beside the ring
CLOCK_LIBRARY = "clock.so"
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


@dataclass
class Cast:
    """An actor's process, seen from outside."""

    actor: Actor
    pid: int
    pidfd: int
    struck: bool = False
    resume_at: float = 0.0
    kill_after: bool = False

    def signal(self, number: int) -> None:
        """Sends it a signal if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def running(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.pidfd], [], [], 0)[0]


@dataclass
class Result:
    """What came of a round."""

    verdict: Verdict
    deaths: int = 0
    stops: int = 0
    jumps: int = 0
    points: int = 0  # deaths at test points
    ending: float = 0.0  # seconds that the end took
    violations: list[str] = field(default_factory=list)

    @staticmethod
    def nothing() -> Result:
        """Of a round that nothing is known of."""
        return Result(Verdict())


class Hanging(Exception):
    """Somebody does not end."""


def small_memory(size: int) -> bool:
    """Gives this process and its children a /dev/shm of this size; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(
        libc.unshare(_CLONE_NEWNS) == 0
        and libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) == 0
        and libc.mount(b"tmpfs", SHARED_MEMORY.encode(), b"tmpfs", ctypes.c_ulong(0), f"size={size}".encode()) == 0
    )


def _armed_to_die(book: list[ledger.Entry]) -> bool:
    return any(one.kind == Kind.ARMED and one.flag == signal.SIGKILL for one in book)


def _children() -> set[int]:
    """Those of this process, orphans that it was given included, that have not ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return set()
    return children(os.getpid())


class Play:
    """One round on its way."""

    def __init__(self, plan: Round, name: str, directory: Path) -> None:
        self.plan = plan
        self.stage = Stage(plan, name, directory)
        self.casts: dict[int, Cast] = {}
        self.killed: set[int] = set()
        self.result = Result(Verdict())
        self._points = hasattr(lib, "eb_test_arm")
        self._prod_at = 0.0
        self._clock = directory / "clock"
        self._library = directory.parent / CLOCK_LIBRARY

    def run(self) -> Result:
        """Plays it to the end and judges it."""
        adopt_orphans()
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until an actor knows what to do
        self._set_clock(0.0)
        if self.plan.small and not small_memory(self.plan.traffic.capacity + SLACK):
            raise PermissionError("the plan has a small /dev/shm, which only root can mount")
        try:
            self._generation(self.plan.actors, self.plan.blows)
            if self.plan.second:
                self._kill_all()
                self._generation(self.plan.second, ())
            begin = time.monotonic()
            self._end()
            self.result.ending = time.monotonic() - begin
        except Hanging:
            self._tell_where_they_hang()
        finally:
            self._kill_all()
        self._judge()
        return self.result

    # --- the middle ---

    def _generation(self, actors: tuple[Actor, ...], blows: tuple[Blow, ...]) -> None:
        waiting = sorted((one for one in actors if not one.nested), key=lambda one: one.delay)
        coming = list(blows)
        if waiting and isinstance(waiting[0], Keeper):
            keeper = waiting.pop(0)
            self._start(keeper)
            self._wait(lambda: any(one.kind == Kind.LOOKED for one in ledger.read(self.stage.directory, keeper.number)))
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < self.plan.seconds:
            while waiting and waiting[0].delay <= now:
                self._start(waiting.pop(0))
            self._register_nested()
            while coming and coming[0].at <= now:
                self._strike(coming.pop(0))
            self._resume()
            self._prod()
            time.sleep(0.005)

    def _start(self, actor: Actor) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            if actor.clocked:
                self._exec(actor)
            live(self.stage, actor, perform)
        self.casts[actor.number] = Cast(actor, pid, os.pidfd_open(pid))

    def _exec(self, actor: Actor) -> None:
        """Goes on as a new program, under a clock that jumps; if that fails, the actor ends without a word."""
        try:
            path = self.stage.directory / f"{actor.number}.pickle"
            path.write_bytes(pickle.dumps((self.plan, self.stage.name, actor)))
            clock = {"LD_PRELOAD": str(self._library), "SOAK_CLOCK": str(self._clock)}
            paths = {"PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])}
            program = [sys.executable, "-m", "soak.clocked", str(path)]
            os.execve(sys.executable, program, os.environ | clock | paths)
        finally:
            traceback.print_exc()
            os._exit(1)

    def _set_clock(self, seconds: float) -> None:
        """How far the clock of those who have a jumping one is off from now on."""
        with self._clock.open("r+b" if self._clock.exists() else "w+b") as file:
            file.write(struct.pack("=q", int(seconds)))

    def _register_nested(self) -> None:
        """Children of nurseries are known by what they write first; whether the pid is still theirs, by their group."""
        for actor in (*self.plan.actors, *self.plan.second):
            if not actor.nested or actor.number in self.casts:
                continue
            first = next(ledger.read(self.stage.directory, actor.number), None)
            if first is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(first.a)
                if os.getpgid(first.a) == os.getpgrp():
                    self.casts[actor.number] = Cast(actor, first.a, pidfd)
                else:
                    os.close(pidfd)

    def _strike(self, blow: Blow) -> None:
        if blow.what == "jump":
            self._set_clock(blow.seconds)
            self.result.jumps += 1
            return
        if blow.what == "kill helper":
            self._kill_helpers(blow.actor)
            return
        cast = self.casts.get(blow.actor)
        if cast is None or not cast.running() or cast.resume_at:
            return
        if blow.what == "kill":
            self._kill(cast)
        elif blow.what == "help":
            cast.signal(signal.SIGUSR2)
        elif "stop" in blow.what:
            cast.signal(signal.SIGSTOP)
            self.result.stops += 1
            cast.resume_at = time.monotonic() + blow.seconds
            cast.kill_after = "kill" in blow.what

    def _kill_helpers(self, actor: int) -> None:
        """Those that the actor has forked so far, whether it lives itself or not."""
        for pid in (pid for pid, forker in self._helpers().items() if forker == actor):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == os.getpgrp() and pid not in {one.pid for one in self.casts.values()}:
                    os.kill(pid, signal.SIGKILL)

    def _kill(self, cast: Cast) -> None:
        self.killed.add(cast.actor.number)
        cast.signal(signal.SIGKILL)

    def _resume(self, all_of_them: bool = False) -> None:
        for cast in self.casts.values():
            if cast.resume_at and (all_of_them or cast.resume_at <= time.monotonic()):
                cast.resume_at = 0.0
                if cast.kill_after:
                    self._kill(cast)
                cast.signal(signal.SIGCONT)

    def _prod(self) -> None:
        """Whoever stands still at a test point goes on after a moment."""
        if self._points and time.monotonic() > self._prod_at:
            self._prod_at = time.monotonic() + PRODDED
            for cast in self.casts.values():
                if not cast.resume_at:
                    cast.signal(signal.SIGCONT)

    def _kill_all(self) -> None:
        """Also whoever was forked in the meantime: orphans become this process's own children."""
        self._register_nested()
        nested = {one.number for one in (*self.plan.actors, *self.plan.second) if one.nested}
        for cast in self.casts.values():
            if cast.running():
                self._kill(cast)
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        for number in nested - set(self.casts):
            if (self.stage.directory / f"{number}.ledger").exists():
                self.killed.add(number)

    # --- the end ---

    def _end(self) -> None:
        self._resume(True)
        self.stage.enter(FINISH)
        last = max(one.number for one in (*self.plan.actors, *self.plan.second)) + 1
        finisher = Finisher(last, dies=not self.plan.persist and self.plan.number % 4 == 0)
        self._start(finisher)
        self._await_end(Publisher, Founder, Maker, Visitor)
        self.stage.enter(DRAIN)
        self._await_end(Actor, but=last)
        self.stage.enter(LEAVE)
        if finisher.dies:
            self.killed.add(last)
        self._await_end(Actor)
        self._check_leftovers()

    def _await_end(self, *kinds: type[Actor], but: int = 0) -> None:
        everybody, late = Actor in kinds, time.monotonic() + LONGEST

        def ended() -> bool:
            self._register_nested()
            mine = [one for one in self.casts.values() if isinstance(one.actor, kinds) and one.actor.number != but]
            others = _children() - {one.pid for one in self.casts.values() if one.actor.number == but}
            if everybody and time.monotonic() > late:
                for pid in others & self._helpers().keys():
                    os.kill(pid, signal.SIGKILL)  # CPython may wait there for a thread that the fork left behind
            return not any(cast.running() for cast in mine) and not (everybody and others)

        self._wait(ended)

    def _helpers(self) -> dict[int, int]:
        """The pids of all that were forked in C, and which actor forked each."""
        book = self.stage.directory / HELPERS
        lines = book.read_text().splitlines() if book.exists() else []
        return {int(pid): int(forker) for forker, pid in map(str.split, lines)}

    def _wait(self, condition: Callable[[], bool]) -> None:
        begin = time.monotonic()
        while not condition():
            waited = time.monotonic() - begin
            if waited > HANGS or (waited > HARMED and any(self.stage.directory.glob("*.faults"))):
                raise Hanging
            self._prod()
            time.sleep(0.01)

    def _check_leftovers(self) -> None:
        """The last one out leaves nothing; what it leaves if it was killed is replaced; what persists works."""

        def left() -> list[str]:
            return [one for one in os.listdir(SHARED_MEMORY) if one.startswith(f"eventbus.{self.stage.name}")]

        problems = self.result.violations
        with contextlib.suppress(FileNotFoundError):  # a maker looks for itself, unless it was killed in the middle
            eventbus.unlink(f"{self.stage.name}-big")
        dies = not self.plan.persist and self.plan.number % 4 == 0
        if bool(left()) != (self.plan.persist or dies):
            problems.append(f"after the last one has left there is {left() or 'nothing'}")
        if not left():
            self._check_bells()
            return
        with eventbus.open(self.stage.name, capacity=self.plan.traffic.capacity) as bus:
            stats = bus.stats()
            if stats.closed or stats.sent != (self._sent_at_the_end() if self.plan.persist else 0):
                problems.append(f"opened again after all had gone, the bus has {stats}")
            with bus.subscribe("after") as sub:
                bus.send("after", "all", "/had/gone")
                if sub.receive(1) is None:
                    problems.append("opened again after all had gone, the bus does not work")
        if self.plan.persist:
            eventbus.unlink(self.stage.name)
        if left():
            problems.append(f"at the very end there is {left()}")
        self._check_bells()

    def _check_bells(self) -> None:
        """Of no bus of this round a doorbell is left."""
        books = (ledger.read(self.stage.directory, number) for number in self.casts)
        buses = {one.c for book in books for one in book if one.kind in (Kind.JOINING, Kind.JOINED)}
        marks = tuple(f"eventbus.bell.{bus % (1 << 64):016x}." for bus in buses)
        if bells := [one for one in os.listdir(SHARED_MEMORY) if marks and one.startswith(marks)]:
            self.result.violations.append(f"at the very end there are the doorbells {bells}")

    def _sent_at_the_end(self) -> int:
        books = (ledger.read(self.stage.directory, number) for number in self.casts)
        return next((one.b for book in books for one in book if one.kind == Kind.SHUTDOWN), -1)

    def _tell_where_they_hang(self) -> None:
        hanging = [cast for cast in self.casts.values() if cast.running()]
        for cast in hanging:
            cast.signal(signal.SIGUSR1)
        time.sleep(1)
        for cast in hanging:
            self.result.violations.append(f"in phase {self.stage.phase} {cast.actor} hangs; see its log")

    def _judge(self) -> None:
        actors = {one.actor.number: one.actor for one in self.casts.values()}
        for one in (*self.plan.actors, *self.plan.second):
            if (self.stage.directory / f"{one.number}.ledger").exists():
                actors.setdefault(one.number, one)
        books = {number: list(ledger.read(self.stage.directory, number)) for number in actors}
        looks: list[str] = []
        for number, actor in actors.items():
            self.result.violations += ledger.faults(self.stage.directory, number)
            ended = bool(books[number]) and books[number][-1].kind == Kind.END
            if ended:
                self.killed.discard(number)
            elif number not in self.killed and _armed_to_die(books[number]):
                self.killed.add(number)
                self.result.points += 1
                looks += where_it_looks(books[number])
            elif number not in self.killed:
                self.result.violations.append(f"{actor} ended without a word; see its log")
        self.result.deaths = len(self.killed)
        self.result.verdict = judge(self.plan, actors, books, self.killed)
        self.result.verdict.figures.update(f"deaths at {name}" for name in looks)
        self.result.violations += self.result.verdict.violations
