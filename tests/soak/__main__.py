"""``python -m soak``: plays rounds until the time is up, and reports."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import count
from pathlib import Path

from soak.core import choose_core

choose_core()

from orphans import adopt_orphans, die_with_parent  # noqa: E402
from soak.guests import SHARED_MEMORY  # noqa: E402  after the core is chosen
from soak.plan import Round, draw  # noqa: E402
from soak.stage import CLOCK_LIBRARY, Play, Result, small_memory  # noqa: E402

SHOWN = (
    "events sent",
    "deliveries",
    "deaths",
    "laps",
    "lost",
    "redeliveries",
    "acknowledged one by one",
    "rejected for later",
    "long jobs",
    "held events seen parked",
    "scheduled",
)
STORMS = sys.version_info >= (3, 11)  # before, signals are looked for between any two steps, also outside of the bus
ROUND_ENDS = 300.0  # seconds after which a round that has not ended never will

ORDER = (
    "rounds",
    "events sent",
    "sends of several",
    "deliveries",
    "deaths",
    "deaths at test points",
    "stops",
    "laps",
    "lost",
    "redeliveries",
    "rejected",
    "rejected for later",
    "acknowledged one by one",
    "long jobs",
    "long jobs that outlasted a ring",
    "held events seen parked",
    "dead letters",
    "letters lost with their sender",
    "letters that nobody could handle",
    "scheduled",
    "cancelled",
    "cancelled too late",
    "cut short, arrived",
    "cut short, not seen",
    "looks of subscribers",
    "looks of members",
    "subscriptions",
    "re-openings",
    "buses refused for space",
    "no slot left",
    "stats read",
    "clock jumps",
    "helpers forked in C",
    "calls interrupted",
)


class Soak:
    """The rounds of one seed, and what came of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.root = os.geteuid() == 0 and can_mount()
        self.total: Counter[str] = Counter()
        self.failed: list[int] = []
        self.directory = Path(tempfile.mkdtemp(prefix="eventbus-soak-"))
        self.clocks = make_clock(self.directory / CLOCK_LIBRARY)
        self._group = 0

    def run(self) -> int:
        """Until the time is up or Ctrl-C; the exit status."""
        options = self.options
        print(f"seed {options.seed}; ledgers of violated rounds stay in {self.directory}")
        if not self.root:
            print("no small /dev/shm: only root may mount one")
        if not self.clocks:
            print("no jumping clocks: there is no gcc to make one with")
        adopt_orphans()
        for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell had SIGINT ignored
            signal.signal(ending, signal.default_int_handler)
        begin = time.monotonic()
        try:
            for number in [options.round] if options.round else count(1):
                if self._is_over(number, time.monotonic() - begin):
                    break
                self.play(number)
        except KeyboardInterrupt:
            print("interrupted: the round under way does not count")
        finally:
            self.clear()
        self.report(time.monotonic() - begin)
        return 1 if self.failed else 0

    def _is_over(self, number: int, seconds: float) -> bool:
        """Whether so many rounds, or minutes, were asked for, and enough has come of them."""
        asked = self.options
        over = number > asked.rounds if asked.rounds else seconds > asked.minutes * 60
        return over and not asked.round and min(self.total["events sent"], self.total["deliveries"]) >= asked.least

    def play(self, number: int) -> None:
        """One round, in a process of its own that leads a group of its own."""
        plan = draw(
            self.options.seed,
            number,
            shortest=self.options.shortest,
            longest=self.options.longest,
            root=self.root,
            clocks=self.clocks,
            storms=STORMS,
        )
        directory = self.directory / str(number)
        directory.mkdir()
        name = f"soak-{os.getpid()}-{number}"
        begin = time.monotonic()
        result = self._play_apart(plan, name, directory)
        self._add(plan, result, time.monotonic() - begin)
        self.clear()
        if not result.violations and not self.options.keep:
            shutil.rmtree(directory)

    def _play_apart(self, plan: Round, name: str, directory: Path) -> Result:
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _stage(parent, plan, name, directory)
        with contextlib.suppress(PermissionError):
            os.setpgid(pid, pid)
        self._group = pid
        end = time.monotonic() + ROUND_ENDS
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        self._kill_group()
        path = directory / "result"
        if path.exists():
            found: Result = pickle.loads(path.read_bytes())
            return found
        lost = Result.nothing()
        log = directory / "stage.log"
        lost.violations.append(f"the round gave no result: {log.read_text()[-2000:] if log.exists() else ''}")
        return lost

    def _kill_group(self) -> None:
        """Everybody of the round, the orphans included."""
        with contextlib.suppress(ProcessLookupError):
            while self._group:
                os.killpg(self._group, signal.SIGKILL)
                time.sleep(0.01)
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-self._group, os.WNOHANG)[0]:
                        pass
        self._group = 0

    def _add(self, plan: Round, result: Result, seconds: float) -> None:
        figures = result.verdict.figures
        figures["laps"] = figures.pop("bytes committed", 0) // plan.traffic.capacity
        figures.update(
            {
                "rounds": 1,
                "deaths": result.deaths,
                "stops": result.stops,
                "clock jumps": result.jumps,
                "deaths at test points": result.points,
            }
        )
        self.total.update(figures)
        shown = ", ".join(f"{figures[key]} {key}" for key in SHOWN)
        print(f"round {plan.number} ({seconds:.1f} s, the end {result.ending:.1f} s; {plan}): {shown}", flush=True)
        if result.violations:
            self.failed.append(plan.number)
            print(f"VIOLATED: seed {self.options.seed} round {plan.number}; ledgers in {self.directory}/{plan.number}")
            for violation in result.violations:
                print(f"  {violation}")
            sys.stdout.flush()

    def clear(self) -> None:
        """Nobody and nothing of a round is left, whatever became of it."""
        self._kill_group()
        for left in Path(SHARED_MEMORY).glob(f"eventbus.soak-{os.getpid()}-*"):
            left.unlink(missing_ok=True)

    def report(self, seconds: float) -> None:
        """The figures of all rounds."""
        print(
            f"\nsoak: seed {self.options.seed}, {seconds / 60:.1f} minutes, Python {sys.version.split()[0]}, "
            f"kernel {os.uname().release}, {os.cpu_count()} CPUs"
        )
        for key in (*ORDER, *sorted(set(self.total) - set(ORDER))):
            print(f"  {key:34} {self.total[key]:>14,}")
        print(f"  {'violations':34} {len(self.failed):>14,}" + (f"  in rounds {self.failed}" if self.failed else ""))
        if not self.failed and not self.options.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def make_clock(library: Path) -> bool:
    """Makes the wall clock that jumps; False without a compiler."""
    source = Path(__file__).with_name("clock.c")
    command = [
        "gcc",
        "-std=gnu11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(source),
    ]
    if shutil.which("gcc") is None:
        return False
    subprocess.run(command, check=True)
    return True


def can_mount() -> bool:
    """Whether this host lets root mount a /dev/shm of its own; tried in a child."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if small_memory(1 << 20) else 1)
    return os.waitpid(pid, 0)[1] == 0


def _stage(parent: int, plan: Round, name: str, directory: Path) -> None:
    """In a process of its own: the round, and its result as a file."""
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(parent)
        log = os.open(directory / "stage.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        result = Play(plan, name, directory).run()
        (directory / "result.part").write_bytes(pickle.dumps(result))
        (directory / "result.part").rename(directory / "result")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to go on")
    parser.add_argument("--rounds", type=int, default=0, help="so many rounds instead, however long they take")
    parser.add_argument("--least", type=int, default=0, help="more rounds until so many events were sent and delivered")
    parser.add_argument("--round", type=int, default=0, help="this round only")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--shortest", type=float, default=1.5, help="seconds of the shortest round")
    parser.add_argument("--longest", type=float, default=5.0, help="seconds of the longest round")
    parser.add_argument("--keep", action="store_true", help="keep all ledgers")
    return Soak(parser.parse_args()).run()


sys.exit(main())
