"""``python -m soak.rush``: processes that open, close, fork, are interrupted and killed, all on one name.

No event is damaged, never are there two segments at once, nothing is left in shared memory or among the descriptors.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

from soak.core import choose_core

choose_core()

import eventbus  # noqa: E402  after the core is chosen
from orphans import adopt_orphans, die_with_parent  # noqa: E402
from soak import ledger  # noqa: E402
from soak.attached import Span, judge_attached, spans  # noqa: E402
from soak.guests import SHARED_MEMORY  # noqa: E402
from soak.ledger import Kind  # noqa: E402
from soak.rusher import GROUP, LEAVE, QUIET, Bout, Ground, damage, live  # noqa: E402

PROCESSES = 6
HANGS = 40.0  # seconds in which everybody has come to the end of a phase
COUNTED = {
    Kind.OPENED: "openings",
    Kind.SENT: "events sent",
    Kind.HELPED: "forked in C",
}
OFTEN = ("events received", "interruptions", "deaths")


def draw(seed: int, number: int, seconds: float) -> Bout:
    """The bout of this number of this seed, always the same."""
    dice = random.Random(f"{seed}/{number}")
    return Bout(
        seed=seed,
        number=number,
        seconds=seconds * dice.uniform(0.5, 1.5),
        persist=dice.random() < 0.4,
        capacity=dice.choice((1 << 16, 1 << 18, 1 << 20)),
        every=dice.choice((0.001, 0.003, 0.01)),
        kills=dice.choice((0.05, 0.2, 1.0)),
    )


def descendants(pid: int) -> set[int]:
    """Those of a process, and theirs, that have not been waited for."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | descendants(child)
    return found


class Play:
    """One bout on its way."""

    def __init__(self, bout: Bout, name: str, directory: Path) -> None:
        self.bout, self.name, self.directory = bout, name, directory
        self.ground = Ground(bout, name, directory, PROCESSES)
        self.violations: list[str] = []
        self.figures: Counter[str] = Counter()
        self._dice = random.Random(f"{bout.seed}/{bout.number}/deaths")
        self._lives = [0] * PROCESSES
        self._pids: dict[int, int] = {}  # of processes, by pid
        self._killed: set[int] = set()

    def run(self) -> None:
        """To its end; what went wrong is in ``violations`` then."""
        try:
            self._rush()
            self.ground.enter(QUIET)
            self._wait(lambda: self.ground.quiet() == PROCESSES and descendants(os.getpid()) == set(self._pids))
            self.ground.enter(LEAVE)
            self._wait(lambda: not self._pids)
            self._check_leftovers()
        except TimeoutError:
            self._tell_where_they_hang()
        finally:
            kill_all()
        self._judge()

    def _start(self, number: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            die_with_parent(parent)
            live(self.ground, number, self._lives[number])
        self._lives[number] += 1
        self._pids[pid] = number

    def _start_missing(self) -> None:
        for number in set(range(PROCESSES)) - set(self._pids.values()):
            self._start(number)

    def _rush(self) -> None:
        end = time.monotonic() + self.bout.seconds
        death = time.monotonic() + self._dice.expovariate(1 / self.bout.kills)
        while time.monotonic() < end:
            self._reap()
            self._start_missing()
            if time.monotonic() >= death:
                self._kill()
                death = time.monotonic() + self._dice.expovariate(1 / self.bout.kills)
            time.sleep(0.002)
        self._start_missing()

    def _kill(self) -> None:
        """One of the processes, or one that they have forked."""
        mine, all_of_them = sorted(self._pids), sorted(descendants(os.getpid()))
        pid = self._dice.choice(mine if self._dice.random() < 0.5 else all_of_them or mine)
        with contextlib.suppress(ProcessLookupError):
            if pid in descendants(os.getpid()):
                os.kill(pid, signal.SIGKILL)
                self._killed.add(pid)
                self.figures["deaths"] += 1

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                number, status = self._pids.pop(ended[0], None), ended[1]
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
                    self.violations.append(f"process {ended[0]} died of signal {os.WTERMSIG(status)}")
                early = number is not None and self.ground.phase < LEAVE
                if os.WIFEXITED(status) and (os.WEXITSTATUS(status) or early):
                    self.violations.append(f"process {ended[0]} ended with {os.WEXITSTATUS(status)}")

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + HANGS
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            self._reap()
            if self.ground.phase < LEAVE:
                self._start_missing()
            time.sleep(0.005)

    def _tell_where_they_hang(self) -> None:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                state = Path(f"/proc/{pid}/stat").read_text().split()[2]
                os.kill(pid, signal.SIGUSR1)
                self.violations.append(f"in phase {self.ground.phase} process {pid} ({state}) hangs; see its log")
        time.sleep(1)

    def _left(self) -> list[str]:
        return [one for one in os.listdir(SHARED_MEMORY) if one.startswith(f"eventbus.{self.name}.")]

    def _check_leftovers(self) -> None:
        """The last one out has left nothing, unless it persists: then it works, counts right, and can be removed."""
        if bool(self._left()) != self.bout.persist:
            self.violations.append(f"after the last one has left there is {self._left() or 'nothing'}")
        if self.bout.persist:
            self._check_what_persists()
            eventbus.unlink(self.name)
        if self._left():
            self.violations.append(f"at the very end there is {self._left()}")

    def _check_what_persists(self) -> None:
        with self.ground.open() as bus:
            stats = bus.stats()
            counted = sum(stats.topics.values()) + stats.untabled
            if stats.attached != 1 or stats.subscribers or counted != stats.sent:
                self.violations.append(f"opened again, the bus has {counted} events and {stats}")
            with bus.subscribe("**", group=GROUP) as member:  # which nobody works off any more
                while (event := member.receive(0)) is not None:
                    if problem := damage(event):
                        self.violations.append(f"what was left to the group is damaged: {problem}")
            with bus.subscribe("after") as sub:
                bus.send("after", "all", "/had/gone")
                if sub.receive(1) is None:
                    self.violations.append("opened again, the bus does not work")

    def _judge(self) -> None:
        found: list[Span] = []
        for path in self.directory.glob("*.ledger"):
            book = list(ledger.read(self.directory, pid := int(path.stem)))
            found += spans(pid, book)
            self.figures.update(COUNTED[Kind(one.kind)] for one in book if one.kind in COUNTED)
            self.figures["events received"] += sum(one.a for one in book if one.kind == Kind.GOT)
            self.figures["interruptions"] += sum(one.a for one in book if one.kind == Kind.INTERRUPTED)
            self.figures["ledgers"] += 1
            self.violations += ledger.faults(self.directory, pid)
        self.violations += judge_attached(found)


def kill_all() -> None:
    """Everybody whom this process or its children have started; orphans become its own."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


class Rush:
    """The bouts of one seed, and what came of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.name = f"rush-{os.getpid()}"
        self.directory = Path(tempfile.mkdtemp(prefix="eventbus-rush-"))
        self.total: Counter[str] = Counter()
        self.failed: list[int] = []

    def run(self) -> int:
        """Until the time is up or Ctrl-C; the exit status."""
        print(f"seed {self.options.seed}; ledgers of violated bouts stay in {self.directory}", flush=True)
        adopt_orphans()
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)
        begin = time.monotonic()
        try:
            for number in [self.options.bout] if self.options.bout else count(1):
                if number > 1 and self._is_over(time.monotonic() - begin):
                    break
                self._play(number)
        except KeyboardInterrupt:
            print("interrupted: the bout under way does not count")
        finally:
            kill_all()
            for left in Path(SHARED_MEMORY).glob(f"eventbus.{self.name}.*"):
                left.unlink(missing_ok=True)
        self._report(time.monotonic() - begin)
        return 1 if self.failed else 0

    def _is_over(self, seconds: float) -> bool:
        """Whether the time is up, and everything has happened that is to."""
        happened = min(self.total[what] for what in (*COUNTED.values(), *OFTEN))
        return seconds > self.options.minutes * 60 and not self.options.bout and happened >= self.options.least

    def _play(self, number: int) -> None:
        bout = draw(self.options.seed, number, self.options.seconds)
        directory = self.directory / str(number)
        directory.mkdir()
        play = Play(bout, self.name, directory)
        play.run()
        self.total.update({**play.figures, "bouts": 1})
        told = ", ".join(f"{count} {what}" for what, count in sorted(play.figures.items()))
        print(f"bout {number} ({'persist, ' if bout.persist else ''}{bout.seconds:.1f} s): {told}", flush=True)
        if play.violations:
            self.failed.append(number)
            print(f"VIOLATED: seed {self.options.seed} bout {number}; ledgers in {directory}")
            for violation in play.violations[:20]:
                print(f"  {violation}", flush=True)
        else:
            shutil.rmtree(directory)

    def _report(self, seconds: float) -> None:
        print(f"\nrush: seed {self.options.seed}, {seconds / 60:.1f} minutes, Python {sys.version.split()[0]}")
        for what, times in sorted(self.total.items()):
            print(f"  {what:34} {times:>14,}")
        print(f"  {'violations':34} {len(self.failed):>14,}" + (f"  in bouts {self.failed}" if self.failed else ""))
        if not self.failed:
            shutil.rmtree(self.directory, ignore_errors=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak.rush", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to go on")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a bout, on average")
    parser.add_argument("--bout", type=int, default=0, help="this one only")
    parser.add_argument("--least", type=int, default=0, help="more bouts until everything has happened so often")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    return Rush(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
