"""How each process of a worker begins and ends."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import weakref
from functools import partial
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import process
from harness import SHARED_MEMORY, Fork, Line, take, until
from pools import run_worker, running

ROOT = Path(__file__).resolve().parent.parent


def test_hooks(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Before the first event, and when the process leaves, in the loop that coroutines run in; a crash runs none."""
    worker = Worker(bus)
    notes = log.with_name("notes")
    loops = []

    def note(text: str) -> None:
        with notes.open("a") as file:
            file.write(f"{os.getpid()} {text}\n")

    @worker.on_start
    def first() -> None:
        note("first")

    @worker.on_start
    async def second() -> None:
        import asyncio

        loops.append(asyncio.get_running_loop())
        note("second")

    @worker.on_stop
    def last() -> None:
        note("last")

    @worker.on_stop
    async def before() -> None:
        import asyncio

        note(f"before {asyncio.get_running_loop() is loops[0]}")

    @worker.on("jobs")
    async def work(event: Event) -> None:
        import asyncio

        note(f"event {event.data} {asyncio.get_running_loop() is loops[0]}")
        if event.data == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        bus.send("done", "job", "/", os.getpid())

    with running(fork, worker, log, max_events=1):
        until(lambda: bus.stats().subscribers[1:], "a process")
        bus.send("jobs", "job", "/", "one")
        pid = take(done).data
        until(lambda: f"{pid} last" in notes.read_text(), "the process to leave")
    mine = [line.removeprefix(f"{pid} ") for line in notes.read_text().splitlines() if line.startswith(f"{pid} ")]
    assert mine == ["first", "second", "event one True", "before True", "last"]
    assert "cannot go on" not in log.read_text()


def test_a_start_that_fails(fork: Fork, bus: Bus, log: Path) -> None:
    """The process ends, with the traceback in the log, and is started again later; no end runs without a start."""
    worker = Worker(bus)
    stops = log.with_name("stops")

    @worker.on_start
    def connect() -> None:
        raise ConnectionError("no database")

    @worker.on_stop
    def disconnect() -> None:
        stops.touch()

    worker.on("jobs")(lambda _: None)
    with running(fork, worker, log):
        until(lambda: log.exists() and log.read_text().count("next in") >= 2, "two starts")
    assert "ConnectionError: no database" in log.read_text()
    assert not stops.exists()


def test_an_end_that_fails(fork: Fork, bus: Bus, log: Path) -> None:
    """What one hook raises keeps the others from nothing."""
    worker = Worker(bus)
    stops = log.with_name("stops")
    worker.on_stop(stops.touch)

    @worker.on_stop
    def fail() -> None:
        raise ValueError("on purpose")

    worker.on("jobs")(lambda _: None)
    with running(fork, worker, log):
        until(lambda: bus.stats().subscribers, "the process")
    assert stops.exists()
    assert "ValueError: on purpose" in log.read_text()


def test_the_end_of_a_process(fork: Fork, bus: Bus, done: Subscription, log: Path, name: str) -> None:
    """It is that of any process: threads are waited for, ``atexit`` and finalizers run, daemons end, buses are left."""
    worker = Worker(bus)
    ended = log.with_name("ended")

    def note(text: str) -> None:
        with ended.open("a") as file:
            file.write(f"{text}\n")

    def linger() -> None:
        until(lambda: "finishes its event" in log.read_text(), "the end")
        note("thread")

    @worker.on("jobs")
    def start(event: Event) -> None:
        atexit.register(note, "atexit")
        threading.Thread(target=linger).start()
        daemon = multiprocessing.get_context("fork").Process(target=threading.Event().wait, daemon=True)
        daemon.start()
        multiprocessing.util.Finalize(None, note, ("finalizer",), exitpriority=1)
        eventbus.open(f"{name}-own", capacity=64 * 1024).send("a", "b", "/")
        bus.send("done", "job", "/", daemon.pid)

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send("jobs", "job", "/")
        daemon = take(done).data
    assert sorted(ended.read_text().split()) == ["atexit", "finalizer", "thread"]
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)
    assert not list(SHARED_MEMORY.glob(f"eventbus.{name}-own.*"))


def test_an_end_that_is_told_again(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process on its way out goes all of it: another SIGTERM, as its parent's death may bring, does not end it."""
    worker = Worker(bus)
    reader, writer = os.pipe()

    def leave() -> None:
        bus.send("done", "leaves", "/", os.getpid())
        os.read(reader, 1)
        bus.send("done", "left", "/", os.getpid())

    worker.on_start(partial(atexit.register, leave))
    worker.on("jobs")(lambda _: None)
    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().subscribers[1:], "the process")
    parent.kill(signal.SIGTERM)
    pid = take(done).data
    os.kill(pid, signal.SIGTERM)
    os.write(writer, b"0")
    assert take(done).kind == "left"
    parent.result()
    os.close(reader)
    os.close(writer)


def run_with_things(line: Line, worker: Worker, log: Path) -> None:
    """A program that has things of its own, which are to be there for as long as it runs."""
    directory = tempfile.TemporaryDirectory(dir=log.parent)
    kept = weakref.finalize(worker, log.with_name("finalized").touch)
    daemon = multiprocessing.get_context("fork").Process(target=threading.Event().wait, daemon=True)
    daemon.start()
    run_worker(line, worker, {"max_events": 1}, log)
    line.say((Path(directory.name).is_dir(), kept.alive, daemon.is_alive()))
    daemon.terminate()
    daemon.join()
    directory.cleanup()


def test_what_is_the_parents(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process that leaves cleans up nothing that the program had before."""
    worker = Worker(bus)
    worker.on("jobs")(lambda event: bus.send("done", "job", "/", event.data) and None)
    parent = fork(run_with_things, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    for number in range(3):
        bus.send("jobs", "job", "/", number)
    assert [take(done).data for _ in range(3)] == [0, 1, 2]
    parent.kill(signal.SIGTERM)
    assert parent.hear() == (True, True, True)
    parent.result()
    assert not log.with_name("finalized").exists()


PROGRAM = """
    import atexit, logging, os, signal, sys, eventbus
    worker = eventbus.Worker({name!r})
    atexit.register(lambda: print("end", flush=True))

    @worker.on("jobs")
    def handle(event):
        if event.deliveries:
            os.kill(os.getppid(), signal.SIGTERM)

    bus = eventbus.open({name!r}, capacity=65536)
    bus.group("workers.handle", "jobs")
    bus.send("jobs", "job", "/")
    worker.run()
"""


@pytest.mark.release
def test_coverage_sees_the_handlers(name: str, tmp_path: Path) -> None:
    """``coverage run`` counts what runs in the processes, if it is told to look at the ends of processes."""
    (tmp_path / ".coveragerc").write_text("[run]\nparallel = true\npatch = _exit\ninclude = program.py\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM.format(name=name)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(tmp_path / ".coverage")}
    coverage = [sys.executable, "-m", "coverage"]
    ran = subprocess.run(
        [*coverage, "run", "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["end", "end"]
    subprocess.run([*coverage, "combine", "--quiet"], cwd=tmp_path, env=environment, check=True)
    report = subprocess.run([*coverage, "report"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "100%" in report.stdout.splitlines()[-1], report.stdout


def run_impatient(line: Line, worker: Worker, log: Path) -> None:
    """A worker that waits no minute for the end of its processes."""
    process.LINGER = 0.2
    run_worker(line, worker, {"max_events": 1}, log)


def test_an_end_that_never_comes(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A thread that goes on for ever keeps a process that has left, but no place of the worker's."""
    worker = Worker(bus)

    @worker.on("jobs")
    def start(event: Event) -> None:
        threading.Thread(target=threading.Event().wait).start()
        bus.send("done", "job", "/", event.deliveries)

    parent = fork(run_impatient, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    for _ in range(3):
        bus.send("jobs", "job", "/")
        assert take(done).data == 1
    parent.kill(signal.SIGTERM)
    parent.result()
    text = log.read_text()
    assert text.count("s after its last event, as a thread that is no daemon may go on") >= 2
    assert "next in" not in text
