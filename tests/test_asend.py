"""Sending from an event loop: what a call sends, and a loop that goes on while there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest

import eventbus
from eventbus import Bus, ClosedError, FullError, InvalidError, PolicyDeniedError, Subscription, UnavailableError
from harness import DEADLINE, Fork, Line, arm, take
from loops import next_of, run, waiting


@contextmanager
def full(bus: Bus) -> Iterator[Subscription]:
    """A subscription that holds the ring back, which is full to the last event of the size of those that follow."""
    with bus.subscribe("a", spin=0) as sub:
        while has_room(bus):
            pass
        yield sub


def has_room(bus: Bus) -> bool:
    """Takes it, if there is some."""
    try:
        return bus.send("a", "b", "/fill", b"x" * 1000, timeout=0)
    except FullError:
        return False


@contextmanager
def turning() -> Iterator[Iterator[int]]:
    """Counts the turns that others in the loop have meanwhile."""
    turns = count()

    async def turn() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(turn())
    yield turns
    task.cancel()


async def others_run(turns: Iterator[int], gives_up: Callable[[float], Awaitable[None]]) -> None:
    """While it waits for so many seconds in vain; for more where the host stood still for as long."""
    timeout, had = 0.05, 0
    while had < 10:
        assert timeout < DEADLINE, "it keeps others from running"
        before = next(turns)
        await gives_up(timeout)
        timeout, had = 4 * timeout, next(turns) - before


def drain(sub: Subscription) -> list[object]:
    """What is not there to fill it."""
    return [event.data for event in iter(lambda: sub.receive(0), None) if event.path != "/fill"]


@pytest.mark.parametrize("data", [None, {"a": [1]}, "ä", b"raw \x00 bytes", b""])
def test_what_is_sent(bus: Bus, data: object) -> None:
    """The same as by a call, with headers too, new topics and known ones."""

    async def main() -> None:
        with bus.subscribe("**") as sub:
            for kind in ("b", "b", "other"):
                assert await bus.asend("a", kind, "/ä", data, headers={"x": "y"}) is True
                assert await bus.asend("a", kind, "/ä", data) is True
                one, two = take(sub), take(sub)
                assert one[:4] == two[:4] == ("a", kind, "/ä", data)
                assert (dict(one.headers), dict(two.headers)) == ({"x": "y"}, {})
            assert await bus.asend_many(("a", "b", "/c", number) for number in range(3)) == 3
            assert [take(sub).data for _ in range(3)] == [0, 1, 2]
            assert await bus.asend_many([]) == 0

    run(main())


def test_what_cannot_be_sent(bus: Bus, name: str) -> None:
    """It is refused as by a call."""

    async def main() -> None:
        with pytest.raises(InvalidError):
            await bus.asend("a*", "b", "/c")
        with pytest.raises(InvalidError):
            await bus.asend("a", "b", "/c", object())
        with pytest.raises(InvalidError):
            await bus.asend("a", "b", "/c", timeout=-1)
        with pytest.raises(InvalidError):
            await bus.asend_many([("a", "b")])
        with pytest.raises(InvalidError, match="too many"):
            await bus.asend("a", "b", "/c", b"x" * 100_000)
        async with eventbus.open(name, role="subscriber") as reader:
            with pytest.raises(InvalidError, match="cannot send"):
                await reader.asend("a", "b", "/c")
        async with eventbus.open(name, policy=lambda actor, action, system: system != "a") as strict:
            with pytest.raises(PolicyDeniedError):
                await strict.asend("a", "b", "/c")
        bus.close()
        with pytest.raises(ClosedError):
            await bus.asend("a", "b", "/c")

    run(main())


def test_a_full_ring_holds_up_no_loop(bus: Bus) -> None:
    """Others run until there is room; then it is sent. Where the time is up first, the error says who holds it."""

    async def finds_no_room(timeout: float) -> None:
        with pytest.raises(FullError, match="events to receive"):
            await bus.asend("a", "b", "/c", b"x" * 1000, timeout=timeout)

    async def main() -> None:
        with full(bus) as sub, turning() as turns:
            await others_run(turns, finds_no_room)
            task = asyncio.ensure_future(bus.asend("a", "b", "/c", b"x" * 1000, timeout=None))
            await asyncio.sleep(0.01)
            assert not task.done()
            before = next(turns)
            heard = drain(sub)
            assert await task
            assert next(turns) > before + 1
            assert heard + drain(sub) == [b"x" * 1000]

    run(main())


def test_cancelled_while_it_waits_for_room(bus: Bus) -> None:
    """It has sent nothing, and keeps no place."""

    async def main() -> None:
        with full(bus) as sub:
            task = asyncio.ensure_future(bus.asend("a", "b", "/c", b"x" * 1000, timeout=None))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert drain(sub) == []
            assert await bus.asend("a", "b", "/c", 1)
            assert drain(sub) == [1]

    run(main())


def test_the_order_of_a_loop(bus: Bus) -> None:
    """Whoever began to wait for room first is served first, also with a large batch."""

    async def main() -> None:
        with full(bus) as sub:
            large = [("a", "b", "/c", b"L" * 1000) for _ in range(30)]
            first = asyncio.ensure_future(bus.asend_many(large, timeout=None))
            await asyncio.sleep(0.01)
            small = [asyncio.ensure_future(bus.asend("a", "b", "/c", b"s" * 900, timeout=None)) for _ in range(30)]
            heard: list[object] = []
            while not first.done() or not all(task.done() for task in small):
                heard += drain(sub)
                await asyncio.sleep(0.001)
            heard += drain(sub)
            assert heard == [b"L" * 1000] * 30 + [b"s" * 900] * 30

    run(main())


def test_a_publisher_that_keeps_the_lock(bus: Bus, fork: Fork) -> None:
    """Stopped with it, it holds up nobody else in the loop; killed, its lock is taken over."""

    def send(line: Line) -> None:
        arm("publish_locked", 19)
        bus.send("a", "b", "/c", "never")

    async def finds_it_taken(topic: str, timeout: float) -> None:
        with pytest.raises(UnavailableError, match="publish lock"):
            await bus.asend(topic, "b", "/c", 1, timeout=timeout)

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            await bus.asend("a", "b", "/c", 0)
            other = fork(send)
            other.wait_stopped()
            with turning() as turns:
                for topic in ("a", "new"):
                    await others_run(turns, partial(finds_it_taken, topic))
            task = await waiting(bus.asend("a", "b", "/c", 2))
            other.kill()
            assert await task
            assert [(await next_of(sub)).data for _ in range(2)] == [0, 2]

    run(main())


def test_await_for_subscribers(bus: Bus, fork: Fork) -> None:
    """They are counted as by the call, and waited for in the loop."""

    def subscribe(line: Line) -> None:
        with bus.subscribe("a.*"):
            line.hear()

    async def main() -> None:
        assert await bus.await_for_subscribers(0)
        assert not await bus.await_for_subscribers(1, timeout=0.01)
        task = await waiting(bus.await_for_subscribers(1, "a.b"))
        other = fork(subscribe)
        assert await task
        assert not await bus.await_for_subscribers(1, "b", timeout=0)
        with pytest.raises(InvalidError):
            await bus.await_for_subscribers(-1)
        other.say()
        other.result()

    run(main())
