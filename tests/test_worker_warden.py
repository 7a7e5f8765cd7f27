"""The warden of a worker's processes: none of them outlives a master that was killed, whenever that was."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import warden
from harness import DEADLINE, Fork, Line, patiently, take, until
from pools import run_worker, running
from test_worker_children import is_gone
from test_worker_master import members, run_changed

_forks: Iterator[int] = itertools.count(1)


def run_up_to_a_fork(line: Line, worker: Worker, log: Path, number: int, hangs: Path) -> None:
    """A master that stands still before one of its forks, once somebody hangs."""
    warden.GRACE = 0.1

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
    """What it has started so far is ended, though it hangs: the warden was there first."""
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
    until(lambda: bus.stats().attached == 1, "the others to leave")


def hasten(seconds: float = 0.5) -> None:
    """The warden's patience is for people."""
    warden.GRACE = seconds


def gone(pids: set[int]) -> bool:
    """Whether none of them runs any more."""
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    return all(not one.exists() or one.read_text().rpartition(")")[2].split()[0] == "Z" for one in states)


@pytest.mark.parametrize("how", ["hangs", "is stopped", "ignores signals"])
def test_it_is_killed(fork: Fork, bus: Bus, done: Subscription, log: Path, how: str) -> None:
    """Processes whose handlers hang end as well; one that finishes its event meanwhile acknowledges it."""
    worker = Worker(bus)
    master: list[int] = []
    worker.on_start(lambda: master.append(os.getppid()))

    @worker.on("jobs")
    def work(event: Event) -> None:
        bus.send("done", "begun", "/", os.getpid())
        if event.data == "hang" and event.deliveries == 1:
            if how == "ignores signals":
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            if how == "is stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()
        until(lambda: os.getppid() != master[0], "the death of the parent")
        bus.send("done", "finished", "/", event.data)

    def kill_the_parent(grace: float) -> bool:
        parent = fork(run_changed, partial(hasten, grace), worker, {"processes": 2}, log)
        parent.hear()
        until(lambda: len(members(bus)) == 2, "the processes")

        pids = members(bus)
        for data in ("hang", "finish"):
            bus.send("jobs", "job", "/", data)
            take(done)
        parent.kill()
        until(lambda: gone(pids), "the processes to end")
        finished = [event.data for event in done.receive_many(9, 0)]
        with bus.subscribe("jobs", group="workers.work", prefetch=9) as member:
            rest = [(event.data, event.deliveries) for event in member.receive_many(9, DEADLINE)]
        bus.remove_group("workers.work")
        if rest == [("hang", 2)]:
            assert finished == ["finish"]
        else:
            assert sorted(rest) == [("finish", 2), ("hang", 2)]  # it was killed before it could finish
        return len(rest) == 1

    patiently(kill_the_parent, 0.5)


def wardens(parent: int) -> set[int]:
    """Its children that are no members: there is one."""
    return set(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))


def test_its_warden_is_killed(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Another one takes over, and knows the processes that there are."""
    worker = Worker(bus)

    @worker.on("jobs")
    def hang(event: Event) -> None:
        bus.send("done", "begun", "/")
        threading.Event().wait()

    parent = fork(run_changed, hasten, worker, {}, log)
    parent.hear()
    until(lambda: members(bus) and len(wardens(parent.pid)) == 2, "the processes")
    pids = members(bus)
    bus.send("jobs", "job", "/")
    take(done)
    (first,) = wardens(parent.pid) - pids
    os.kill(first, signal.SIGKILL)
    until(lambda: wardens(parent.pid) - pids - {first}, "another warden")
    (second,) = wardens(parent.pid) - pids
    parent.kill()
    until(lambda: gone(pids | {second}), "all to end")


def has_descriptors_of(pid: int, others: set[int]) -> bool:
    """Whether it has a descriptor for each of the processes."""
    known = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        known.add(int(rows.get("Pid", "0")))
    return others <= known


def open_files(pid: int) -> set[str]:
    """What its descriptors are."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(path).partition(":[")[0].replace("anon_inode", "anon_inode:[pidfd]"))
    return found


def test_nothing_is_kept_open(fork: Fork, bus: Bus, log: Path) -> None:
    """The warden holds nothing of the program's: no file, no bus, no output that somebody waits for the end of."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    with running(fork, worker, log) as parent:
        until(lambda: members(bus) and len(wardens(parent.pid)) == 2, "the processes")
        (pid,) = wardens(parent.pid) - members(bus)
        until(lambda: open_files(pid) == {os.devnull, "anon_inode:[pidfd]", "socket"}, "it to close all others")
        until(lambda: has_descriptors_of(pid, members(bus)), "it to know the process")
        assert bus.stats().attached == 3
