"""What runs in the middle of something else: destructors, signal handlers, other threads, another interpreter."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, UnavailableError
from eventbus.core import native, segment
from harness import DEADLINE, Fork, Line, take

EVENTS = 6
ALLOCATIONS = 24  # of a call: at each of them the collector comes once
SPARE_LISTS = 500  # more than CPython keeps to give out without an allocation


class Eater:
    """Garbage that takes events as it goes."""

    def __init__(self, taken: list[Event], ready: Iterator[Event]) -> None:
        self.me, self.taken, self.ready = self, taken, ready

    def __del__(self) -> None:
        self.taken.extend(self.ready)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from CPython 3.12 on, nothing is collected within a call")
@pytest.mark.parametrize("again", [False, True], ids=["fresh", "put back"])
def test_a_destructor_that_takes_what_is_being_taken(bus: Bus, again: bool) -> None:
    """Each event goes to the destructor or to whoever it interrupted, whenever the collector comes."""
    sub = bus.subscribe("a")
    gc.collect()
    threshold = gc.get_threshold()
    for allocation in range(ALLOCATIONS):
        for number in range(EVENTS):
            bus.send("a", "k", "/", number)
        first = [take(sub)]
        sub._ready.put_back(first)
        if again:
            sub._ready.put_back(sub.receive_many(EVENTS))
        eaten: list[Event] = []
        Eater(eaten, sub._ready)
        spare: list[list[object]] = [[] for _ in range(SPARE_LISTS)]
        gc.disable()
        gc.set_threshold(max(1, gc.get_count()[0] + allocation - 2))
        gc.enable()
        try:
            events = sub.receive_many(EVENTS, 0)
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        rest = sub.receive_many(EVENTS, 0) if len(events) + len(eaten) < EVENTS else []
        assert sorted(event.data for event in events + eaten + rest) == list(range(EVENTS)), len(spare)


class Sleeper:
    """Garbage that lets other threads run as it goes."""

    def __init__(self, begun: threading.Event) -> None:
        self.me, self.begun = self, begun

    def __del__(self) -> None:
        self.begun.set()
        time.sleep(0.02)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from CPython 3.12 on, nothing is collected within a call")
def test_one_thread_waits_while_another_takes(bus: Bus) -> None:
    """Who receives while another thread is in the middle of taking several gets an event, and not the end."""
    sub = bus.subscribe("a")
    threshold = gc.get_threshold()
    for allocation in range(ALLOCATIONS):
        for number in range(EVENTS):
            bus.send("a", "k", "/", number)
        take(sub)
        gc.collect()
        begun = threading.Event()
        Sleeper(begun)

        def take_some(threshold_now: int = allocation + 1, begun: threading.Event = begun) -> None:
            gc.set_threshold(threshold_now)
            sub.receive_many(2, 0)
            gc.set_threshold(*threshold)
            begun.set()

        thread = threading.Thread(target=take_some)
        thread.start()
        begun.wait()
        assert sub.receive(5) is not None
        thread.join()
        sub.receive_many(EVENTS, 0)


def during_the_opening(monkeypatch: pytest.MonkeyPatch, call: object) -> None:
    """Once, a signal handler makes the call while this thread is behind the door."""
    settle = segment._settle
    signal.signal(signal.SIGUSR1, lambda *_: call())  # type: ignore[operator]

    def settle_and_signal(*arguments: object) -> bool:
        monkeypatch.setattr(segment, "_settle", settle)
        os.kill(os.getpid(), signal.SIGUSR1)
        return settle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(segment, "_settle", settle_and_signal)


def test_a_handler_sends_while_the_default_bus_is_opened(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It gets an error at once, as it waits for itself; whoever it interrupted goes on."""
    monkeypatch.setenv("EVENTBUS_NAME", name)
    raised: list[UnavailableError] = []

    def send() -> None:
        with pytest.raises(UnavailableError) as caught:
            eventbus.send("a", "b", "/c")
        raised.append(caught.value)

    before = signal.getsignal(signal.SIGUSR1)
    during_the_opening(monkeypatch, send)
    monkeypatch.setattr(native, "LOCK_SECONDS", 2 * DEADLINE)
    begun = time.monotonic()
    assert eventbus.send("a", "b", "/c")
    assert time.monotonic() - begun < DEADLINE
    assert len(raised) == 1
    signal.signal(signal.SIGUSR1, before)
    eventbus.default_bus().close()


@pytest.mark.filterwarnings("ignore:unclosed bus:ResourceWarning")
def test_two_threads_collect_each_other_s_bus_while_they_open(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a door while it is behind another one."""
    names = {f"{name}-x": f"{name}-y", f"{name}-y": f"{name}-x"}
    dropped = {one: [eventbus.open(one, capacity=4096)] for one in names}
    kept = [eventbus.open(one) for one in names]
    together, settle = threading.Barrier(2), segment._settle

    def settle_and_drop(one: str, *arguments: object) -> bool:
        together.wait()
        dropped[names[one]].clear()
        return settle(one, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(segment, "_settle", settle_and_drop)
    monkeypatch.setattr(native, "LOCK_SECONDS", 2 * DEADLINE)
    begun = time.monotonic()
    threads = [threading.Thread(target=lambda one=one: eventbus.open(one).close()) for one in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < DEADLINE
    assert [one.stats().attached for one in kept] == [1, 1]
    for one in kept:
        one.close()


def test_a_bus_is_closed_while_threads_subscribe(bus: Bus) -> None:
    """They find it closed, and who closes it does not fail because of them."""
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(40):
            closing = eventbus.open(bus.name)
            threads = [threading.Thread(target=subscribe_until_closed, args=(closing,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.002)
            closing.close()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(switching)
    assert bus.stats().subscribers == ()


def subscribe_until_closed(bus: Bus) -> None:
    """Subscribes and forgets, again and again."""
    kept: list[object] = []
    try:
        while True:
            kept = [*kept[-8:], bus.subscribe("a")]
    except ClosedError:
        pass


def lose_descriptors(line: Line, name: str, how: str) -> str:
    """A member with an event in hand whose descriptors are closed underneath, and who leaves when it is told."""
    bus = eventbus.open(name)
    sub = bus.subscribe("jobs", group="workers")
    take(sub)
    for fd in sorted(os.listdir("/proc/self/fd")):
        if os.path.realpath(f"/proc/self/fd/{fd}").endswith(f"{name}.roster"):
            os.close(int(fd))
    line.say("lost")
    line.hear()
    try:
        sub.leave(how == "done")
    except ClosedError as error:
        return error.message
    return ""


@pytest.mark.parametrize("how", ["done", "not done"])
def test_a_member_without_its_descriptors_touches_nobody_s_claim(fork: Fork, bus: Bus, how: str) -> None:
    """It counts as dead: what it had in hand is another member's, who goes on with it, whatever the first one says."""
    bus.group("workers", "jobs")
    for number in range(3):
        bus.send("jobs", "job", "/", number)
    child = fork(lose_descriptors, bus.name, how)
    child.hear()
    with bus.subscribe("jobs", group="workers") as sub:
        while (event := take(sub)).deliveries == 1:
            sub.reject()
            time.sleep(0.02)
        assert event.data == 0
        child.say()
        assert ("descriptors were closed underneath" in child.result()) == (how == "done")
        assert sorted(take(sub).data for _ in range(2)) == [1, 2]
        assert sub.receive(0) is None


def test_a_stranger_opens_the_same_file_as_our_number(bus: Bus) -> None:
    """It is not taken for ours, whose locks have gone, and stays open."""
    robbed = eventbus.open(bus.name)
    assert robbed._handle is not None
    number = robbed._handle.roster_fd
    stranger = os.open(f"/dev/shm/eventbus.{bus.name}.roster", os.O_RDWR)
    os.dup2(stranger, number)
    os.close(stranger)
    with pytest.raises(ClosedError, match="closed underneath"):
        robbed.send("a", "b", "/c")
    robbed.close()
    os.close(number)


SECOND = """
import sys, eventbus
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    sys.exit(77)
with eventbus.open(sys.argv[1]) as bus, bus.subscribe("a") as sub:
    try:
        second = interpreters.create(isolated=False)
        interpreters.run_string(second, f"import sys; sys.path[:] = {sys.path}; import eventbus")
    except interpreters.RunFailedError as error:
        print(error)
    bus.send("a", "b", "/c")
    print(isinstance(sub.receive(1), eventbus.Event))
"""


@pytest.mark.release
def test_a_second_interpreter(name: str) -> None:
    """It is refused with a sentence, and the first one's events stay its own."""
    command = [sys.executable, "-c", SECOND, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip("this Python has no module that makes interpreters")
    refused, own = done.stdout.splitlines()
    assert "ImportError" in refused
    assert "another interpreter of this process" in refused
    assert own == "True"
