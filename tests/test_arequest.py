"""Requests of event loops: as those of threads, with which they share one subscription."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import (
    Bus,
    InvalidError,
    PolicyDeniedError,
    RemoteError,
    Request,
    SegmentError,
    UnavailableError,
)
from harness import DEADLINE, Fork, take, until
from loops import next_of, run
from serving import aask, answer_all, serving, under_way, waiting

MANY = 2000


pytestmark = pytest.mark.usefixtures("doorbell")


@pytest.fixture
def server(bus: Bus, fork: Fork) -> Iterator[None]:
    """A process that answers with what it was asked."""
    child = fork(answer_all, bus.name)
    child.hear()
    yield
    bus.shutdown()
    child.result()


# --- as a call ---


@pytest.mark.parametrize("data", [None, {"a": [1]}, "ä", b"raw \x00 bytes", b""])
def test_the_answer_comes_back(bus: Bus, server: None, data: object) -> None:
    """Whatever may be asked by a call may be asked in a loop."""

    async def main() -> object:
        return await bus.arequest("rpc", "ask", "/p", data, timeout=DEADLINE, headers={"trace": "1"})

    assert run(main()) == data


def test_it_is_answered_in_the_loop_that_asks(bus: Bus) -> None:
    """Asking and answering need no thread; what is no request has no answer."""

    async def answer() -> None:
        async with bus.subscribe("rpc") as sub:
            asked.set()
            async for event in sub:
                if isinstance(event, Request):
                    assert event.deadline is not None
                    assert await event.areply(event.data + 1) is True
                    assert event.answered
                else:
                    with pytest.raises(InvalidError, match="no request"):
                        await event.areply()
                    return

    async def main() -> None:
        answering = asyncio.ensure_future(answer())
        await asked.wait()
        assert [await aask(bus, number) for number in range(3)] == [1, 2, 3]
        await bus.asend("rpc", "no request", "/p")
        await answering

    asked = asyncio.Event()
    run(main())


def test_errors_are_those_of_a_call(bus: Bus) -> None:
    """What was raised where it was answered, what cannot be asked, and that nobody answers."""

    async def main() -> None:
        with pytest.raises(UnavailableError, match=r"'rpc' 'ask' '/p' within 0\.01 s"):
            await aask(bus, timeout=0.01)
        with pytest.raises(UnavailableError):
            await aask(bus, timeout=0)
        with pytest.raises(InvalidError):
            await bus.arequest("rpc", "ask", "/p", object())
        with pytest.raises(InvalidError):
            await bus.arequest("rpc", "k" * 250, "/p")
        with pytest.raises(InvalidError):
            await aask(bus, timeout=-1)
        with (
            serving(bus.subscribe("rpc"), lambda it: it.fail("KeyError", "no")),
            pytest.raises(RemoteError, match="no"),
        ):
            await aask(bus)
        assert waiting(bus) == 0

    run(main())
    with eventbus.open(bus.name, policy=lambda *_: False) as other, pytest.raises(PolicyDeniedError):
        run(aask(other))


def test_an_answer_that_cannot_be_read(bus: Bus) -> None:
    """It is an error for whom it is meant for; others have theirs."""

    async def main() -> list[Any]:
        asks = [asyncio.ensure_future(aask(bus, number)) for number in range(2)]
        await under_way(bus, 2)
        first, second = sorted((take(sub), take(sub)), key=lambda it: it.data)
        first.reply(orjson.Fragment(b"oops"))
        second.reply("good")
        return await asyncio.gather(*asks, return_exceptions=True)

    with bus.subscribe("rpc") as sub:
        error, good = run(main())
    assert isinstance(error, SegmentError)
    assert good == "good"


# --- many ---


def test_thousands_are_under_way_at_once(bus: Bus) -> None:
    """All of them are asked before any is answered, the last one first; then nothing is left of them, but one slot."""

    async def answer() -> None:
        async with bus.subscribe("rpc") as sub:
            subscribed.set()
            asked = [await next_of(sub) for _ in range(MANY)]
            assert waiting(bus) == MANY
            for request in reversed(asked):
                await request.areply(request.data)

    async def main() -> None:
        answering = asyncio.ensure_future(answer())
        await subscribed.wait()
        assert await asyncio.gather(*(aask(bus, number) for number in range(MANY))) == list(range(MANY))
        await answering
        assert waiting(bus) == 0
        assert len(bus.stats().subscribers) == 1

    subscribed = asyncio.Event()
    run(main())


def test_one_after_the_other(bus: Bus, server: None) -> None:
    """Each lies down and is told anew."""

    async def main() -> None:
        assert [await aask(bus, number) for number in range(300)] == list(range(300))

    run(main())


def test_loops_one_after_the_other(bus: Bus, server: None) -> None:
    """Each of them asks on the same bus, and leaves nothing."""
    for number in range(5):
        assert run(aask(bus, number)) == number
        assert waiting(bus) == 0
    assert len(bus.stats().subscribers) == 2


# --- cancelled ---


def test_what_is_cancelled_is_forgotten(bus: Bus) -> None:
    """Nothing is left of requests that are cancelled, and their answers disturb nobody."""

    async def main() -> None:
        tasks = [asyncio.ensure_future(aask(bus, number, None)) for number in range(500)]
        asked = [await next_of(sub) for _ in tasks]
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting(bus) == len(tasks) // 2
        for request in asked:
            await request.areply(request.data)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers[::2]] == [asyncio.CancelledError] * 250
        assert answers[1::2] == list(range(1, 500, 2))
        assert waiting(bus) == 0

    with bus.subscribe("rpc") as sub:
        run(main())


def test_a_storm_of_cancellations(bus: Bus, server: None) -> None:
    """However many are cancelled while answers come, each of the others has its own."""

    async def ask_often(asker: int) -> int:
        answered = 0
        for number in range(100):
            with contextlib.suppress(asyncio.TimeoutError):
                answer = await asyncio.wait_for(aask(bus, [asker, number]), (number % 4) * 1e-3 or None)
                assert answer == [asker, number]
                answered += 1
        return answered

    async def main() -> None:
        counts = await asyncio.gather(*(ask_often(asker) for asker in range(20)))
        assert min(counts) >= 25
        assert waiting(bus) == 0
        assert await aask(bus, "after") == "after"

    run(main())


def test_a_loop_that_ends_with_requests_under_way(bus: Bus) -> None:
    """They are forgotten with it, and the next loop asks as if nothing had been."""

    async def leave() -> None:
        tasks = [asyncio.ensure_future(aask(bus, number, None)) for number in range(50)]
        await under_way(bus, 50)
        del tasks
        raise InterruptedError

    with bus.subscribe("rpc") as sub:
        with pytest.raises(InterruptedError):
            run(leave())
        assert waiting(bus) == 0
        late = [take(sub) for _ in range(50)]
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(run, aask(bus, "next"))
            request = take(sub)
            for one in late:
                one.reply("late")
            request.reply(request.data)
            assert answer.result(DEADLINE) == "next"


# --- a full ring ---


def test_a_full_ring_holds_up_no_loop(name: str) -> None:
    """Whoever asks or answers waits for room while others in the loop run."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def fill() -> eventbus.Subscription:
        slow = bus.subscribe("filler")
        with contextlib.suppress(eventbus.FullError):
            while True:
                bus.send("filler", "k", "/", "x" * 400, timeout=0)
        return slow

    async def room_after_ticks(slow: eventbus.Subscription) -> None:
        before = ticks
        while ticks < before + 5:
            await asyncio.sleep(0.001)
        slow.close()

    async def main() -> None:
        ticking = asyncio.ensure_future(tick())
        async with bus.subscribe("rpc") as sub:
            warm = asyncio.ensure_future(aask(bus, "warm"))
            await (await next_of(sub)).areply("warm")
            assert await warm == "warm"
            slow = await fill()
            answer = asyncio.ensure_future(aask(bus, "x" * 1000))
            await room_after_ticks(slow)
            request = await next_of(sub)
            slow = await fill()
            replying = asyncio.ensure_future(request.areply("y" * 1000))
            await room_after_ticks(slow)
            assert await replying is True
            assert await answer == "y" * 1000
        ticking.cancel()

    with eventbus.open(name, capacity=8192) as bus:
        run(main())


def test_a_time_out_where_others_wait_longer(bus: Bus) -> None:
    """Each waits for as long as it was told: those without time left do not keep others from waiting."""

    async def main() -> None:
        begun = time.monotonic()
        asks = [asyncio.ensure_future(aask(bus, number, number / 100)) for number in (3, 1, 2)]
        last = asyncio.ensure_future(aask(bus, "last", None))
        asked = {event.data: event for event in [await next_of(sub) for _ in range(4)]}
        for answer in await asyncio.gather(*asks, return_exceptions=True):
            assert isinstance(answer, UnavailableError)
        assert time.monotonic() >= begun + 0.03
        assert waiting(bus) == 1
        await asked["last"].areply("answer")
        assert await last == "answer"

    with bus.subscribe("rpc") as sub:
        run(main())
    until(lambda: waiting(bus) == 0, "nothing to be left")
