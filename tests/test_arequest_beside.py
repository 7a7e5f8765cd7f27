"""Requests of event loops beside those of threads and of other loops; and what becomes of them when the bus ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import eventbus
from eventbus import (
    Bus,
    ClosedError,
    UnavailableError,
)
from harness import DEADLINE, Fork, take
from loops import next_of, run
from serving import aask, answer_all, ask, leader_is_there, under_way, waiting

pytestmark = pytest.mark.usefixtures("doorbell")


@pytest.fixture
def server(bus: Bus, fork: Fork) -> Iterator[None]:
    """A process that answers with what it was asked."""
    child = fork(answer_all, bus.name)
    child.hear()
    yield
    bus.shutdown()
    child.result()


# --- beside threads, and other loops ---


def test_threads_and_loops_ask_at_the_same_time(bus: Bus, server: None) -> None:
    """Whoever of them receives, each has its own answer, and nobody waits for long."""

    def ask_often(asker: int) -> None:
        for number in range(100):
            assert ask(bus, [asker, number]) == [asker, number]

    async def aask_often(asker: int) -> None:
        for number in range(100):
            assert await aask(bus, [asker, number]) == [asker, number]

    async def main(first: int) -> None:
        await asyncio.gather(*(aask_often(asker) for asker in range(first, first + 10)))

    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(ask_often, asker) for asker in range(6)]
        loops = [pool.submit(run, main(first)) for first in (100, 200)]
        for one in (*threads, *loops):
            one.result(DEADLINE)
    assert waiting(bus) == 0
    assert len(bus.stats().subscribers) == 2


def test_a_loop_goes_on_when_the_thread_that_received_leaves(bus: Bus) -> None:
    """It asks while a thread receives for all; that one has no time left; the answer comes to the loop all the same."""

    async def main(patience: float) -> bool:
        blocking = threading.Thread(target=give_up, args=(patience,))
        blocking.start()
        while not leader_is_there(bus) and blocking.is_alive():
            await asyncio.sleep(0.001)
        answer = asyncio.ensure_future(aask(bus, "loop"))
        both = False
        while blocking.is_alive():
            both = both or waiting(bus) == 2
            await asyncio.sleep(0.001)
        for _ in range(2):
            request = await next_of(sub)
            await request.areply(request.data)
        assert await answer == "loop"
        return both

    def give_up(patience: float) -> None:
        with contextlib.suppress(UnavailableError):
            ask(bus, "thread", patience)

    with bus.subscribe("rpc") as sub:
        patience = 0.1
        while not run(main(patience)):  # the thread had left before the loop asked, on a machine that has much to do
            patience *= 4


@pytest.mark.parametrize("first", ["loop", "thread"])
def test_a_thread_comes_to_a_loop_that_waits(bus: Bus, first: str) -> None:
    """From then on it receives; in whatever order they are answered, each is."""

    async def main() -> None:
        answer = asyncio.ensure_future(aask(bus, "loop"))
        await under_way(bus, 1)
        blocking = pool.submit(ask, bus, "thread")
        await under_way(bus, 2)
        while not leader_is_there(bus):
            await asyncio.sleep(0.001)
        asked = {event.data: event for event in (await next_of(sub), await next_of(sub))}
        await asked.pop(first).areply(first)
        while waiting(bus) != 1:
            await asyncio.sleep(0.001)
        (other,) = asked.values()
        await other.areply(other.data)
        assert await answer == "loop"
        assert await asyncio.wrap_future(blocking) == "thread"

    with bus.subscribe("rpc") as sub, ThreadPoolExecutor(1) as pool:
        run(main())


def test_a_loop_that_is_held_up_holds_up_no_other(bus: Bus) -> None:
    """While one loop does something else, another one has its answers, and so has a thread."""
    held, go_on = threading.Event(), threading.Event()

    async def hold() -> None:
        answer = asyncio.ensure_future(aask(bus, "held"))
        await under_way(bus, 1)
        held.set()
        go_on.wait(DEADLINE)
        assert await answer == "held"

    with bus.subscribe("rpc") as sub, ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, hold())
        assert held.wait(DEADLINE)
        asked = take(sub)
        for way in (lambda: run(aask(bus, "other")), lambda: ask(bus, "other")):
            second = pool.submit(way)
            take(sub).reply("answer")
            assert second.result(DEADLINE) == "answer"
        asked.reply("held")
        go_on.set()
        first.result(DEADLINE)


# --- the end ---


async def close_in_the_loop(bus: Bus) -> None:
    """As ``async with`` does."""
    await bus.aclose()


async def close_by_a_call(bus: Bus) -> None:
    """As ``with`` does."""
    bus.close()


async def shut_down(bus: Bus) -> None:
    """For all."""
    bus.shutdown()


@pytest.mark.parametrize("end", [close_in_the_loop, close_by_a_call, shut_down])
def test_all_who_wait_see_the_end(name: str, end: Callable[[Bus], Coroutine[Any, Any, None]]) -> None:
    """A bus that ends while many wait for answers tells each of them."""

    async def main(bus: Bus) -> None:
        asks = [asyncio.ensure_future(aask(bus, number, None)) for number in range(20)]
        await under_way(bus, 20)
        await end(bus)
        for answer in await asyncio.gather(*asks, return_exceptions=True):
            assert isinstance(answer, ClosedError)
            assert "before the request 'rpc' 'ask' '/p' was answered" in str(answer)
        with pytest.raises(ClosedError):
            await aask(bus)

    with eventbus.open(name) as bus:
        run(main(bus))
