"""Workers whose handlers fail: when they are tried again, what becomes of the event, and of groups left over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, Subscription, Worker
from harness import DEADLINE, Fork, patiently, take, until
from pools import running

ROOT = Path(__file__).resolve().parent.parent


def test_a_pause_between_tries(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """An outage shorter than the pauses makes no dead letter; others are handled meanwhile, and the first try comes not
    sooner than its pause."""

    def try_again(pause: float) -> bool:
        worker = Worker(bus, retry_delay=pause)

        @worker.on("jobs")
        def fragile(event: Event) -> None:
            bus.send("done", "tried", event.path, [event.deliveries, time.monotonic()])
            if event.data == "away" and event.deliveries < 3:
                raise ConnectionError("away")

        with running(fork, worker, log):
            until(lambda: bus.stats().groups, "the group")
            bus.send("jobs", "job", "/away", "away")
            (_, begun) = take(done).data
            bus.send("jobs", "job", "/other", "here")
            came = [(event.path, *event.data) for event in (take(done) for _ in range(3))]
            assert {(path, deliveries) for path, deliveries, _ in came} == {("/other", 1), ("/away", 2), ("/away", 3)}
            first, second = (at for path, _, at in came if path == "/away")
            assert first - begun >= 0.9 * pause
            assert second - first >= 0.9 * 2 * pause
            assert bus.stats().groups[0].dead == 0
        return bool(came[0][0] == "/other")

    patiently(try_again, 0.2)


def test_a_handler_says_when_and_whether(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """``Retry`` names the pause, ``Discard`` makes a dead letter at once; neither needs a traceback."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus)

    @worker.on("jobs", retry_delay=50)
    def picky(event: Event) -> None:
        bus.send("done", "tried", event.path, event.deliveries)
        if event.data == "later" and event.deliveries == 1:
            raise eventbus.Retry(delay=0.05)
        if event.data == "useless":
            raise eventbus.Discard("no such customer")

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send("jobs", "job", "/later", "later")
        assert [take(done).data for _ in range(2)] == [1, 2]
        bus.send("jobs", "job", "/useless", "useless")
        letter = take(grave).data
        assert (letter["path"], letter["deliveries"], letter["reason"]) == ("/useless", 1, "no such customer")
    assert "Traceback" not in log.read_text()
    assert "no such customer" in log.read_text()


@pytest.mark.parametrize("how", ["exits", "is cancelled"])
def test_what_is_no_exception_fails_its_event(fork: Fork, bus: Bus, log: Path, how: str) -> None:
    """A handler that exits, or whose coroutine is cancelled, fails its event, and its process goes on."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, max_deliveries=1)

    @worker.on("jobs")
    async def leave(event: Event) -> None:
        import asyncio

        raise SystemExit(3) if how == "exits" else asyncio.CancelledError

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for number in range(2):
            bus.send("jobs", "job", "/", number)
        letters = [take(grave).data for _ in range(2)]
    assert [letter["data"] for letter in letters] == [0, 1]
    assert all(("SystemExit" if how == "exits" else "CancelledError") in letter["traceback"] for letter in letters)
    assert "next in" not in log.read_text()


def test_a_reply_that_cannot_be_sent(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Whoever asked is told; the handler is not run again for it, and there is no dead letter."""
    worker = Worker(bus)

    @worker.on("pay")
    def charge(event: Event) -> object:
        bus.send("done", "charged", event.path, event.deliveries)
        return object()

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        with pytest.raises(eventbus.RemoteError, match="InvalidError"):
            bus.request("pay", "charge", "/1", timeout=DEADLINE)
        until(lambda: not any(one.events for one in bus.stats().groups[0].members), "the event to be done")
        group = bus.stats().groups[0]
    assert [event.data for event in done.receive_many(9, 0)] == [1]
    assert (group.redelivered, group.dead) == (0, 0)
    assert "the reply to pay" in log.read_text()


def test_groups_that_no_handler_serves(fork: Fork, bus: Bus, log: Path) -> None:
    """Names stay when handlers come and go; a worker says which groups of its name nobody serves."""
    bus.group("billing.refund", "orders")
    bus.group("billing.old", "orders")
    bus.group("other.old", "orders")
    bus.send("orders", "new", "/1")
    worker = Worker(bus, group="billing")

    @worker.on("orders")
    def charge(event: Event) -> None: ...

    @worker.on("orders")
    def refund(event: Event) -> None: ...

    with running(fork, worker, log):
        until(lambda: len(bus.stats().subscribers) == 2, "two processes")
    said = [line for line in log.read_text().splitlines() if "no handler serves" in line]
    assert said == [
        "WARNING no handler serves the group billing.old, which has 1 events: "
        f"`eventbus remove-group {bus.name} billing.old` removes it"
    ]
    worker.on("orders", group="shared")(print)
    with pytest.raises(InvalidError, match="give each a group of its own"):
        worker.on("orders", group="shared")(repr)
