"""How processes of a worker end: with the status that they mean, after all that is to run, and only themselves."""

from __future__ import annotations

import atexit
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers.process import how
from harness import DEADLINE, Fork, Line, take, until
from pools import run_worker, running


def test_async_processes_leave_in_order(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process whose handler has awaited something leaves with status 0, with tasks left in its loop and without."""
    worker = Worker(bus)
    left: list[Any] = []

    @worker.on("jobs")
    async def gently(event: Event) -> None:
        import asyncio

        if event.data:
            left.append(asyncio.create_task(asyncio.sleep(DEADLINE)))
        bus.send("done", "job", "/")

    for leaves_a_task in (False, True):
        with running(fork, worker, log):
            until(lambda: any(group.members for group in bus.stats().groups), "the process")
            bus.send("jobs", "job", "/", leaves_a_task)
            take(done)
    assert "ERROR" not in log.read_text()


@pytest.mark.parametrize(("asked", "status"), [(-2, 254), (1 << 40, 0), (75, 75), (None, 0), ("no database", 1)])
def test_hooks_that_exit(fork: Fork, bus: Bus, log: Path, asked: Any, status: int) -> None:
    """A hook may exit with anything: its process ends, nobody else, and is started again later and later."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    started = log.with_name("started")

    @worker.on_start
    def leave() -> None:
        with started.open("a") as file:
            file.write(f"{os.getppid()}\n")
        sys.exit(asked)

    with running(fork, worker, log):
        until(lambda: log.exists() and log.read_text().count("next in") >= 3, "three deaths")
    text = log.read_text()
    for delay in ("0.1", "0.2", "0.4"):
        assert f"ended with status {status}, before its first event: see that it can start; next in {delay} s" in text
    assert len(set(started.read_text().split())) == 1, "a process went on as another parent"


def test_no_signal_cuts_the_end_short(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """What runs by ``atexit`` runs to its end, whatever signals that end a process come meanwhile."""
    worker = Worker(bus)

    @worker.on("jobs")
    def last(event: Event) -> None:
        def end() -> None:
            with bus.subscribe("go") as go:
                bus.send("done", "ends", "/", os.getpid())
                take(go)
            bus.send("done", "ended", "/")

        atexit.register(end)

    parent = fork(run_worker, worker, {"max_events": 1}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    pid = take(done).data
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    parent.kill(signal.SIGTERM)
    until(lambda: "finishes its event" in log.read_text(), "the worker to hear the signal")
    bus.send("go", "on", "/")
    assert take(done).kind == "ended"
    parent.result()
    assert "ERROR" not in log.read_text()


def test_a_forked_child_that_exits(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A child that a handler forks may end by ``sys.exit``, by an error or by coming back: event and hooks are its
    parent's."""
    worker = Worker(bus)
    worker.on_stop(lambda: bus.send("done", "stopped", "/", os.getpid()))

    @worker.on("jobs")
    def family(event: Event) -> None:
        pid = os.fork()
        if pid == 0:
            if event.data == "back":
                return
            raise SystemExit(7) if event.data == "exit" else ZeroDivisionError("in a child")
        _, status = os.waitpid(pid, 0)
        bus.send("done", "job", "/", [event.deliveries, os.waitstatus_to_exitcode(status), os.getpid()])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for data in ("exit", "error", "back"):
            bus.send("jobs", "job", "/", data)
        came = [take(done).data for _ in range(3)]
        assert [one[:2] for one in came] == [[1, 7], [1, 1], [1, 0]]
    stopped = done.receive_many(9, 0)
    assert [(event.kind, event.data) for event in stopped] == [("stopped", came[0][2])]
    assert "which a handler forked, failed" in log.read_text()
    assert "failed on" not in log.read_text()


def use_forkserver(line: Line, worker: Worker, log: Path) -> None:
    """Runs the worker in a program that has a forkserver already."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=os.getpid)
    process.start()
    process.join()
    run_worker(line, worker, {}, log)
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_a_forkserver_of_its_own(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Handlers may use a forkserver where the program used one before it ran the worker."""
    worker = Worker(bus)

    @worker.on("jobs")
    def count(event: Event) -> None:
        context = multiprocessing.get_context("forkserver")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            bus.send("done", "job", "/", list(pool.map(abs, [-1, -2])))

    parent = fork(use_forkserver, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    assert take(done).data == [1, 2]
    parent.kill(signal.SIGTERM)
    parent.result()


def print_to_full(line: Line, worker: Worker, log: Path) -> None:
    """Runs the worker in a program whose output finds no room."""
    with open("/dev/full", "w") as sys.stdout:
        sys.stdout.write("kept in its buffer")
        try:
            run_worker(line, worker, {}, log)
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def test_a_full_disk_behind_stdout(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Output that cannot be written does not keep processes from being started."""
    worker = Worker(bus)
    worker.on("jobs")(lambda event: bus.send("done", "job", "/", event.data))
    parent = fork(print_to_full, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/", 1)
    assert take(done).data == 1
    parent.kill(signal.SIGTERM)
    parent.result()
    assert "cannot be looked after" not in log.read_text()


def run_under_nohup(line: Line, worker: Worker, log: Path) -> None:
    """Runs the worker as ``nohup`` does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_worker(line, worker, {}, log)


@pytest.mark.parametrize("job", [run_under_nohup, None])
def test_nohup_holds_for_what_is_executed(fork: Fork, bus: Bus, done: Subscription, log: Path, job: Any) -> None:
    """What a handler executes ignores SIGHUP if the worker was started so, and only then."""
    worker = Worker(bus)

    @worker.on("jobs")
    def execute(event: Event) -> None:
        ended = subprocess.run(["sh", "-c", "kill -HUP $$"])
        bus.send("done", "job", "/", ended.returncode)

    parent = fork(job, worker, log) if job else fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    assert take(done).data == (0 if job else -signal.SIGHUP)
    parent.kill(signal.SIGTERM)
    parent.result()


class Unspeakable(Exception):
    """One that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad \udcff"), r"ValueError: bad \\udcff"),
        (ValueError("x" * 1_000_000), "ValueError: xxx"),
        (Unspeakable(), "Unspeakable: <no message"),
        (eventbus.Discard("bad \udcff"), r"Discard: bad \\udcff"),
        (eventbus.Discard(ValueError("as an error")), "Discard: as an error"),
    ],
)
def test_errors_that_cannot_be_sent_as_they_are(fork: Fork, bus: Bus, log: Path, error: Exception, said: str) -> None:
    """Whatever a handler raises: whoever asked is told, the dead letter is whole, and the process goes on."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, max_deliveries=1)

    @worker.on("jobs")
    def fail(event: Event) -> None:
        raise error

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        with pytest.raises(eventbus.RemoteError, match=said):
            bus.request("jobs", "job", "/", 5, timeout=DEADLINE)
        letter = take(grave).data
        assert letter["data"] == 5
        assert "traceback" in letter or "reason" in letter
    assert "ERROR" not in log.read_text()


def test_how_processes_end() -> None:
    """Each end has its words, that by a real-time signal too."""
    assert how(3) == "ended with status 3"
    assert how(-signal.SIGKILL) == "was killed by SIGKILL"
    assert how(-(signal.SIGRTMIN + 3)) == f"was killed by signal {signal.SIGRTMIN + 3}"
    assert how(None) == "ended, and somebody else has reaped it"
