"""What handlers, and the program around a worker, start themselves: they are children of an ordinary process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventbus import Bus, Event, Subscription, Worker
from harness import DEADLINE, Fork, Line, patiently, take, until
from pools import run_worker, running

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STATUS = "import sys; print(*(line for line in open('/proc/self/status') if line.startswith('Sig')), sep='')"


def dispositions(text: str) -> dict[str, int]:
    """The masks of ``/proc/<pid>/status`` that are blocked, ignored and caught."""
    rows = dict(line.split(":") for line in text.splitlines() if ":" in line)
    return {name: int(rows[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")}


def of_a_program() -> dict[str, int]:
    """What a program has that this process executes."""
    return dispositions(subprocess.run([sys.executable, "-c", STATUS], capture_output=True, text=True).stdout)


def in_a_fork() -> str:
    """What a child of this process has: handlers, the signals that are blocked, the wake-up descriptor, the group."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        handlers = [getattr(signal.getsignal(one), "__name__", signal.getsignal(one)) for one in SIGNALS]
        os.write(writer, repr((handlers, blocked, signal.set_wakeup_fd(-1), os.getpgrp())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    seen = os.read(reader, 4096).decode()  # once, as others may have inherited the other end
    os.close(reader)
    os.close(writer)
    return seen


def terminated_at_once(count: int) -> list[int]:
    """How children end that are told to at whatever moment of their beginning."""
    ends = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            threading.Event().wait()
        for _ in range(number % 50):
            os.getppid()  # a moment later each time
        os.kill(pid, signal.SIGTERM)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return ends


def with_a_pool() -> str:
    """A pool that is given up in the middle of a job, which ends its processes by SIGTERM."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        began = pool.apply_async(time.sleep, (600,))
        with pytest.raises(multiprocessing.TimeoutError):
            began.get(timeout=0.05)
    return "given up"


def with_an_executor() -> list[int]:
    """Jobs in processes of its own."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        return list(executor.map(abs, (-1, -2)))


WHAT: dict[str, Callable[[], Any]] = {
    "a program": of_a_program,
    "a fork": in_a_fork,
    "children that are told to end at once": lambda: terminated_at_once(200),
    "a pool that is given up": with_a_pool,
    "an executor": with_an_executor,
}


@pytest.mark.parametrize("what", WHAT)
def test_children_of_a_handler(fork: Fork, bus: Bus, done: Subscription, log: Path, what: str) -> None:
    """They are what they are without a worker."""
    expected = fork(lambda line: repr(WHAT[what]())).result()
    worker = Worker(bus)

    @worker.on("jobs")
    def start(event: Event) -> None:
        bus.send("done", "job", "/", repr(WHAT[what]()))

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send("jobs", "job", "/")
        assert take(done).data == expected
    assert "failed" not in log.read_text()


def run_beside(line: Line, bus: Bus, worker: Worker, log: Path, what: str) -> None:
    """A worker in a program whose other thread starts children of its own, once the worker's are there: what is forked
    in the middle of ``Popen`` inherits the end of its pipe."""

    def start() -> None:
        until(lambda: bus.stats().subscribers, "the process")
        line.say(repr(WHAT[what]()))

    thread = threading.Thread(target=start)
    thread.start()
    run_worker(line, worker, {}, log)
    thread.join()


@pytest.mark.parametrize("what", WHAT)
def test_children_of_the_program(fork: Fork, bus: Bus, log: Path, what: str) -> None:
    """Likewise, and what happens to them is nothing to the worker."""
    expected = fork(lambda line: repr(WHAT[what]())).result()
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    parent = fork(run_beside, bus, worker, log, what)
    parent.hear()
    assert parent.hear() == expected
    assert "finishes its event" not in log.read_text()
    parent.kill(signal.SIGTERM)
    parent.result()


def test_a_child_in_another_group(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Ctrl-C in a terminal goes to the process group: a child that made one of its own is left alone, as ever."""
    worker = Worker(bus)

    @worker.on("jobs")
    def start(event: Event) -> None:
        arguments = [sys.executable, "-c", "import os; print(os.getpgrp() == os.getpid())"]
        apart = subprocess.run(arguments, capture_output=True, text=True, start_new_session=True).stdout
        beside = subprocess.run(arguments, capture_output=True, text=True).stdout
        bus.send("done", "job", "/", [apart.strip(), beside.strip()])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send("jobs", "job", "/")
        assert take(done).data == ["True", "False"]


def hang_with_children(bus: Bus) -> None:
    """Two children, one of them with a session of its own, and no end."""
    with subprocess.Popen(["sleep", "600"]) as near, subprocess.Popen(["sleep", "600"], start_new_session=True) as far:
        bus.send("done", "hangs", "/", [os.getpid(), near.pid, far.pid])
        time.sleep(600)


def is_gone(pid: int) -> bool:
    """Whether it has ended; one that nobody reaped is no more, either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_handler_that_hangs(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """After its ``timeout`` the process is killed with what it has started, and the event delivered again, counted."""

    def end_it(timeout: float) -> bool:
        worker = Worker(bus)

        @worker.on("jobs", timeout=timeout)  # time enough to start its children
        def hang(event: Event) -> None:
            if event.deliveries == 1:
                hang_with_children(bus)
            bus.send("done", "again", "/", event.deliveries)

        with running(fork, worker, log, processes=2):
            until(lambda: bus.stats().groups, "the group")
            bus.send("jobs", "job", "/")
            first = take(done)
            if first.kind == "again":
                return False
            pid, near, far = first.data
            again = take(done)
            assert again.kind == "again"
            until(lambda: is_gone(pid) and is_gone(near), "the processes to be gone")
            assert not is_gone(far)
            os.kill(far, signal.SIGKILL)
        number = first.sequence - 1
        assert f"hang hung for more than {timeout:g} s on event {number}: process {pid} is killed" in log.read_text()
        return bool(again.data == 2)

    patiently(end_it, 2)


def test_a_handler_that_takes_its_time(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """The time is that of each event, not of all."""
    worker = Worker(bus)

    @worker.on("jobs", timeout=DEADLINE)
    def short(event: Event) -> None:
        bus.send("done", "job", "/", os.getpid())

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for _ in range(20):
            bus.send("jobs", "job", "/")
        assert len({take(done).data for _ in range(20)}) == 1
