"""Celery with its broker and its results on a bus, beside redis: tasks, round trips, and what a `kill -9` costs."""

from __future__ import annotations

import os
import signal
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.crew import Control, Crew, CrewError, cpu_seconds
from benchmarks.frameworks.field import Field
from benchmarks.frameworks.ledger import Ledger
from benchmarks.frameworks.place import environment
from benchmarks.frameworks.pool import Pool
from benchmarks.frameworks.registry import Setting
from benchmarks.latency import Timing
from benchmarks.load import SYSTEM
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.peers import no_redis
from benchmarks.peers.bus import remove
from benchmarks.report import Report
from benchmarks.session import Session

REDIS = "redis"
HANDS = 2

_URL = "EVENTBUS_BENCHMARK_URL"
_MODULE = "benchmarks.drop_in.celery_tasks"
# What workers tell each other of themselves, of which a lone one has no use, is left out.
_QUIET = "--without-gossip --without-mingle --without-heartbeat --loglevel WARNING"
_COMMAND = f"celery --app {_MODULE} worker --concurrency {HANDS} {_QUIET}"
_CREW_SECONDS = 300.0
_WARM_UP = 200
_TASKS = 2_000
_TRIPS = 1_000
_FROZEN_SECONDS = 10.0
"""No task has begun for so long: those that are left will not, before redis' visibility timeout of an hour."""

_LOOK_SECONDS = 0.005


class BusMedium(Medium):
    """A bus that has the name of the repetition; it and the one beside it are removed by name."""

    def open(self, leftovers: ExitStack) -> None:
        for name in (self.files.name, f"{self.files.name}.replies"):
            leftovers.callback(remove, name)

    @property
    def url(self) -> str:
        """Broker and result backend."""
        return f"eventbus://{self.files.name}"


def entrants() -> list[Peer]:
    """Return Celery over eventbus and over redis; the absent one with the reason."""
    missing = None if find_spec("celery") else "No module named 'celery'"
    return [Peer("eventbus", missing, BusMedium), Peer(REDIS, missing or no_redis(), _over_redis)]


def _over_redis(topology: Topology) -> Medium:
    from benchmarks.peers.redis_server import RedisMedium

    class CeleryMedium(RedisMedium):
        @property
        def url(self) -> str:
            return f"redis+socket://{self.socket}"

    return CeleryMedium(topology)


# --- what is measured ---


def tasks(session: Session) -> Report:
    """Celery tasks that do nothing, two pool processes: tasks/s without a result and with one that is fetched."""
    settings = session.settings
    note = f"tasks that do nothing, acknowledged late, {HANDS} pool processes; all are sent at once"
    rows = []
    for case in _CASES:
        measure = partial(rate, case=case, tasks=settings.events or (_WARM_UP if settings.quick else _TASKS))
        rows += session.each("celery", note, case, measure).rows
    return Report("celery", note, rows)


def trips(session: Session) -> Report:
    """From before a Celery task is sent until its result is there, one task after the other."""
    settings = session.settings
    count = settings.events or (20 if settings.quick else _TRIPS)
    note = f"from before `delay` until `get` returns, one task after the other, {HANDS} pool processes"
    return session.latency("celery-trip", note, ["one at a time"], lambda peer, _: trip(peer, count))


def kills(session: Session) -> Report:
    """What becomes of Celery tasks when first a pool process and then the worker die by `kill -9`."""
    count = session.settings.events or (200 if session.settings.quick else _TASKS)
    note = "late acknowledgement; a quarter done a pool process is killed, three quarters done all of the worker"
    return session.each("celery-killed", note, "kill -9", partial(killed, tasks=count))


SCENARIOS: dict[str, Callable[[Session], Report]] = {"celery": tasks, "celery-trip": trips, "celery-killed": kills}


def rate(peer: Peer, case: str, tasks: int) -> dict[str, float]:
    """Measure from the first send to the last task, or to the last result."""
    with working(peer) as team:
        team.burst(case, _WARM_UP)
        spent, cpu = team.burst(case, tasks)
    return {"tasks/s": tasks / spent, "CPU s/M": cpu / tasks * 1e6, "tasks": tasks}


def trip(peer: Peer, count: int) -> Timing:
    """Measure so many round trips, one after the other."""
    with working(peer) as team:
        for number in (max(count // 10, 1), count):
            before = team.field.cpu_seconds()
            times, cpu = team.ask(_ask_one_by_one, team.field.numbers(number))
            cpu += team.field.cpu_seconds() - before
        return Timing(times, cpu)


def killed(peer: Peer, tasks: int) -> dict[str, float]:
    """Kill the process of a task when a quarter of all have been sent, the whole worker after three quarters, and start
    it again.

    Returns:
        how many tasks were not done to the end, how often one began again beside the two that were killed on purpose,
        and the seconds from the second kill to the last beginning.
    """
    with working(peer) as team:
        numbers = team.field.numbers(tasks)
        first, second = numbers[tasks // 4], numbers[3 * tasks // 4]
        team.ask(_send, range(numbers.start, first))
        team.ask(_hold, range(first, first + 1))
        team.ask(_send, range(first + 1, second))
        os.kill(team.holder(first), signal.SIGKILL)
        team.ask(_hold, range(second, second + 1))
        team.ask(_send, range(second + 1, numbers.stop))
        team.holder(second)
        dead = time.monotonic_ns()
        team.pool.kill()
        done, ledger = team.done(numbers, (first, second)), team.field.ledger
        meant = sum(ledger.runs(range(number, number + 1)) - 1 for number in (first, second))
        again = ledger.runs(numbers) - ledger.begun(numbers) - meant
        return {"tasks": tasks, "lost": tasks - done, "twice": again, "s after": (ledger.last(numbers) - dead) / 1e9}


# --- who works ---


@dataclass(frozen=True)
class Team:
    """A worker, and one process that sends tasks to it."""

    field: Field
    pool: Pool
    crew: Crew

    def ask(self, how: Callable[[Any, range], array[int]], numbers: range) -> tuple[array[int], float]:
        """Have the sender do it with tasks of these numbers; returns what it says, and its CPU seconds."""
        self.crew.meet("ready", (how, numbers))
        ((said, cpu),) = self.crew.gather("done")
        return said, cpu

    def burst(self, case: str, count: int) -> tuple[float, float]:
        """Have that many tasks done; returns the seconds that it took, and the CPU seconds of all processes."""
        numbers = self.field.numbers(count)
        before = self.field.cpu_seconds()
        (start, end), cpu = self.ask(_CASES[case], numbers)
        self.field.await_all(numbers)
        if self.field.ledger.runs(numbers) != count:
            raise CrewError(f"{count} tasks ran {self.field.ledger.runs(numbers)} times, and no process had died")
        cpu += self.field.cpu_seconds() - before
        return (max(end, self.field.ledger.last(numbers)) - start) / 1e9, cpu

    def holder(self, number: int) -> int:
        """Return the process that has the task in hand, once one has."""
        self.field.await_all(range(number, number + 1))
        return self.field.ledger.pid(number)

    def done(self, numbers: range, held: tuple[int, ...]) -> int:
        """Keep the worker running until all tasks are done, those that were held the second time, or none has begun for
        a while; returns how many are done."""
        ledger = self.field.ledger
        runs, since = 0, time.monotonic()
        while True:
            done = ledger.begun(numbers) - sum(ledger.runs(range(number, number + 1)) < 2 for number in held)
            if done == len(numbers) or time.monotonic() - since > _FROZEN_SECONDS:
                return done
            if ledger.runs(numbers) > runs:
                runs, since = ledger.runs(numbers), time.monotonic()
            self.pool.supervise()
            time.sleep(_LOOK_SECONDS)


@contextmanager
def working(peer: Peer) -> Iterator[Team]:
    """Start a worker and a sender; a first task has been done when this yields."""
    with peer.connect(Topology(1, (SYSTEM,), 0)) as medium, Crew(_CREW_SECONDS) as crew:
        variables = {**environment(medium.files), _URL: medium.url}  # type: ignore[attr-defined]
        ledger = Ledger(medium.files)
        crew.start(f"{peer.name} sender", _ask, variables)
        crew.meet("connected")
        with Pool(Setting("celery", "", _COMMAND, HANDS, variables), medium.files) as pool:
            team = Team(Field(HANDS, medium, ledger, pool, crew), pool, crew)
            team.burst(_FETCHED, 1)
            yield team
            crew.meet("ready", None)
            crew.results()


def _ask(control: Control, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    tasks = import_module(_MODULE)
    control.meet("connected")
    while (order := control.meet("ready")) is not None:
        how, numbers = order
        before = cpu_seconds()
        said = how(tasks, numbers)
        control.post("done", (said, cpu_seconds() - before))


def _send(tasks: Any, numbers: range) -> array[int]:
    start, send = time.monotonic_ns(), tasks.note.delay
    for number in numbers:
        send(number)
    return array("q", [start, 0])


def _hold(tasks: Any, numbers: range) -> array[int]:
    for number in numbers:
        tasks.note.delay(number, True)
    return array("q")


def _send_and_fetch(tasks: Any, numbers: range) -> array[int]:
    start, send = time.monotonic_ns(), tasks.answer.delay
    results = [send(number) for number in numbers]
    for number, result in zip(numbers, results, strict=True):
        _check(number, result.get(timeout=_CREW_SECONDS))
    return array("q", [start, time.monotonic_ns()])


def _ask_one_by_one(tasks: Any, numbers: range) -> array[int]:
    times, now, send = array("q"), time.monotonic_ns, tasks.answer.delay
    for number in numbers:
        start = now()
        answer = send(number).get(timeout=_CREW_SECONDS)
        times.append(now() - start)
        _check(number, answer)
    return times


def _check(number: int, answer: int) -> None:
    if answer != number:
        raise AssertionError(f"the task {number} answered {answer}")


_FETCHED = "with a result"
_CASES = {"without": _send, _FETCHED: _send_and_fetch}
