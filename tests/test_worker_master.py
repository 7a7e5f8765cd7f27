"""The process that looks after a worker's: nothing but a signal ends it, and what it leaves behind ends by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import crew, post
from eventbus.workers.process import Process
from harness import Fork, Line, take, until
from pools import run_worker, running

Change = Callable[[], object]


def run_changed(line: Line, change: Change, worker: Worker, options: dict[str, int], log: Path) -> None:
    """A worker in a process where something is not as usual."""
    change()
    run_worker(line, worker, options, log)


def run_with_a_reaper(line: Line, worker: Worker, log: Path) -> None:
    """A worker in a program that waits for any child, as some supervisors do."""

    def reap() -> None:
        while True:
            try:
                os.wait()
            except ChildProcessError:
                time.sleep(0.001)

    threading.Thread(target=reap, daemon=True).start()
    run_worker(line, worker, {"processes": 2}, log)


def ignore_children() -> None:
    """As inherited from a supervisor."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@pytest.mark.parametrize("how", ["ignored", "reaped by others"])
def test_children_that_others_reap(fork: Fork, bus: Bus, done: Subscription, log: Path, how: str) -> None:
    """Their ends are seen all the same, and others take their places."""
    worker = Worker(bus, max_deliveries=9)

    @worker.on("jobs")
    def die(event: Event) -> None:
        if event.deliveries == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if event.deliveries == 2:
            os._exit(3)
        bus.send("done", "job", "/", event.deliveries)

    if how == "ignored":
        parent = fork(run_changed, ignore_children, worker, {"processes": 2}, log)
    else:
        parent = fork(run_with_a_reaper, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    for _ in range(2):
        bus.send("jobs", "job", "/")
        assert take(done).data == 3
    until(lambda: len(bus.stats().subscribers) == 3, "two processes")
    parent.kill(signal.SIGTERM)
    parent.result()
    text = log.read_text()
    assert text.count("; next in") == 4
    assert "while it was to finish" not in text


def refuse_forks(count: int, allowed: int = 0) -> Change:
    """No process can be forked, ``count`` times, after the first ones."""

    def change() -> None:
        real, tries = os.fork, iter(range(allowed + count))

        def fork() -> int:
            number = next(tries, None)
            if number is not None and number >= allowed:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return real()

        os.fork = fork

    return change


def test_forks_that_fail(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """They are tried again, later and later, and said each time."""
    worker = Worker(bus)
    worker.on("jobs")(lambda event: bus.send("done", "job", "/"))
    parent = fork(run_changed, refuse_forks(4), worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    take(done)
    parent.kill(signal.SIGTERM)
    parent.result()
    text = log.read_text()
    assert text.count("Resource temporarily unavailable") == 4
    assert "cannot be looked after: [Errno 11] Resource temporarily unavailable; next try in 0.1 s" in text
    assert "Traceback" not in text


def break_a_post() -> None:
    """The third look after a post raises, and so does the first burial."""
    real_fill, real_bury, looks = post.Post.fill, post.Post.bury, iter(range(3))
    burials = iter(range(1))

    def fill(self: post.Post, stopping: bool) -> None:
        if next(looks, None) == 2:
            raise RuntimeError("on purpose")
        real_fill(self, stopping)

    def bury(self: post.Post, dead: Process, stopping: bool) -> bool:
        if next(burials, None) == 0:
            raise RuntimeError("once more")
        return real_bury(self, dead, stopping)

    post.Post.fill, post.Post.bury = fill, bury  # type: ignore[method-assign]


def test_a_post_that_raises(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It is said, with its traceback, and tried again; the others have nothing of it."""
    worker = Worker(bus)

    @worker.on("jobs")
    def work(event: Event) -> None:
        bus.send("done", "job", "/", event.deliveries)
        if event.data == "die" and event.deliveries == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    parent = fork(run_changed, break_a_post, worker, {"processes": 2}, log)
    parent.hear()
    until(lambda: len(bus.stats().subscribers) == 3, "two processes")
    bus.send("jobs", "job", "/", "die")
    assert [take(done).data for _ in range(2)] == [1, 2]
    until(lambda: len(bus.stats().subscribers) == 3, "two processes")
    parent.kill(signal.SIGTERM)
    parent.result()
    text = log.read_text()
    assert "RuntimeError: on purpose" in text
    assert "RuntimeError: once more" in text


# --- one by one ---


def members(bus: Bus) -> set[int]:
    """The processes of the worker."""
    return {one.pid for one in bus.stats().subscribers if one.group is not None}


def test_hangup_replaces_all(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """All processes are new afterwards; there never was a moment without one, and no event came twice."""
    worker = Worker(bus)

    @worker.on("jobs")
    def work(event: Event) -> None:
        bus.send("done", "job", "/", [event.data, event.deliveries])

    @worker.on("jobs")
    def other(event: Event) -> None:
        pass

    with running(fork, worker, log, processes=2) as parent:
        until(lambda: len(members(bus)) == 4, "the processes")
        for _ in range(3):
            before = members(bus)
            parent.kill(signal.SIGHUP)
            came, number = [], 0
            while len(members(bus)) != 4 or before & members(bus):
                groups = [one.group for one in bus.stats().subscribers]
                assert {"workers.work", "workers.other"} <= set(groups)
                bus.send("jobs", "job", "/", number)
                came.append(take(done).data)
                number += 1
            assert came == [[one, 1] for one in range(number)]
    assert log.read_text().count("SIGHUP: one by one") == 3
    assert "ERROR" not in log.read_text()


def test_replacements_that_cannot_start(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Those that there are go on, all of them; the next SIGHUP tries again."""
    worker = Worker(bus)
    broken = log.with_name("broken")

    @worker.on_start
    def connect() -> None:
        if broken.exists():
            raise ConnectionError("no database")

    worker.on("jobs")(lambda event: bus.send("done", "job", "/"))
    with running(fork, worker, log, processes=2) as parent:
        until(lambda: len(members(bus)) == 2, "the processes")
        before = members(bus)
        broken.touch()
        parent.kill(signal.SIGHUP)
        until(lambda: "no further process is replaced" in log.read_text(), "the attempt to end")
        assert members(bus) == before
        bus.send("jobs", "job", "/")
        take(done)
        broken.unlink()
        parent.kill(signal.SIGHUP)
        until(lambda: len(members(bus)) == 2 and not before & members(bus), "the others")
    assert log.read_text().count("before it was ready") == 1


def test_forks_that_fail_for_a_replacement(fork: Fork, bus: Bus, log: Path) -> None:
    """Likewise."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    parent = fork(run_changed, refuse_forks(1, allowed=2), worker, {}, log)
    parent.hear()
    until(lambda: members(bus), "the process")
    before = members(bus)
    parent.kill(signal.SIGHUP)
    until(lambda: "no further process is replaced" in log.read_text(), "the attempt to end")
    assert members(bus) == before
    parent.kill(signal.SIGHUP)
    until(lambda: len(members(bus)) == 1 and not before & members(bus), "the other one")
    parent.kill(signal.SIGTERM)
    parent.result()


def test_told_to_stop_in_the_middle(fork: Fork, bus: Bus, log: Path) -> None:
    """SIGTERM while a process is replaced ends both it and its successor."""
    worker = Worker(bus)
    waits = log.with_name("waits")

    @worker.on_start
    def connect() -> None:
        if waits.exists():
            waits.with_name("begun").touch()
            until(lambda: not waits.exists(), "the end of the wait")

    worker.on("jobs")(lambda _: None)
    parent = fork(run_worker, worker, {"processes": 2}, log)
    parent.hear()
    until(lambda: len(members(bus)) == 2, "the processes")
    waits.touch()
    parent.kill(signal.SIGHUP)
    until(waits.with_name("begun").exists, "the successor to begin")
    parent.kill(signal.SIGTERM)
    until(lambda: "finishes its event" in log.read_text(), "the signal")
    waits.unlink()
    parent.result()
    assert "ERROR" not in log.read_text()


# --- the end of a terminal ---


@pytest.mark.parametrize("how", ["hung up", "told"])
def test_the_end_of_its_terminal(fork: Fork, bus: Bus, log: Path, how: str) -> None:
    """A terminal that is closed ends what runs in it; a SIGHUP that somebody sends replaces the processes."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    master, slave = pty.openpty()

    def enter() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(slave), os.O_RDWR))  # of a session's leader it becomes the terminal
        os.close(slave)
        os.close(master)

    parent = fork(run_changed, enter, worker, {}, log)
    parent.hear()
    os.close(slave)
    until(lambda: members(bus), "the process")
    before = members(bus)
    if how == "told":
        parent.kill(signal.SIGHUP)
        until(lambda: len(members(bus)) == 1 and not before & members(bus), "the other one")
        parent.kill(signal.SIGTERM)
        parent.result()
    os.close(master)
    if how == "hung up":
        parent.result()
        assert "the terminal was closed: each process finishes" in log.read_text()


def look_often() -> None:
    """As often as a test needs it."""
    crew.LOOK = 0.01


@pytest.mark.parametrize("anew", [False, True])
def test_the_bus_is_removed(fork: Fork, bus: Bus, log: Path, anew: bool) -> None:
    """Nobody can send to it any more: the worker says so, and ends; what has the name by now is another bus."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    parent = fork(run_changed, look_often, worker, {"processes": 2}, log)
    parent.hear()
    until(lambda: len(members(bus)) == 2, "the processes")
    eventbus.unlink(bus.name)
    with eventbus.open(bus.name, capacity=64 * 1024) if anew else contextlib.nullcontext():
        parent.result()
    assert "was removed, or another one has its name: each process finishes" in log.read_text()
    assert "ERROR" not in log.read_text()
