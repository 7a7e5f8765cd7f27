"""Threads and signal handlers of one process on one bus."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, FullError, Subscription
from harness import patiently, sealed, unsealed, until

PATIENCE = 30.0


class Thread(threading.Thread):
    """A thread whose result or exception is the test's."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.start()

    def run(self) -> None:
        """Keeps what the call returned or raised."""
        self.returned: object = None
        self.raised: BaseException | None = None
        try:
            self.returned = self._call()
        except BaseException as error:
            self.raised = error

    def result(self) -> object:
        """What it returned; raises what it raised."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"
        if self.raised is not None:
            raise self.raised
        return self.returned


def asleep(bus: Bus) -> None:
    """Waits until a receiver of the bus sleeps."""
    until(lambda: any(one.sleeping for one in bus.stats().subscribers), "a receiver that sleeps")


def fill(bus: Bus) -> int:
    """Sends until the ring has no room for one more like these; how many events that took."""
    for number in range(1 << 20):
        try:
            bus.send("load", "event", "/load", "x" * 200, timeout=0)
        except FullError:
            return number
    raise AssertionError("the ring is never full")


def test_many_threads_send(bus: Bus) -> None:
    """Eight threads send on one Bus: every event is there once, in each thread's order."""

    def publish(thread: int) -> None:
        for number in range(500):
            bus.send("load", "event", "/load", sealed(thread, number))

    with bus.subscribe("**") as sub:
        threads = [Thread(lambda thread=thread: publish(thread)) for thread in range(8)]  # type: ignore[misc]
        next_of = [0] * 8
        for _ in range(4000):
            thread, number = unsealed(sub.receive(PATIENCE))
            assert number == next_of[thread]
            next_of[thread] += 1
        for one in threads:
            one.result()
    assert bus.stats().sent == 4000


def test_many_threads_receive(bus: Bus) -> None:
    """Four threads that receive on one subscription share its events: each goes to one of them, in its order."""
    with bus.subscribe("load") as sub:
        shares: list[list[int]] = [[] for _ in range(4)]

        def receive(share: list[int]) -> None:
            share.extend(event.sequence for event in sub)

        threads = [Thread(lambda share=share: receive(share)) for share in shares]  # type: ignore[misc]
        for number in range(3000):
            bus.send("load", "event", "/load", number)
        until(lambda: sub.backlog == 0, "all events to be received")
        bus.shutdown()
        for thread in threads:
            thread.result()
    assert all(share == sorted(share) for share in shares)
    assert sorted(sequence for share in shares for sequence in share) == list(range(1, 3001))


@pytest.mark.parametrize("receivers", [1, 3])
def test_close_wakes_receivers(bus: Bus, receivers: int) -> None:
    """Closing a subscription ends the `receive` that blocks in other threads, with None."""
    sub = bus.subscribe("**")
    threads = [Thread(sub.receive) for _ in range(receivers)]
    asleep(bus)
    sub.close()
    assert [thread.result() for thread in threads] == [None] * receivers
    assert sub.closed


def test_closing_the_bus_wakes_receivers(bus: Bus) -> None:
    """Closing the bus ends the `receive` that blocks in another thread, with None."""
    sub = bus.subscribe("**")
    thread = Thread(sub.receive)
    asleep(bus)
    bus.close()
    assert thread.result() is None


def test_shutdown_wakes_receivers(bus: Bus) -> None:
    """A shutdown ends the iteration that blocks in another thread, after the last event."""
    with bus.subscribe("**") as sub:
        thread = Thread(lambda: [event.data for event in sub])
        bus.send("a", "b", "/c", 1)
        asleep(bus)
        bus.shutdown()
        assert thread.result() == [1]


def test_closing_the_bus_ends_a_blocked_send(bus: Bus) -> None:
    """A `send` that waits for room in another thread ends with ClosedError when the bus is closed here."""
    with eventbus.open(bus.name) as other, other.subscribe("**"):
        fill(bus)
        thread = Thread(lambda: bus.send("load", "event", "/load", "x" * 200, timeout=None))
        bus.close()
        with pytest.raises(ClosedError):
            thread.result()


def test_closing_the_subscription_frees_a_blocked_send(bus: Bus) -> None:
    """A `send` that waits for room goes on when whoever holds it back closes."""
    sub = bus.subscribe("**")
    fill(bus)
    thread = Thread(lambda: bus.send("load", "event", "/load", "x" * 200, timeout=None))
    sub.close()
    assert thread.result() is True


def test_shutdown_ends_a_blocked_send(bus: Bus) -> None:
    """A `send` that waits for room ends with ClosedError when the bus is shut down, and what was sent is drained."""
    with bus.subscribe("**") as sub:
        sent = fill(bus)
        thread = Thread(lambda: bus.send("load", "event", "/load", "x" * 200, timeout=None))
        bus.shutdown()
        with pytest.raises(ClosedError):
            thread.result()
        assert len(list(sub)) == sent


def test_closing_the_bus_ends_a_wait_for_subscribers(bus: Bus) -> None:
    """A wait for subscribers ends with ClosedError when the bus is closed here."""
    thread = Thread(lambda: bus.wait_for_subscribers(1))
    bus.close()
    with pytest.raises(ClosedError):
        thread.result()


def test_a_subscriber_ends_a_wait_for_subscribers(bus: Bus) -> None:
    """A wait for subscribers ends when the last that is needed has come, and one that hears something else is none."""
    thread = Thread(lambda: bus.wait_for_subscribers(2, "orders.eu", timeout=PATIENCE))
    with bus.subscribe("orders.*"), bus.subscribe("users"), bus.subscribe("**"):
        assert thread.result() is True


@contextmanager
def alarm(handler: Callable[[], object], every: float = 0.02) -> Iterator[None]:
    """Calls the handler by a signal, once or again and again."""

    def ring(number: int, frame: FrameType | None) -> None:
        handler()

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.02, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def test_ctrl_c_ends_a_receive(bus: Bus) -> None:
    """Ctrl-C ends a `receive` without a timeout, and the subscription is as good as before."""
    with bus.subscribe("**") as sub:
        with pytest.raises(KeyboardInterrupt), alarm(interrupt, every=0):
            sub.receive(None)
        bus.send("a", "b", "/c", 1)
        event = sub.receive(0)
        assert isinstance(event, Event)


def test_ctrl_c_ends_a_send(bus: Bus) -> None:
    """Ctrl-C ends a `send` that waits for room, and nothing of it was sent."""
    with bus.subscribe("**") as sub:
        sent = fill(bus)
        with pytest.raises(KeyboardInterrupt), alarm(interrupt, every=0):
            bus.send("load", "event", "/load", "x" * 200, timeout=None)
        assert len(sub.receive_many(1 << 20, 0)) == sent


def test_ctrl_c_ends_a_wait_for_subscribers(bus: Bus) -> None:
    """Ctrl-C ends a wait for subscribers."""
    with pytest.raises(KeyboardInterrupt), alarm(interrupt, every=0):
        bus.wait_for_subscribers(1)


def test_handlers_run_during_a_wait(bus: Bus) -> None:
    """Signal handlers that return run during a wait, which goes on to its deadline and no further."""

    def wait(sub: Subscription, seconds: float) -> bool:
        rings: list[float] = []
        with alarm(lambda: rings.append(time.monotonic())):
            begun = time.monotonic()
            assert sub.receive(seconds) is None
            ended = time.monotonic()
        assert ended - begun >= seconds
        return len([ring for ring in rings if ring <= ended]) >= 2

    with bus.subscribe("**") as sub:
        patiently(partial(wait, sub), 0.3)


def test_a_handler_may_send_to_the_one_it_interrupted(bus: Bus) -> None:
    """A handler that sends wakes the `receive` that it interrupted."""
    with bus.subscribe("**") as sub, alarm(lambda: bus.send("a", "b", "/alarm")):
        event = sub.receive(PATIENCE)
    assert event is not None
    assert event.path == "/alarm"


def test_a_handler_may_close_what_it_interrupted(bus: Bus) -> None:
    """A handler that closes the subscription ends the `receive` that it interrupted."""
    sub = bus.subscribe("**")
    with alarm(sub.close):
        assert sub.receive(None) is None
    assert sub.closed
