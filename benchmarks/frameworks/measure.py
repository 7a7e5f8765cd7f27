"""One repetition of a framework: its rate, the latency of paced jobs, and the fate of a job whose process is killed."""

from __future__ import annotations

import os
import signal
import time
from array import array
from math import inf
from statistics import median

from benchmarks.frameworks.field import Field, Order, working
from benchmarks.latency import Timing
from benchmarks.load import OrderError
from benchmarks.peer import Peer

RATE = 100
"""Jobs a second of which the latency is measured."""

DEADLINE_SECONDS = 30.0
"""So long a job is waited for whose process was killed."""

_FIRST_ROUND = 50
_WARM_SECONDS = 0.25
_MOST_JOBS = 2**21
_MOST_WAITING = 2**17
"""More jobs than these do not wait: the ring of a bus, by default, has room for them and some to spare."""

_LOOK_SECONDS = 0.001


def rate(framework: Peer, jobs: int | None, seconds: float) -> dict[str, float]:
    """Measure empty jobs: such as are handled while they are sent, and such as wait when the first is handled.

    Args:
        framework: what handles them.
        jobs: how many, or ``None`` for as many as fill ``seconds`` at the rate of the warm-up.
        seconds: how long each of the two is to take, where ``jobs`` does not say.

    Raises:
        OrderError: a job ran more than once.
    """
    with working(framework) as field:
        jobs = min(jobs or int(_warm(field) * seconds), _MOST_JOBS)
        waiting = min(jobs, _MOST_WAITING)
        spent, cpu = _meanwhile(field, jobs)
        drained = _afterwards(field, waiting)
    return {
        "jobs/s": waiting / drained,
        "jobs/s, as sent": jobs / spent,
        "CPU s/M": cpu / jobs * 1e6,
        "jobs": jobs,
    }


def _warm(field: Field) -> float:
    """Return the rate of the first round that takes its time."""
    jobs, spent = _FIRST_ROUND, 0.0
    while spent < _WARM_SECONDS and jobs < _MOST_JOBS // 8:
        jobs *= 4
        spent, _ = _meanwhile(field, jobs)
    return jobs / spent


def _meanwhile(field: Field, jobs: int) -> tuple[float, float]:
    """Return the seconds from the first send to the last job, and the CPU seconds of all processes in that time."""
    numbers = field.numbers(jobs)
    before = field.cpu_seconds()
    sent = field.send(Order(numbers))
    field.await_all(numbers)
    cpu = field.cpu_seconds() - before + sent.cpu
    _check_once(field, numbers)
    return (field.ledger.last(numbers) - sent.moments[0]) / 1e9, cpu


def _afterwards(field: Field, jobs: int) -> float:
    """Return the seconds in which jobs are handled that were all sent before."""
    field.occupy()
    numbers = field.numbers(jobs)
    field.send(Order(numbers))
    released = time.monotonic_ns()
    field.ledger.release()
    field.await_all(numbers)
    _check_once(field, numbers)
    return (field.ledger.last(numbers) - released) / 1e9


def latency(framework: Peer, jobs: int) -> Timing:
    """Measure the time from before a send to the beginning of the job, at ``RATE`` a second.

    Raises:
        OrderError: a job ran more than once.
    """
    with working(framework) as field:
        for count in (max(jobs // 10, 1), jobs):
            numbers = field.numbers(count)
            before = field.cpu_seconds()
            sent = field.send(Order(numbers, every=1 / RATE))
            field.await_all(numbers)
            cpu = field.cpu_seconds() - before + sent.cpu
            _check_once(field, numbers)
        begun = map(field.ledger.moment, numbers)
        return Timing(array("q", (end - start for start, end in zip(sent.moments, begun, strict=True))), cpu)


def redeliveries(framework: Peer, kills: int) -> dict[str, float]:
    """Measure the time from the SIGKILL of a process with a job in hand until that job runs again.

    Each time both processes run, and the other one has nothing to do. No more are killed after a job that did not run
    again within ``DEADLINE_SECONDS``, for which the longest is infinite.
    """
    times: list[float] = []
    while len(times) < kills and inf not in times:
        times.append(_redelivery(framework))
    return {"again ms": median(times) * 1e3, "shortest ms": min(times) * 1e3, "longest ms": max(times) * 1e3}


def _redelivery(framework: Peer) -> float:
    with working(framework) as field:
        held = field.hold()
        field.await_all(held)
        killed = time.monotonic_ns()
        os.kill(field.ledger.pid(held.start), signal.SIGKILL)
        end = time.monotonic() + DEADLINE_SECONDS
        while field.ledger.runs(held) < 2:
            if time.monotonic() > end:
                return inf
            field.pool.supervise()
            time.sleep(_LOOK_SECONDS)
        return (field.ledger.moment(held.start) - killed) / 1e9


def _check_once(field: Field, numbers: range) -> None:
    runs = field.ledger.runs(numbers)
    if runs != len(numbers):
        raise OrderError(f"{len(numbers)} jobs ran {runs} times, and no process had died: look at the settings")
