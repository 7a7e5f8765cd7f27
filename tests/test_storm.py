"""Signal handlers that raise while a bus is opened, joined, asked, closed: afterwards all is as if they had not."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import eventbus
from eventbus import Bus, EventBusError
from eventbus.core.inspection import inspect_bus
from harness import SHARED_MEMORY, Fork, Line

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed bus:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # raised in a weakref's callback
]

ROUNDS = 2000
LONGEST = 300e-6  # seconds until the signal comes, at most

Call = Callable[[Bus, str], object]


class Boom(Exception):
    """What the handler raises."""


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], bool]]:
    """Makes the call, which a handler interrupts after a random time; whether it did.

    Python may run the handler late, once the call has returned, as seen on a busy host: then it interrupts nobody.
    """
    generator = random.Random(7)
    calling = False

    def raise_boom(*_: object) -> None:
        if calling:
            raise Boom

    def call_interrupted(call: Callable[[], object]) -> bool:
        nonlocal calling
        calling = True
        try:
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-6, LONGEST))
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Boom:
            return True
        finally:
            with contextlib.suppress(Boom):
                signal.setitimer(signal.ITIMER_REAL, 0)
                calling = False
            calling = False
        return False

    before = signal.signal(signal.SIGALRM, raise_boom)
    yield call_interrupted
    signal.signal(signal.SIGALRM, before)


def open_and_close(_: Bus, name: str) -> None:
    """A bus that nobody else has."""
    eventbus.open(f"{name}-alone", capacity=4096, max_subscribers=4).close()


def open_another(_: Bus, name: str) -> None:
    """The bus, once more."""
    eventbus.open(name).close()


def open_to_stay(_: Bus, name: str) -> None:
    """A bus that outlives its last process."""
    eventbus.open(f"{name}-kept", capacity=4096, max_subscribers=4, persist=True).close()


def subscribe(bus: Bus, _: str) -> None:
    """A subscription, there and away."""
    bus.subscribe("a.**").close()


def join(bus: Bus, _: str) -> None:
    """A member, and the group if there is none."""
    bus.subscribe("jobs", group="g").close()


def make_group(bus: Bus, _: str) -> None:
    """A group."""
    bus.group("other", "jobs")


def make_and_remove_group(bus: Bus, _: str) -> None:
    """A group, and its end, if nobody was interrupted between the two."""
    bus.group("short", ["jobs", "more"])
    bus.remove_group("short")


def ask(bus: Bus, _: str) -> None:
    """A request that nobody answers."""
    with contextlib.suppress(EventBusError):
        bus.request("a", "k", "/p", timeout=0)


def send(bus: Bus, _: str) -> None:
    """An event."""
    bus.send("a", "k", "/p", 1)


def look(_: Bus, name: str) -> None:
    """What ``eventbus ls`` does."""
    inspect_bus(name)


def descriptors() -> int:
    """How many there are, the one that lists them included."""
    return len(os.listdir("/proc/self/fd"))


def mappings(name: str) -> int:
    """How many there are of the bus of a test, in this process."""
    return Path("/proc/self/maps").read_text().count(f"/eventbus.{name}.")


def segments(name: str) -> set[str]:
    """What there is of the buses of a test."""
    return {path.name for path in SHARED_MEMORY.glob(f"eventbus.{name}*")}


CALLS: list[Call] = [
    open_and_close,
    open_another,
    open_to_stay,
    subscribe,
    join,
    make_group,
    make_and_remove_group,
    ask,
    send,
    look,
]


def who_listens(bus: Bus) -> list[tuple[str, str]]:
    """Who has a slot, and for what."""
    return [(one.name, one.system) for one in bus.stats().subscribers]


@pytest.mark.parametrize("call", CALLS)
def test_a_storm_leaves_nothing(name: str, call: Call, interrupted: Callable[[Callable[[], object]], bool]) -> None:
    """Thousands of times interrupted, no slot, descriptor, segment or lock is left that nobody owns."""
    with eventbus.open(name, capacity=1 << 16, max_subscribers=8) as bus:
        call(bus, name)
        before, there, listening = descriptors(), segments(name), who_listens(bus)
        hits = sum(interrupted(lambda: call(bus, name)) for _ in range(ROUNDS))
        while not hits:  # one may be over before any signal comes
            hits += interrupted(lambda: [call(bus, name) for _ in range(100)])
        gc.collect()
        assert who_listens(bus) == listening
        assert bus.stats().attached == 1
        assert descriptors() == before
        assert segments(name) == there
        call(bus, name)
        with eventbus.open(name) as other, other.subscribe("**") as sub:
            for _ in range(20 if bus.stats().groups else 2000):  # more than the ring holds: nobody stands in the way
                other.send("a", "k", "/p", "x" * 100, timeout=1)
                assert sub.receive(1) is not None
    with contextlib.suppress(FileNotFoundError):
        eventbus.unlink(f"{name}-kept")


def test_a_storm_leaves_no_memory(name: str, interrupted: Callable[[Callable[[], object]], bool]) -> None:
    """However often a subscription was interrupted in its making, a bus that was left is mapped no more."""
    for _ in range(5):
        bus = eventbus.open(name, capacity=4096, max_subscribers=8)
        for _ in range(ROUNDS // 2):
            interrupted(lambda bus=bus: subscribe(bus, ""))  # type: ignore[misc]
        bus.close()
        del bus
        gc.collect()
        assert mappings(name) == 0


def test_a_bus_that_is_dropped_leaves_though_its_finalizer_is_interrupted(bus: Bus) -> None:
    """A handler that raises as the finalizer begins keeps nobody attached."""
    raised: list[object] = []

    def raise_boom(frame: FrameType, *_: object) -> None:
        if frame.f_code is weakref.finalize.__call__.__code__ and not raised:
            raised.append(frame.f_code)
            raise Boom

    dropped = [eventbus.open(bus.name)]
    before = sys.gettrace()
    sys.settrace(raise_boom)
    try:
        dropped.clear()
    finally:
        sys.settrace(before)
    assert raised
    assert bus.stats().attached == 1


def open_when_told(line: Line, name: str) -> None:
    """Opens and leaves the bus each time it is told to."""
    while line.hear():
        with eventbus.open(name):
            line.say("opened")


@pytest.mark.parametrize("what", ["close", "open"])
def test_the_door_is_open_while_the_exception_is_handled(
    fork: Fork, name: str, what: str, interrupted: Callable[[Callable[[], object]], bool]
) -> None:
    """Others open and leave the bus as soon as the interrupted call has ended, whatever becomes of the exception."""
    kept: list[Bus] = []
    with eventbus.open(name, capacity=4096):
        other = fork(open_when_told, name)
        hits = 0
        while hits < 100:
            if what == "close":
                kept.append(eventbus.open(name))
            if interrupted(kept[0].close if what == "close" else lambda: kept.append(eventbus.open(name))):
                hits += 1
                other.say(True)
                assert other.hear() == "opened"
            while kept:
                kept.pop().close()
        other.say(False)
        other.result()


def test_a_close_that_was_interrupted_can_be_done_again(
    name: str, interrupted: Callable[[Callable[[], object]], bool]
) -> None:
    """Closed once more, a bus has left, and the last one out has removed the segments."""
    for _ in range(300):
        bus = eventbus.open(name, capacity=4096, max_subscribers=4)
        bus.subscribe("a")
        interrupted(bus.close)
        bus.close()
        assert not bus.attached
        assert segments(name) == set()


def test_a_storm_in_many_threads(bus: Bus, interrupted: Callable[[Callable[[], object]], bool]) -> None:
    """Other threads subscribe and send as if nobody were interrupted."""
    stop, failures = threading.Event(), list[BaseException]()

    def keep_busy() -> None:
        try:
            while not stop.is_set():
                with bus.subscribe("b") as sub:
                    bus.send("b", "k", "/p", 1)
                    assert sub.receive(5) is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    hits = sum(interrupted(lambda: subscribe(bus, "")) for _ in range(ROUNDS // 4))
    while not hits:
        hits += interrupted(lambda: subscribe(bus, ""))
    stop.set()
    for thread in threads:
        thread.join()
    gc.collect()
    assert failures == []
    assert bus.stats().subscribers == ()


SOON = 5e-3  # seconds, which are more than a handler takes


class Halt(BaseException):
    """What the handler raises at the start of a pool: ``logging`` takes no notice of an ``Exception``."""


def start_and_be_interrupted(line: Line, name: str) -> int:
    """Starts a pool again and again, which a handler that is none of the pool's interrupts; how often it did."""
    generator, hits = random.Random(3), 0

    def try_again(unraisable: sys.UnraisableHookArgs) -> None:
        """No exception leaves a hook of forks or of the collector, a callback of a weak reference, a destructor."""
        if unraisable.exc_type is Halt:
            signal.setitimer(signal.ITIMER_REAL, SOON)

    def raise_halt(_: int, frame: FrameType | None) -> None:
        """Nor does one leave the hook above."""
        while frame is not None and frame.f_code is not try_again.__code__:
            frame = frame.f_back
        if frame is None:
            raise Halt
        signal.setitimer(signal.ITIMER_REAL, SOON)

    sys.unraisablehook = try_again
    signal.signal(signal.SIGALRM, raise_halt)
    with eventbus.open(name, capacity=1 << 16, max_subscribers=8) as bus:
        worker = eventbus.Worker(bus)
        worker.on("jobs")(lambda event: None)
        before = descriptors()
        for _ in range(40):
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-4, 2e-2))
            try:
                worker.run(processes=2)
            except Halt:
                hits += 1
            assert descriptors() == before
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, 0)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert bus.stats().subscribers == ()
        assert bus.stats().attached == 1
    return hits


def test_a_storm_at_the_start_of_a_pool(fork: Fork, name: str) -> None:
    """A pool that is interrupted as it starts leaves no process, no descriptor, no handler and no member."""
    assert fork(start_and_be_interrupted, name).result() == 40
