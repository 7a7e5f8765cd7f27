"""Fanout: one subscription, and what each of its listeners hears."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, Fanout, InvalidError, PolicyDeniedError, SegmentError
from eventbus.fanout import Listener
from harness import DEADLINE, Fork, Line

LISTENERS = 1000


@pytest.fixture
def fanout(bus: Bus) -> Iterator[Fanout]:
    """What is sent to ``a``, ten events at most for each listener."""
    with Fanout(bus, "a", limit=10) as made:
        yield made


def send(bus: Bus, *numbers: int) -> None:
    """All at once."""
    bus.send_many([("a", "k", "/p", number) for number in numbers])


async def next_of(events: Listener) -> Event:
    """The next event, which must come."""
    return await asyncio.wait_for(anext(events), DEADLINE)


async def rest_of(events: Listener) -> list[Any]:
    """The data of all there is up to the end, which must come."""

    async def read() -> list[Any]:
        return [event.data async for event in events]

    return await asyncio.wait_for(read(), DEADLINE)


async def drained(bus: Bus) -> None:
    """Waits until the only subscription has taken all that was sent."""
    while sum(one.backlog for one in bus.stats().subscribers):
        await asyncio.sleep(0)


async def unsubscribed(bus: Bus) -> None:
    """Waits until there is no subscription."""
    while bus.stats().subscribers:
        await asyncio.sleep(0)


# --- what they hear ---


def test_a_thousand_listeners(bus: Bus) -> None:
    """Each hears every event in order, the same object for all, through one subscription."""
    fanout = Fanout(bus, "a")

    async def listen() -> list[Event]:
        with fanout.listen() as events:
            heard = [await next_of(events) for _ in range(20)]
        return heard

    async def main() -> list[list[Event]]:
        listeners = [asyncio.create_task(listen()) for _ in range(LISTENERS)]
        await asyncio.sleep(0)
        (subscriber,) = bus.stats().subscribers
        assert subscriber.name.startswith("fanout:a@")
        for number in range(20):
            await bus.asend("a", "k", "/p", number)
        return await asyncio.gather(*listeners)

    heard = asyncio.run(main())
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
    """It keeps the last ones and counts the others; whoever is faster loses nothing, and nobody holds a publisher up."""

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


# --- cancelled, closed, dropped ---


def test_cancellation_loses_nothing(bus: Bus) -> None:
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

    asyncio.run(main())
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


# --- the end ---


def test_shutdown_ends_all_after_what_was_sent(bus: Bus, fanout: Fanout) -> None:
    """Each listener hears everything up to it, then the end; nobody can listen any more."""

    async def main() -> None:
        with fanout.listen() as one, fanout.listen() as other:
            waiting = asyncio.create_task(rest_of(other))
            await asyncio.sleep(0)
            send(bus, 1, 2, 3)
            bus.shutdown()
            assert await rest_of(one) == [1, 2, 3]
            assert await waiting == [1, 2, 3]
        with pytest.raises(ClosedError):
            fanout.listen()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["bus", "fanout", "aclose", "thread"])
def test_closing_ends_all_after_what_they_have(name: str, how: str) -> None:
    """Whatever is closed, by whomever."""

    async def main(bus: Bus, fanout: Fanout) -> None:
        one, other = fanout.listen(), fanout.listen()
        waiting = asyncio.create_task(rest_of(other))
        send(bus, 1)
        await drained(bus)
        if how == "bus":
            await bus.aclose()
        elif how == "thread":
            await asyncio.to_thread(fanout.close)
        elif how == "aclose":
            await fanout.aclose()
        else:
            fanout.close()
        assert await rest_of(one) == await waiting == [1]
        with pytest.raises(ClosedError):
            fanout.listen()

    with eventbus.open(name, capacity=4096) as bus:
        asyncio.run(main(bus, Fanout(bus, "a")))


def test_a_fanout_that_is_dropped_goes_on_for_its_listeners(bus: Bus) -> None:
    """And ends with the last of them."""

    async def main() -> None:
        with Fanout(bus, "a").listen() as events:
            gc.collect()
            send(bus, 1)
            assert (await next_of(events)).data == 1
        assert bus.stats().subscribers == ()

    asyncio.run(main())


def test_a_failure_reaches_every_listener(name: str) -> None:
    """After what was heard before it; and whoever listens next starts anew."""
    broken = True

    def policy(actor: str, action: str, system: str) -> bool:
        if broken and system == "a.broken":
            raise ZeroDivisionError
        return True

    async def main(bus: Bus, fanout: Fanout) -> None:
        nonlocal broken
        one, other = fanout.listen(), fanout.listen()
        bus.send("a", "k", "/p", 1)
        await drained(bus)
        broken = False
        bus.send("a.broken", "k", "/p", 2)
        broken = True
        assert (await next_of(one)).data == 1
        assert (await next_of(other)).data == 1
        for events in (one, other, one):
            with pytest.raises(ZeroDivisionError) as caught:
                await next_of(events)
            assert caught.traceback[-1].name == "policy"
        broken = False
        with fanout.listen() as events:
            bus.send("a.broken", "k", "/p", 3)
            assert (await next_of(events)).data == 3

    with eventbus.open(name, policy=policy, capacity=4096) as bus:
        asyncio.run(main(bus, Fanout(bus, "a.**")))


# --- event loops, processes, arguments ---


def test_one_event_loop_after_the_other(bus: Bus, fanout: Fanout) -> None:
    """Each is heard in, whatever became of the listeners in the one before; nothing in between holds publishers up."""
    left: list[Listener] = []

    async def main(number: int) -> None:
        left.append(fanout.listen())
        asyncio.ensure_future(anext(left[-1]))  # noqa: RUF006  still waiting at the end
        with fanout.listen() as events:
            send(bus, number)
            assert (await next_of(events)).data == number

    for number in range(3):
        asyncio.run(main(number))
        assert bus.stats().subscribers == ()
        for _ in range(1000):  # more than the ring holds
            bus.send("a", "k", "/p", "x" * 100, timeout=0)
    assert len(left) == 3


def test_an_event_loop_that_was_closed_in_the_middle(bus: Bus, fanout: Fanout) -> None:
    """Its listeners are over with the next event loop that listens."""
    loop = asyncio.new_event_loop()

    async def listen() -> Listener:
        return fanout.listen()

    left = loop.run_until_complete(listen())
    loop.close()

    async def main() -> None:
        with fanout.listen() as events:
            assert len(bus.stats().subscribers) == 1
            send(bus, 1)
            assert (await next_of(events)).data == 1

    asyncio.run(main())
    assert left.lost == 0


def test_two_event_loops_at_once(bus: Bus, fanout: Fanout) -> None:
    """The second one is told to have a fan-out of its own."""

    async def fail() -> None:
        with pytest.raises(InvalidError, match="another event loop"):
            fanout.listen()

    async def main() -> None:
        with fanout.listen():
            await asyncio.to_thread(asyncio.run, fail())

    asyncio.run(main())


def test_no_event_loop(bus: Bus, fanout: Fanout) -> None:
    """It can be made without one; it cannot be listened to."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        fanout.listen()
    assert bus.stats().subscribers == ()


def listen_in_child(line: Line, bus: Bus, fanout: Fanout, left: Listener) -> list[Any]:
    """What a forked child hears through what it inherited."""

    async def main() -> list[Any]:
        with fanout.listen() as events:
            line.say()
            return [(await next_of(events)).data]

    assert threading.active_count() == 1
    return asyncio.run(main())


def test_a_fork(bus: Bus, fanout: Fanout, fork: Fork) -> None:
    """A child listens by a subscription of its own, and takes nothing from its parent's listeners."""
    loop = asyncio.new_event_loop()

    async def listen() -> Listener:
        return fanout.listen()

    events = loop.run_until_complete(listen())
    child = fork(listen_in_child, bus, fanout, events)
    child.hear()
    assert len(bus.stats().subscribers) == 2
    send(bus, 1)
    assert child.result() == [1]
    assert loop.run_until_complete(next_of(events)).data == 1
    events.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize(
    "wrong", [{"system": "a*"}, {"kind": "a..b"}, {"limit": 0}, {"limit": True}, {"limit": "1"}, {"overflow": "block"}]
)
def test_what_is_wrong_is_said_at_once(bus: Bus, wrong: dict[str, Any]) -> None:
    """Not when the first listener comes."""
    with pytest.raises(InvalidError):
        Fanout(bus, **{"system": "a", **wrong})


def test_a_policy_holds_for_all(name: str) -> None:
    """What it forbids cannot be listened to."""
    with eventbus.open(name, policy=lambda actor, action, system: system == "a", capacity=4096) as bus:
        Fanout(bus, "a")
        with pytest.raises(PolicyDeniedError):
            Fanout(bus, "b")
