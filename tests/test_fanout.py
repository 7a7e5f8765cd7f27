"""Fanout: one subscription, and what each of its listeners hears."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref
from typing import Any

import orjson
import pytest

from eventbus import Bus, Event, Fanout, SegmentError
from eventbus.fanout import Listener
from harness import DEADLINE
from listeners import drained, next_of, rest_of, send, unsubscribed
from loops import NewLoop, run_in

LISTENERS = 1000


# --- what they hear ---


def test_a_thousand_listeners(bus: Bus, new_loop: NewLoop) -> None:
    """Each hears every event in order, the same object for all, through one subscription."""
    fanout = Fanout(bus, "a")

    async def listen() -> list[Event]:
        with fanout.listen() as events:
            return [await next_of(events) for _ in range(20)]

    async def main() -> list[list[Event]]:
        listeners = [asyncio.create_task(listen()) for _ in range(LISTENERS)]
        await asyncio.sleep(0)
        (subscriber,) = bus.stats().subscribers
        assert subscriber.name.startswith("fanout:a@")
        for number in range(20):
            await bus.asend("a", "k", "/p", number)
        return await asyncio.gather(*listeners)

    heard = run_in(new_loop, main())
    assert [event.data for event in heard[0]] == [*range(20)]
    assert all(one is other for events in heard for one, other in zip(events, heard[0], strict=True))
    assert bus.stats().subscribers == ()


def test_a_listener_hears_what_is_sent_from_then_on(bus: Bus, fanout: Fanout) -> None:
    """What came before, and others have not had yet, is not for it."""

    async def main() -> None:
        with fanout.listen() as first:
            send(bus, 1)
            with fanout.listen() as second:
                send(bus, 2)
                assert (await next_of(second)).data == 2
                assert [(await next_of(first)).data for _ in range(2)] == [1, 2]
            with fanout.listen() as third:
                send(bus, 3, 4)
                assert (await next_of(third)).data == 3

    asyncio.run(main())


def test_an_event_that_cannot_be_read(bus: Bus, fanout: Fanout) -> None:
    """Each listener gets one error in its place, as if it was raised there first, and goes on."""

    async def main() -> None:
        with fanout.listen() as one, fanout.listen() as other:
            send(bus, 1)
            bus.send("a", "k", "/p", orjson.Fragment(b"{"))
            send(bus, 3)
            lengths = []
            for events in (one, other):
                assert (await next_of(events)).data == 1
                with pytest.raises(SegmentError) as caught:
                    await anext(events)
                assert caught.value.details["sequence"] == 2
                lengths.append(len(caught.traceback))
                assert (await next_of(events)).data == 3
            assert lengths[0] == lengths[1]

    asyncio.run(main())


# --- too slow ---


def test_a_slow_listener_loses_its_own_oldest(bus: Bus, fanout: Fanout) -> None:
    """It keeps the last ones and counts the others; whoever is faster loses nothing, and no publisher is held up."""

    async def main() -> None:
        with fanout.listen() as slow, fanout.listen() as fast:
            for number in range(2000):  # more than the ring holds
                await bus.asend("a", "k", "/p", number, timeout=DEADLINE)
                assert (await next_of(fast)).data == number
            assert (slow.lost, fast.lost) == (1990, 0)
            assert [(await next_of(slow)).data for _ in range(10)] == [*range(1990, 2000)]
            send(bus, *range(25))  # more at once than it may have
            assert [(await next_of(fast)).data for _ in range(10)] == [*range(15, 25)]
            assert (slow.lost, fast.lost) == (1990 + 15, 15)

    asyncio.run(main())


@pytest.mark.parametrize("sent", [[11], [1] * 11, [10, 5], [9, 2, 2]])
def test_a_slow_listener_is_ended(bus: Bus, sent: list[int]) -> None:
    """With ``overflow="close"`` it gets what waits for it, without a gap, and then the end; others go on."""
    fanout = Fanout(bus, "a", limit=10, overflow="close")

    async def main() -> None:
        with fanout.listen() as slow, fanout.listen() as fast:
            first = 0
            for count in sent:
                for part in range(first, first + count, 10):
                    send(bus, *range(part, min(part + 10, first + count)))
                    await drained(bus)
                    for number in range(part, min(part + 10, first + count)):
                        assert (await next_of(fast)).data == number
                first += count
            assert (slow.lost, fast.lost) == (1, 0)
            assert not slow.closed
            assert await rest_of(slow) == [*range(10)]
            assert slow.closed
            send(bus, first)
            assert (await next_of(fast)).data == first

    asyncio.run(main())


def test_a_batch_that_is_larger_than_the_limit(bus: Bus) -> None:
    """Ends whoever has room for a part of it, after that part; the subscription goes with the last listener."""

    async def main() -> None:
        events = Fanout(bus, "a", limit=10, overflow="close").listen()
        send(bus, *range(25))
        assert await rest_of(events) == [*range(10)]
        assert bus.stats().subscribers == ()

    asyncio.run(main())


# --- the loop ---


def test_others_run_meanwhile(bus: Bus) -> None:
    """At least every 256 events, both of whoever listens and of the pump, whatever comes."""
    fanout = Fanout(bus, "a", limit=10_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        counting = asyncio.create_task(count())
        with fanout.listen() as events:
            send(bus, *[0] * 1000)
            before = turns
            await drained(bus)
            assert turns - before >= 3
            before = turns
            for _ in range(1000):
                await anext(events)
            assert turns - before >= 3
        counting.cancel()

    asyncio.run(main())


def test_whoever_waits_is_kept(bus: Bus, fanout: Fanout) -> None:
    """A task that nobody else refers to goes on listening when Python collects."""
    heard: list[Any] = []

    async def listen() -> None:
        async for event in fanout.listen():
            heard.append(event.data)

    async def main() -> None:
        asyncio.ensure_future(listen())  # noqa: RUF006
        await asyncio.sleep(0)
        gc.collect()
        send(bus, 1)
        while not heard:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert heard == [1]


def test_the_pump_keeps_nothing_of_its_first_listener(bus: Bus, fanout: Fanout) -> None:
    """What that one has in its context goes with it."""
    variable: contextvars.ContextVar[set[int]] = contextvars.ContextVar("variable")

    async def first() -> tuple[Listener, weakref.ref[set[int]]]:
        value = {1}
        variable.set(value)
        return fanout.listen(), weakref.ref(value)

    async def main() -> None:
        events, value = await asyncio.create_task(first())
        await asyncio.sleep(0)
        gc.collect()
        assert value() is None
        send(bus, 1)
        assert (await next_of(events)).data == 1

    asyncio.run(main())


def test_tasks_that_start_at_once(bus: Bus, fanout: Fanout) -> None:
    """Where a task runs as it is made, the first listener misses nothing either."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with fanout.listen() as one, fanout.listen() as other:
            send(bus, 1, 2)
            assert [(await next_of(one)).data for _ in range(2)] == [1, 2]
            assert [(await next_of(other)).data for _ in range(2)] == [1, 2]

    asyncio.run(main())


# --- cancelled, closed, dropped ---


def test_cancellation_loses_nothing(bus: Bus, new_loop: NewLoop) -> None:
    """Whoever gives up waiting again and again hears every event once, in order."""
    fanout = Fanout(bus, "a", limit=5000)
    heard: list[int] = []

    async def main() -> None:
        with fanout.listen() as events:
            gave_up = 0
            for number in range(2000):
                if number % 3 == 0:
                    waiting = asyncio.ensure_future(anext(events))
                    await asyncio.sleep(0)
                    send(bus, number)
                    for _ in range(number % 7):
                        await asyncio.sleep(0)
                    gave_up += waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        heard.append((await waiting).data)
                else:
                    send(bus, number)
            while len(heard) < 2000:
                heard.append((await next_of(events)).data)
            assert gave_up > 0

    run_in(new_loop, main())
    assert heard == [*range(2000)]


def test_the_slot_goes_with_the_last_listener(bus: Bus, fanout: Fanout) -> None:
    """And comes with the next one, who hears nothing of what was sent in between."""

    async def main() -> None:
        with fanout.listen() as one:
            with fanout.listen():
                assert len(bus.stats().subscribers) == 1
            assert len(bus.stats().subscribers) == 1
        assert bus.stats().subscribers == ()
        assert one.closed
        assert await rest_of(one) == []
        send(bus, 1)
        with fanout.listen() as one:
            send(bus, 2)
            assert (await next_of(one)).data == 2
            assert len(bus.stats().subscribers) == 1

    asyncio.run(main())


def test_a_listener_that_is_closed_while_it_waits(bus: Bus, fanout: Fanout) -> None:
    """Whoever waits for it sees the end, and others do not."""

    async def main() -> None:
        with fanout.listen() as one, fanout.listen() as other:
            waiting = [asyncio.create_task(rest_of(one)), asyncio.create_task(rest_of(one))]
            await asyncio.sleep(0)
            one.close()
            one.close()
            assert await asyncio.gather(*waiting) == [[], []]
            send(bus, 1)
            assert (await next_of(other)).data == 1

    asyncio.run(main())


def test_a_task_that_is_cancelled_leaves(bus: Bus, fanout: Fanout) -> None:
    """Also where nobody wrote ``with``: with the task goes its listener."""

    async def listen() -> None:
        async for _ in fanout.listen():
            pass

    async def main() -> None:
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        assert len(bus.stats().subscribers) == 1
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        del listening
        gc.collect()
        await asyncio.wait_for(unsubscribed(bus), DEADLINE)

    asyncio.run(main())


def test_a_listener_that_another_thread_drops(bus: Bus, fanout: Fanout) -> None:
    """It goes by its own event loop, which need not have anything to do."""

    async def main() -> None:
        dropped = [fanout.listen()]
        await asyncio.to_thread(dropped.clear)
        await asyncio.wait_for(unsubscribed(bus), DEADLINE)

    asyncio.run(main())


def test_several_tasks_share_a_listener(bus: Bus, fanout: Fanout) -> None:
    """Each event goes to one of them."""

    async def main() -> None:
        with fanout.listen() as events:
            waiting = [asyncio.create_task(next_of(events)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting.pop().cancel()
            send(bus, 1, 2)
            assert sorted(event.data for event in await asyncio.gather(*waiting)) == [1, 2]

    asyncio.run(main())
