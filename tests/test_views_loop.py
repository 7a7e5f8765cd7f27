"""Views in an event loop: each task has its own until it asks for more itself; cancelled, it has taken nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, Fanout
from harness import DEADLINE, Fork, Line
from loops import NewLoop, next_of, run_in, waiting
from viewing import CAPACITY, SIZES, is_released, payload, put, seen

pytestmark = pytest.mark.usefixtures("doorbell")


@pytest.fixture
def roomy(name: str) -> Iterator[Bus]:
    with eventbus.open(name, capacity=CAPACITY, send_timeout=DEADLINE) as opened:
        yield opened


@pytest.mark.parametrize("size", SIZES)
def test_by_each_way_of_asking(roomy: Bus, new_loop: NewLoop, size: int) -> None:
    """Good until the next is awaited, whether or not it is there; and nothing else ends it."""

    async def main() -> None:
        async with roomy.subscribe("a", view=True) as sub:
            put(roomy, 0, size=size)
            view = seen(await next_of(sub))
            await asyncio.sleep(0)
            assert view == payload(0, size)
            task = await waiting(next_of(sub))
            assert not is_released(view)  # another task asked
            put(roomy, 1, size=size)
            assert seen(await task) == payload(1, size)
            assert await sub.areceive(0) is None
            assert is_released(view)
            put(roomy, 2, 3, 4, size=size)
            events = await sub.areceive_many(2)
            assert [bytes(seen(event)) for event in events] == [payload(2, size), payload(3, size)]
            async for event in sub:
                assert all(is_released(event.data) for event in events)
                assert seen(event) == payload(4, size)
                last = event.data
                break
            assert await sub.areceive_many(9, 0.001) == []
            assert is_released(last)

    run_in(new_loop, main())


def send_all(line: Line, name: str, count: int) -> None:
    with eventbus.open(name, send_timeout=DEADLINE) as bus:
        line.say()
        for number in range(count):
            put(bus, number, size=60_000)


def test_tasks_share_a_subscription(roomy: Bus, fork: Fork, name: str, new_loop: NewLoop) -> None:
    """What one task looks at is right for as long as it has not asked again, whatever the others ask for."""
    numbers: list[int] = []

    async def listen(sub: eventbus.Subscription) -> None:
        while len(numbers) < 300:
            event = await sub.areceive(0.1)
            if event is None:
                continue
            view = seen(event)
            number = int(bytes(view[:8]))
            numbers.append(number)
            await asyncio.sleep(0)
            assert view == payload(number, 60_000)
            await asyncio.sleep(0.0001 * (number % 5))
            assert view == payload(number, 60_000)

    async def main() -> None:
        async with roomy.subscribe("a", view=True) as sub:
            other = fork(send_all, name, 300)
            other.hear()
            await asyncio.gather(*(listen(sub) for _ in range(5)))
            assert sorted(numbers) == list(range(300))
            other.result()

    run_in(new_loop, main())


def test_cancelled(roomy: Bus, new_loop: NewLoop) -> None:
    """A wait that is cancelled has taken nothing; what its task looked at before it asked is released."""
    views: list[memoryview] = []

    async def listen(sub: eventbus.Subscription) -> None:
        while True:
            views.append(seen(await next_of(sub)))

    async def main() -> None:
        async with roomy.subscribe("a", view=True) as sub:
            put(roomy, 0)
            task = await waiting(listen(sub))
            assert is_released(views[0])
            task.cancel()
            put(roomy, 1, 2)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [bytes(seen(event)) for event in await sub.areceive_many(9)] == [payload(1), payload(2)]

    run_in(new_loop, main())


def test_a_task_for_each_event(roomy: Bus, new_loop: NewLoop) -> None:
    """What a task has handed on is good after its end, until nobody has it, whoever asks meanwhile."""

    async def one(sub: eventbus.Subscription, number: int) -> None:
        view = seen(await asyncio.ensure_future(next_of(sub)))
        for _ in range(number):
            await asyncio.sleep(0)
            assert view == payload(int(bytes(view[:8])), 60_000)

    async def main() -> None:
        async with roomy.subscribe("a", view=True) as sub:
            for first in range(0, 100, 10):
                put(roomy, *range(first, first + 10), size=60_000)
                await asyncio.gather(*(one(sub, number) for number in range(10)))
            assert await sub.areceive(0) is None
            assert await sub.areceive(0) is None
            assert roomy.stats().subscribers[0].viewed == 0
            assert sub._lent == []

    run_in(new_loop, main())


def test_for_many_listeners_there_are_bytes(roomy: Bus, new_loop: NewLoop) -> None:
    """What goes to several keeps its own bytes."""

    async def main() -> None:
        with Fanout(roomy, "a") as fanout, fanout.listen() as one, fanout.listen() as two:
            put(roomy, 1)
            for events in (one, two):
                async for event in events:
                    assert type(event.data) is bytes
                    break

    run_in(new_loop, main())


@pytest.mark.parametrize("size", SIZES)
def test_members(roomy: Bus, new_loop: NewLoop, size: int) -> None:
    """Members have views that are as good."""

    async def main() -> None:
        async with roomy.subscribe("a", group="g", view=True) as sub:
            put(roomy, 0, 1, size=size)
            view = seen(await next_of(sub))
            assert view == payload(0, size)
            (event,) = await sub.areceive_many(3)
            assert is_released(view)
            assert seen(event) == payload(1, size)
            assert await sub.areceive(0.001) is None
            assert is_released(event.data)

    run_in(new_loop, main())
