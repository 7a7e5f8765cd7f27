"""Children that C forks, or nobody's hooks see; descriptors that somebody else closes: nothing of others is touched."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, ClosedError, FullError
from harness import DEADLINE, Fork, Line, ring_of, roster_of, take, until

LIBC_FORKS: dict[str, Callable[[], int]] = {
    "by C": lambda: int(ctypes.PyDLL(None).fork()),
    "without libc": lambda: int(ctypes.PyDLL(None).syscall(57)),  # SYS_fork on x86-64
}


def in_child(fork: Callable[[], int], call: Callable[[], object]) -> str:
    """What a child that is forked so says: the error of the call, or "nothing"."""
    read, write = os.pipe()
    if (pid := fork()) == 0:
        said = "nothing"
        try:
            call()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.parametrize("how", LIBC_FORKS)
def test_a_child_of_c_is_told_so(bus: Bus, how: str) -> None:
    """Each call on what it inherited fails with a sentence that says what happened and what to do."""
    sub, member = bus.subscribe("a"), bus.subscribe("jobs", group="g")
    bus.send("jobs", "job", "/1")
    bus.send("a", "k", "/1")
    assert take(member).path == "/1"
    calls: list[Callable[[], object]] = [
        lambda: bus.send("a", "k", "/2"),
        lambda: bus.send("new", "k", "/2"),
        lambda: bus.send_many([("a", "k", "/2")]),
        lambda: bus.subscribe("a"),
        lambda: bus.subscribe("jobs", group="g"),
        lambda: bus.group("other", "jobs"),
        lambda: bus.request("a", "k", "/p", timeout=1),
        lambda: bus.wait_for_subscribers(1),
        lambda: bus.stats(),
        lambda: bus.shutdown(),
        lambda: sub.receive(0),
        lambda: sub.receive_many(2, 0),
        lambda: next(iter(sub)),
        lambda: sub.backlog,
        lambda: member.receive(0),
        lambda: member.ack(),
        lambda: member.reject(),
    ]
    for call in calls:
        said = in_child(LIBC_FORKS[how], call)
        assert said.startswith("ClosedError: "), said
        assert "forked" in said
        assert "eventbus.open()" in said
    assert take(sub).path == "/1"
    assert bus.stats().attached == 1
    member.reject()
    assert take(member).deliveries == 2


@pytest.mark.parametrize("how", LIBC_FORKS)
def test_a_child_of_c_leaves_nothing_of_its_parents(name: str, how: str) -> None:
    """It closes, falls off its end, opens for itself: the parent's bus, slots and jobs stay as they are."""

    def close_all() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sub.close()
            member.close()
            bus.close()

    def open_anew() -> None:
        with eventbus.open(name) as own, own.subscribe("b") as heard:
            own.send("b", "k", "/own")
            assert take(heard).path == "/own"
            assert own.stats().attached == 2

    with eventbus.open(name, capacity=1 << 16) as bus, bus.subscribe("a") as sub:
        member = bus.subscribe("jobs", group="g")
        bus.send("jobs", "job", "/1")
        assert take(member).deliveries == 1
        for call in (close_all, open_anew, lambda: sys.exit(0)):
            assert in_child(LIBC_FORKS[how], call) in ("nothing", "SystemExit: 0")
            assert ring_of(name).exists()
            assert roster_of(name).exists()
            bus.send("a", "k", "/after")
            assert take(sub).path == "/after"
            assert {one.name for one in bus.stats().subscribers} == {sub.name, member.name}
        other = bus.subscribe("jobs", group="g")
        assert other.receive(0.1) is None  # the job is still the first one's
        other.close()
        member.close()


def fork_a_helper_and_die(line: Line, name: str, how: str) -> None:
    """Subscribes, forks a helper that lives on, and is killed."""
    bus = eventbus.open(name)
    sub = bus.subscribe("a")
    helper = LIBC_FORKS[how]()
    if helper == 0:
        os.close(0)
        while True:
            signal.pause()
    line.say(helper)
    line.hear()
    sub.close()


def fill(bus: Bus) -> None:
    """Sends more than the ring holds."""
    for _ in range(200):
        bus.send("a", "k", "/p", "x" * 100, timeout=0.1)


@pytest.mark.parametrize("how", LIBC_FORKS)
def test_a_helper_that_outlives_its_parent(fork: Fork, name: str, how: str) -> None:
    """The parent's death is seen all the same; or, where the kernel lets the helper keep its locks, it is named."""
    with eventbus.open(name, capacity=4096) as bus:
        victim = fork(fork_a_helper_and_die, name, how)
        helper = victim.hear()
        bus.wait_for_subscribers(1, timeout=DEADLINE)
        victim.kill()
        try:
            if how == "by C":
                for _ in range(200):
                    bus.send("a", "k", "/p", "x" * 100, timeout=5)
                assert bus.stats().attached == 1
            else:
                with pytest.raises(FullError, match=f"{helper}, forked from it without libc"):
                    fill(bus)
        finally:
            os.kill(helper, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{helper}").exists() or _is_zombie(helper), "the helper's end")
        for _ in range(200):
            bus.send("a", "k", "/p", "x" * 100, timeout=5)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class Boom(Exception):
    """What a handler raises."""


def fork_and_be_interrupted(_: Line, name: str) -> int:
    """Forks again and again; how often the handler raised. It leaves locks of other modules, whose hooks are in Python.

    Nobody is left over, and no child took its parent's descriptors for its own.
    """

    def raise_boom(*_: object) -> None:
        raise Boom

    signal.signal(signal.SIGALRM, raise_boom)
    sys.unraisablehook = lambda _: None
    with eventbus.open(name) as bus:
        handle, pid, interrupted = bus._handle, os.getpid(), 0
        assert handle is not None
        mine = handle.roster_fd
        for number in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + number * 3e-6)
                os.fork()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Boom:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            if os.getpid() != pid:
                os._exit(int(handle.roster_fd == mine))
            with contextlib.suppress(ChildProcessError):
                while True:
                    assert os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) == 0
        other = threading.Thread(target=lambda: bus.subscribe("a").close(), daemon=True)
        other.start()
        other.join(DEADLINE)
        assert not other.is_alive()
        return interrupted


def test_a_signal_in_a_fork(fork: Fork, bus: Bus) -> None:
    """Whatever a handler raises while Python forks, the child has an attachment of its own, and no lock is left."""
    assert fork(fork_and_be_interrupted, bus.name).result() > 0
    assert bus.stats().attached == 1


@pytest.mark.release  # AddressSanitizer of gcc 12 hangs in a child that is forked while another thread allocates
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forks_while_others_subscribe_and_close(name: str) -> None:
    """A child that is forked in any moment of its parent's subscribing and closing keeps no slot of it."""
    with eventbus.open(name, capacity=1 << 16, max_subscribers=8) as bus:
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                bus.subscribe("a").close()

        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        read, write = os.pipe()
        pids = []
        for _ in range(60):
            if (pid := os.fork()) == 0:
                os.close(write)
                os.read(read, 1)  # until the parent has ended the line
                os._exit(0)
            pids.append(pid)
            time.sleep(0.001)  # for the threads to be somewhere else next time
        stop.set()
        for thread in threads:
            thread.join()
        subs = [bus.subscribe("a") for _ in range(8)]
        assert len(bus.stats().subscribers) == 8
        os.close(write)
        for pid in pids:
            os.waitpid(pid, 0)
        os.close(read)
        for sub in subs:
            sub.close()


# --- descriptors that somebody else closed ---


def closed_underneath(_: Line, name: str) -> list[str]:
    """What the calls say after another library has closed all descriptors; what became of files opened since."""
    bus = eventbus.open(name, capacity=1 << 16)
    sub, member = bus.subscribe("a"), bus.subscribe("jobs", group="g")
    bus.send("a", "k", "/1")
    bus.send("jobs", "k", "/1")
    assert member.receive(0) is not None
    os.closerange(3, 64)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    said = []
    for call in (
        lambda: bus.send("new", "k", "/c"),
        lambda: bus.send("a", "k", "/c"),
        lambda: bus.subscribe("b"),
        bus.stats,
        lambda: bus.wait_for_subscribers(1),
        lambda: sub.backlog,
        lambda: [sub.receive(1) for _ in range(3)],
    ):
        try:
            said.append(f"{call()}")
        except ClosedError as error:
            said.append(error.message)
    member.close()
    sub.close()
    bus.close()
    for file in files:
        os.fstat(file)
        os.close(file)
    with eventbus.open(name, capacity=1 << 16) as again, again.subscribe("a") as heard:
        again.send("a", "k", "/again")
        assert take(heard).path == "/again"
    return said


def test_descriptors_closed_underneath(fork: Fork, name: str) -> None:
    """Each call says so and what to do, no foreign descriptor is touched, and the bus can be opened again."""
    pid = os.fork()
    if pid == 0:
        read, write = os.pipe()
        os.dup2(read, 100)
        os.dup2(write, 101)
        try:
            said = closed_underneath(None, name)  # type: ignore[arg-type]
            assert all("closed underneath" in one and "eventbus.open()" in one for one in said), said
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not roster_of(name).exists()
