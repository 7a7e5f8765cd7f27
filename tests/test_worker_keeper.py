"""The keeper of a worker's processes: none of them outlives a master that was killed, whenever that was."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import keeper
from harness import Fork, Line, take, until
from pools import run_worker
from test_worker_children import is_gone

_forks: Iterator[int] = itertools.count(1)


def run_up_to_a_fork(line: Line, worker: Worker, log: Path, number: int, hangs: Path) -> None:
    """A master that stands still before one of its forks, once somebody hangs."""
    keeper.GRACE = 0.1

    def stand_still() -> None:
        if next(_forks) == number and os.getpid() == master:
            until(hangs.exists, "a handler to hang")
            line.say("stands still")
            threading.Event().wait()

    master = os.getpid()
    os.register_at_fork(before=stand_still)
    run_worker(line, worker, {"processes": 2}, log)


@pytest.mark.parametrize("number", [3, 4])
def test_a_master_killed_while_it_starts(fork: Fork, bus: Bus, done: Subscription, log: Path, number: int) -> None:
    """What it has started so far is ended, though it hangs: the keeper was there first."""
    worker = Worker(bus)
    hangs = log.with_name("hangs")

    @worker.on("jobs")
    def hang(event: Event) -> None:
        bus.send("done", "hangs", "/", os.getpid())
        hangs.touch()
        threading.Event().wait()

    @worker.on("others")
    def other(event: Event) -> None:
        pass

    bus.group("workers.hang", "jobs")
    bus.send("jobs", "job", "/")
    master = fork(run_up_to_a_fork, worker, log, number, hangs)
    master.hear()
    assert master.hear() == "stands still"
    pid = take(done).data
    master.kill(signal.SIGKILL)
    until(lambda: is_gone(pid), "the process that hangs to be ended")
