"""What a task waits with for the doorbell: it goes on at once, and whatever it does then, so do the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventbus import Bus, Event, Subscription
from loops import next_of, run, waiting


class Enough(SystemExit):
    """What no task keeps for itself."""


async def turns(count: int = 20) -> None:
    """Lets run what is ready in the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def raising(sub: Subscription) -> None:
    """Takes one event, and ends the loop."""
    await next_of(sub)
    raise Enough


@pytest.mark.parametrize("first", [0, 1])
def test_one_that_ends_the_loop_leaves_the_others_told(bus: Bus, first: int) -> None:
    """What one of the tasks raises comes out of the loop; the other one, told by the same ring, has its event once the
    loop has run on."""
    loop = asyncio.new_event_loop()
    subs = [bus.subscribe("a"), bus.subscribe("a")]
    heard: list[Event] = []

    async def listen(sub: Subscription) -> None:
        heard.append(await next_of(sub))

    async def main() -> None:
        listening.append(await waiting(listen(subs[1 - first])))
        ending.append(await waiting(raising(subs[first])))
        bus.send("a", "b", "/c", 1)
        await asyncio.Event().wait()

    listening: list[asyncio.Task[None]] = []
    ending: list[asyncio.Task[None]] = []
    whole = loop.create_task(main())
    with pytest.raises(Enough):
        loop.run_until_complete(whole)
    loop.run_until_complete(turns())
    assert [event.data for event in heard] == [1]
    assert isinstance(ending[0].exception(), Enough)
    whole.cancel()
    loop.run_until_complete(turns())
    loop.close()


def test_what_a_cancellation_says(bus: Bus) -> None:
    """The words of whoever cancels come to the task, as with any other future."""

    said: list[tuple[Any, ...]] = []

    async def listen(sub: Subscription) -> None:
        try:
            await next_of(sub)
        except asyncio.CancelledError as error:
            said.append(error.args)
            raise

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(listen(sub))
            task.cancel("no longer wanted")
            await asyncio.wait([task])
            assert said == [("no longer wanted",)]
            assert task.cancelled()
            bus.send("a", "b", "/c", 1)
            assert (await next_of(sub)).data == 1

    run(main())


def test_one_that_is_dropped_while_it_waits(bus: Bus) -> None:
    """Whoever closes the coroutine has taken nothing, and another task that waits is told."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            dropped = sub.areceive()
            dropped.send(None)  # by hand, as no loop does: it waits now
            other = await waiting(next_of(sub))
            dropped.close()
            bus.send("a", "b", "/c", 1)
            assert (await other).data == 1
            late = aiter(sub)
            by_hand = anext(late).__await__()
            next(by_hand)
            del by_hand
            bus.send("a", "b", "/c", 2)
            assert (await next_of(sub)).data == 2

    run(main())


def test_awaited_twice(bus: Bus) -> None:
    """It is an error of whoever comes second; who waits goes on waiting."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            once = anext(aiter(sub))

            async def wait() -> Event:
                return await once

            first = await waiting(wait())
            with pytest.raises(RuntimeError, match="awaited already"):
                await wait()
            bus.send("a", "b", "/c", 1)
            assert (await first).data == 1

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_tasks_in_python(bus: Bus, debug: bool) -> None:
    """Tasks without C, and a loop that watches over its callbacks, find a future in it as well."""

    def of_python(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        return asyncio.tasks._PyTask(coroutine, loop=loop, **more)  # type: ignore[attr-defined]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(of_python)
        loop.set_debug(debug)
        async with bus.subscribe("a") as sub:
            for number in range(3):
                task = await waiting(next_of(sub))
                bus.send("a", "b", "/c", number)
                assert (await task).data == number
            task = await waiting(next_of(sub))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    run(main())


def test_a_waiter_is_one_task_s(bus: Bus) -> None:
    """It is a future in all that a task asks of one, and refuses a second one."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(next_of(sub))
            waiter = task._fut_waiter  # type: ignore[attr-defined]
            assert asyncio.isfuture(waiter)
            assert (waiter.done(), waiter.cancelled()) == (False, False)
            assert waiter.get_loop() is asyncio.get_running_loop()
            with pytest.raises(RuntimeError, match="one task"):
                waiter.add_done_callback(print)
            with pytest.raises(RuntimeError):
                waiter.result()
            assert waiter.remove_done_callback(print) == 0
            assert waiter.cancel()
            assert not waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                waiter.result()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
