"""Plays a drill: the producer, the pool, and the hand of its operator; then all is ended, and the books are read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import eventbus
from drill import ledger, plan
from drill.place import Place
from drill.plan import FIRST, SECOND, Plan
from drill.pool import Leaving, Master, group_of, kill, killed, unexpected
from drill.story import BY_HANGING, BY_KEEPER, BY_OPERATOR, Story
from drill.words import ENOUGH, ORDERS, SEASON
from eventbus import Bus
from eventbus.core.stats import GroupStats
from orphans import adopt_orphans, children, die_with_parent

SHARED_MEMORY = Path("/dev/shm")
HANGS = 90.0  # seconds; what has not come to its end by then never will
FAREWELL = 10.0  # seconds that the processes of a killed master have at most; a busy host gets as many again
LOOKS = 0.01  # seconds between two looks
MOST_KILLED = 3  # processes at once


class Hanging(Exception):
    """Something does not come to its end."""


def play(drawn: Plan, name: str, directory: Path) -> Story:
    """The drill from its first job to the end of the pool and of the bus, whatever comes of it."""
    adopt_orphans()
    with eventbus.open(name) as bus:
        stage = _Stage(drawn, bus, directory)
        try:
            stage.begin()
            stage.endure()
            stage.finish()
        except Hanging as error:
            stage.story.faults.append(str(error))
        finally:
            stage.end()
    stage.story.left += [f"{one} in {SHARED_MEMORY}" for one in os.listdir(SHARED_MEMORY) if name in one]
    return stage.story


class _Stage:
    """One drill on its way."""

    def __init__(self, drawn: Plan, bus: Bus, directory: Path) -> None:
        self.plan = drawn
        self.story = Story()
        self._bus = bus
        self._place = Place(directory)
        self._dice = random.Random(drawn.seed)
        self._letters = bus.subscribe("eventbus.dead")
        self._masters: list[Master] = []
        self._producer: subprocess.Popen[bytes] | None = None
        self._leaving: list[Leaving] = []
        self._back_at: float | None = None  # when the database is there again
        self._does: dict[str, Callable[[], object]] = {
            plan.HANGUP: self._hang_up,
            plan.RESTART: self._restart,
            plan.DEPLOY: self._deploy,
            plan.KILL_PROCESSES: self._kill_processes,
            plan.KILL_MASTER: self._kill_master,
            plan.KILL_HANGING: self._kill_hanging,
            plan.OUTAGE: self._go_away,
            plan.HANG: self._hang,
        }

    # --- from the first job to the last ---

    def begin(self) -> None:
        """The pool and the producer are there."""
        self._place.make()
        self._start(FIRST)
        command = [sys.executable, "-m", "drill.producer", self._bus.name, "--seed", str(self.plan.seed)]
        self._producer = subprocess.Popen(
            [*command, "--jobs", str(self.plan.jobs), "--rate", str(self.plan.rate)],
            env=self._place.environment(),
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        self._until(self._sent, "the first job")

    def endure(self) -> None:
        """All that is planned befalls the pool; what one act takes longer, the others come later."""
        before = 0.0
        for at, what in self.plan.acts:
            begin = time.monotonic()
            while time.monotonic() < begin + at - before:
                self._look_after()
                time.sleep(LOOKS)
            self._act(what)
            before = at

    def finish(self) -> None:
        """All jobs are sent and done, and everybody leaves by himself."""
        if self._master.handlers != FIRST:
            self._act(plan.DEPLOY)
        self._until(lambda: self._sent() == self.plan.jobs, "the last job to be sent", self.plan.jobs / self.plan.rate)
        self._place.hang.unlink(missing_ok=True)
        self._until(lambda: self._back_at is None and not self._leaving, "whoever has to go")
        self._until(lambda: all(map(_empty, self._groups().values())), "all jobs to be done")
        self._bus.request(ORDERS, ENOUGH, "/", timeout=HANGS)
        assert self._producer is not None
        if self._producer.wait(HANGS):
            self.story.faults.append(f"the producer ended with {self._producer.returncode}")
        self._stop()
        self._until(lambda: not self._strangers(), "the last process to go")

    def end(self) -> None:
        """Nobody is there any more; what was left is told."""
        for one in self._strangers():
            self.story.left.append(f"process {one}")
        for process in [one.process for one in self._masters] + [self._producer] * (self._producer is not None):
            assert process is not None
            process.kill()
            process.wait()
        while orphans := children(os.getpid()):
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._hear_letters()
        for group in self._bus.stats().groups:
            self.story.faults += [f"the group {group.name} counts {group.dead} dead letters"] * (group.dead > 0)
        self._read()

    def _act(self, what: str) -> None:
        self.story.acts.append((what, time.monotonic_ns()))
        self._does[what]()

    def _read(self) -> None:
        """The books, the logs, and the connections of those that were not killed."""
        story = self.story
        story.books = ledger.read(self._place.books)
        story.sent = story.books.pop(ledger.PRODUCER, [])
        for master in self._masters:
            story.logged += unexpected(master.log)
            for pid, hung in killed(master.log):
                story.deaths.setdefault(pid, BY_HANGING if hung else BY_OPERATOR)
        open_ones = [int(path.name) for path in self._place.connections.iterdir()]
        story.left += [f"the connection of process {pid}" for pid in open_ones if pid not in story.deaths]

    # --- what goes on all the time ---

    def _until(self, condition: Callable[[], object], what: str, more: float = 0.0) -> None:
        end = time.monotonic() + HANGS + more
        while not condition():
            self._look_after()
            if time.monotonic() > end:
                raise Hanging(f"waited {HANGS + more:.0f} s for {what}")
            time.sleep(LOOKS)

    def _look_after(self) -> None:
        if self._back_at is not None and time.monotonic() > self._back_at:
            self._place.away.unlink()
            self._back_at = None
            self.story.outages[-1] = (self.story.outages[-1][0], time.monotonic_ns())
        self._reap()
        self._hear_letters()
        for one in self._leaving[:]:
            self._see_off(one)

    def _hear_letters(self) -> None:
        while (letter := self._letters.receive(0)) is not None:
            self.story.letters.append(f"{letter.data['group']}: {letter.data['path']}")

    def _see_off(self, one: Leaving) -> None:
        left, took = one.left(), time.monotonic() - one.since
        if left and took <= one.within:
            return
        if left:
            self.story.faults.append(f"{one.why}: {took:.1f} s later there are still the processes {left}")
        self.story.farewells.append((one.why, took))
        one.close()
        self._leaving.remove(one)

    def _strangers(self) -> set[int]:
        """Orphans of masters that were killed, and of processes that were."""
        return children(os.getpid()) - {one.pid for one in (*self._masters, self._producer) if one is not None}

    def _reap(self) -> None:
        """Whoever of the orphans was killed, was so by the keeper, if not by the operator."""
        for pid in self._strangers():
            reaped, status = os.waitpid(pid, os.WNOHANG)
            how = os.waitstatus_to_exitcode(status) if reaped else 0
            if how == -signal.SIGKILL:
                self.story.deaths.setdefault(pid, BY_KEEPER)
            elif how:
                self.story.faults.append(f"process {pid}, whose parent was killed, ended with {how}")

    # --- the pool ---

    @property
    def _master(self) -> Master:
        return self._masters[-1]

    def _start(self, handlers: tuple[str, ...]) -> None:
        started = Master(self._place, self._bus.name, len(self._masters), handlers, self.plan.processes)
        self._masters.append(started)
        self._until(lambda: started.children() or started.ended(), "the pool to start")
        if started.ended():
            raise Hanging(f"the pool ended with {started.process.returncode} at once: {started.log.read_text()}")

    def _stop(self) -> None:
        """As systemd does it."""
        last = Leaving("SIGTERM", self._master.children(), HANGS)
        self._master.tell(signal.SIGTERM)
        self._until(self._master.ended, "the pool to end")
        if self._master.process.returncode:
            self.story.faults.append(f"told to end, the pool did with {self._master.process.returncode}")
        if left := last.left():
            self.story.faults.append(f"told to end, the pool did without its processes {left}")
        last.close()

    def _restart(self) -> None:
        self._stop()
        self._start(self._master.handlers)

    def _deploy(self) -> None:
        """The other release: one handler is new, one is gone; what its group holds waits for the release after."""
        if self._master.handlers == FIRST:
            self._exchange("weekly", SECOND)
            self._until(lambda: group_of("seasonal") in self._groups(), "the group of the new handler")
            self._bus.request(ORDERS, SEASON, "/", True, timeout=HANGS)
        else:
            self._bus.request(ORDERS, SEASON, "/", False, timeout=HANGS)
            self._until(lambda: _empty(self._groups()[group_of("seasonal")]), "the last seasonal job to be done")
            self._exchange("seasonal", FIRST)
            self._remove_group("seasonal")

    def _exchange(self, goes: str, handlers: tuple[str, ...]) -> None:
        self._stop()
        group = group_of(goes)
        self._until(lambda: not self._groups()[group].members, "processes of masters that were killed before")
        self._start(handlers)
        self._until(lambda: self._master.logs(f"no handler serves the group {group}, which has "), "the pool to say so")

    def _remove_group(self, handler: str) -> None:
        command = [sys.executable, "-m", "eventbus", "remove-group", self._bus.name, group_of(handler)]
        subprocess.run(command, env=self._place.environment(), check=True, timeout=HANGS)

    def _hang_up(self) -> None:
        """Of its children, all but the keeper have connections."""
        connected = {int(path.name) for path in self._place.connections.iterdir()}
        self._leaving.append(Leaving(plan.HANGUP, connected & self._master.children(), HANGS))
        self._master.tell(signal.SIGHUP)

    def _kill_processes(self) -> None:
        """The one that has most to do, and others."""
        self._await_all()
        members = [one for group in self._groups().values() for one in group.members]
        self._dice.shuffle(members)
        members.sort(key=lambda one: -one.events)
        for one in [*members[:1], *self._dice.sample(members[1:], self._dice.randrange(MOST_KILLED))]:
            if kill(one.pid, (self._master.pid, os.getpid())):
                self.story.deaths[one.pid] = BY_OPERATOR

    def _kill_master(self) -> None:
        """The next one is started at once."""
        self._leaving.append(Leaving(plan.KILL_MASTER, self._master.children(), 2 * FAREWELL))
        self._master.tell(signal.SIGKILL)
        self._master.process.wait()
        self._start(self._master.handlers)

    def _kill_hanging(self) -> None:
        self._hang()
        self._await_hanging()
        self._kill_master()

    def _hang(self) -> None:
        self._await_hanging()
        self._place.hang.touch()

    def _await_hanging(self) -> None:
        """Whoever is to hang does, unless there are no jobs to hang on any more."""
        self._until(lambda: not self._place.hang.exists() or self._sent() == self.plan.jobs, "a handler to hang")

    def _go_away(self) -> None:
        self._await_all()
        self._place.away.touch()
        self._back_at = time.monotonic() + self.plan.outage
        self.story.outages.append((time.monotonic_ns(), time.monotonic_ns()))

    def _await_all(self) -> None:
        """Each handler has a process that asks for events."""
        groups = [group_of(one) for one in self._master.handlers]
        self._until(lambda: all(self._groups()[one].members for one in groups), "the processes of the pool")

    # --- the bus ---

    def _groups(self) -> dict[str, GroupStats]:
        return {one.name: one for one in self._bus.stats().groups if one.name != group_of("tick")}

    def _sent(self) -> int:
        return sum(sent for (system, _), sent in self._bus.stats().topics.items() if system.startswith("jobs."))


def _empty(group: GroupStats) -> bool:
    return not (group.backlog or group.returned or any(one.events for one in group.members))
