"""The receive flow in an event loop: it hears what a call hears, and waits where a call waits."""

from __future__ import annotations

import asyncio
import threading
from itertools import chain

import orjson
import pytest

import eventbus
from eventbus import Bus, ClosedError, InvalidError, SegmentError, Subscription
from eventbus.core.reader import SubscriptionHandle
from eventbus.loop import Pauses
from harness import DEADLINE, Fork
from loops import next_of, publisher, run, waiting

pytestmark = pytest.mark.usefixtures("doorbell")


@pytest.mark.parametrize("group", [None, "g"])
def test_what_is_there_and_what_comes(bus: Bus, fork: Fork, group: str | None) -> None:
    """Events that were sent before are had at once, those of other processes when they come."""
    other = publisher(fork, bus)

    async def main() -> None:
        async with bus.subscribe("a", group=group) as sub:
            bus.send("a", "b", "/c", 1)
            assert (await next_of(sub)).data == 1
            for number in range(2, 50):
                task = await waiting(next_of(sub))
                other.say(number)
                assert (await task).data == number
                assert other.hear() == number

    run(main())
    other.say(None)
    other.result()


def test_nothing_came(bus: Bus) -> None:
    """Where the time is up there is None; without any, at once; a bad one is refused."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            bus.send("other", "b", "/c")
            assert await sub.areceive(0) is None
            assert await sub.areceive(0.01) is None
            assert await sub.areceive_many(3, 0.01) == []
            assert await sub.channel().areceive(0.01) == (None, True)
            with pytest.raises(InvalidError):
                await sub.areceive(-1)
            with pytest.raises(InvalidError):
                await sub.areceive_many(0)
        assert await sub.areceive() is None
        assert await sub.areceive_many(1) == []
        assert await sub.channel().areceive() == (None, False)

    run(main())


def test_several_at_once(bus: Bus) -> None:
    """As many as there are, up to the limit, and the rest next time."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(sub.areceive_many(3))
            bus.send_many([("a", "b", "/c", number) for number in range(5)])
            assert [event.data for event in await task] == [0, 1, 2]
            assert [event.data for event in await sub.areceive_many(3)] == [3, 4]

    run(main())


@pytest.mark.parametrize("group", [None, "g"])
def test_iteration_ends_with_the_bus(bus: Bus, group: str | None) -> None:
    """All that was sent comes in order; the end of the bus is the end of the loop, for each that waits."""

    async def numbers(sub: Subscription) -> list[int]:
        return [event.data async for event in sub]

    async def main() -> None:
        async with bus.subscribe("a", group=group, prefetch=1 if group is None else 7) as sub:
            bus.send_many([("a", "b", "/c", number) for number in range(300)])
            tasks = [asyncio.ensure_future(numbers(sub)) for _ in range(3)]
            await asyncio.sleep(0)
            for number in range(300, 310):
                await bus.asend("a", "b", "/c", number)
            bus.shutdown()
            heard = await asyncio.gather(*tasks)
            assert sorted(chain(*heard)) == list(range(310))
            assert all(one == sorted(one) for one in heard)

    run(main())


def test_others_run_in_between(bus: Bus) -> None:
    """Events that are all there keep nobody else in the loop waiting for more than 256 of them."""
    taken, seen = 0, [0]

    async def look() -> None:
        while True:
            seen.append(taken)
            await asyncio.sleep(0)

    async def main() -> None:
        nonlocal taken
        other = asyncio.ensure_future(look())
        async with bus.subscribe("a") as sub:
            for take in (iterate, one_by_one, handfuls):
                taken, seen[:] = 0, [0]
                bus.send_many([("a", "b", "/c", 0)] * 1000)
                await take(sub)
                assert max(after - before for before, after in zip(seen, [*seen[1:], 1000], strict=True)) <= 256
        other.cancel()

    async def iterate(sub: Subscription) -> None:
        nonlocal taken
        async for _ in sub:
            taken += 1
            if taken == 1000:
                break

    async def one_by_one(sub: Subscription) -> None:
        nonlocal taken
        while taken < 1000:
            await next_of(sub)
            taken += 1

    async def handfuls(sub: Subscription) -> None:
        nonlocal taken
        while taken < 1000:
            taken += len(await sub.areceive_many(100))

    run(main())


def test_one_that_cannot_be_read_ends_nothing(bus: Bus) -> None:
    """It is an error of its own; what comes after it is next, by the same iterator."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            bus.send("a", "b", "/c", 1)
            bus.send("a", "b", "/c", orjson.Fragment(b"no json"))
            bus.send("a", "b", "/c", 2)
            events = aiter(sub)
            assert (await anext(events)).data == 1
            with pytest.raises(SegmentError, match="cannot be read"):
                await anext(events)
            assert (await anext(events)).data == 2

    run(main())


def test_tasks_share_the_events(bus: Bus) -> None:
    """Each event goes to one of those who wait, in the order of their waiting."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            tasks = [await waiting(next_of(sub)) for _ in range(5)]
            bus.send_many([("a", "b", "/c", number) for number in range(5)])
            assert [(await task).data for task in tasks] == [0, 1, 2, 3, 4]

    run(main())


def test_those_who_wait_leave_each_other_asleep(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks once, lies down, and the loop has nothing to do."""
    armed: list[SubscriptionHandle] = []
    arm = SubscriptionHandle.arm

    def count(sub: SubscriptionHandle, apart: bool = False) -> int | None:
        armed.append(sub)
        return arm(sub, apart)

    monkeypatch.setattr(SubscriptionHandle, "arm", count)

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            tasks = [await waiting(next_of(sub)) for _ in range(3)]
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(armed) == 3
            tasks[1].cancel()
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(armed) <= 4  # one of those who are left looks again
            bus.send_many([("a", "b", "/c", number) for number in range(2)])
            assert [(await task).data for task in (tasks[0], tasks[2])] in ([0, 1], [1, 0])

    run(main())


def test_cancelled_it_has_taken_nothing(bus: Bus) -> None:
    """Also where it was told of the event in the same turn of the loop; another one that waits gets it."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            first, second = [await waiting(next_of(sub)) for _ in range(2)]
            bus.send("a", "b", "/c", 1)
            assert sub._doorbell is not None
            sub._doorbell.next(sub._subscription)  # it goes on in the next turn
            first.cancel()
            assert (await second).data == 1
            assert first.cancelled()

    run(main())


def test_loops_one_after_the_other_and_at_once(bus: Bus) -> None:
    """A subscription outlives the loop that waited for it; two loops may wait for one bus, each for its own."""
    subs = [bus.subscribe("a"), bus.subscribe("a")]
    both = threading.Barrier(2)

    async def once(sub: Subscription, number: int) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sub.areceive(), 0.01)
        task = await waiting(next_of(sub))
        await asyncio.get_running_loop().run_in_executor(None, both.wait, DEADLINE)
        await bus.asend("a", "b", "/c", number)
        assert {(await task).data, (await next_of(sub)).data} == {0, 1}

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(once(sub, number),)) for number, sub in enumerate(subs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
    assert [sub.receive(0) for sub in subs] == [None, None]


def test_a_call_beside_one_that_waits(bus: Bus) -> None:
    """A call that receives leaves whoever waits in the loop to be told of what comes after it."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(next_of(sub))
            bus.send("a", "b", "/c", 1)
            event = sub.receive(0)
            assert event is not None
            assert event.data == 1
            bus.send("a", "b", "/c", 2)
            assert (await task).data == 2

    run(main())


@pytest.mark.parametrize("where", ["the loop", "a thread"])
@pytest.mark.parametrize("what", ["subscription", "bus"])
def test_closed_while_somebody_waits(name: str, what: str, where: str) -> None:
    """Whoever waits sees the end, wherever the subscription or its bus was closed."""

    async def main() -> None:
        bus = eventbus.open(name)
        sub = bus.subscribe("a")
        tasks = [await waiting(sub.areceive()) for _ in range(3)]
        close = bus.close if what == "bus" else sub.close
        await asyncio.get_running_loop().run_in_executor(None, close) if where == "a thread" else close()
        assert await asyncio.gather(*tasks) == [None, None, None]
        assert sub.closed
        bus.close()
        assert bus.closed

    run(main())


def test_left_by_an_exception_a_member_gives_back(bus: Bus) -> None:
    """As in a with-block: what it had in hand comes to the next one; left in peace it is done."""

    async def fail_with_it_in_hand() -> None:
        async with bus.subscribe("a", group="g") as sub:
            assert (await next_of(sub)).data == 1
            raise ValueError("mine")

    async def main() -> None:
        bus.group("g", "a")
        bus.send_many([("a", "b", "/c", 1), ("a", "b", "/c", 2)])
        with pytest.raises(ValueError, match="mine"):
            await fail_with_it_in_hand()
        async with bus.subscribe("a", group="g") as sub:
            event = await next_of(sub)
            assert (event.data, event.deliveries) == (1, 2)
        async with bus.subscribe("a", group="g") as sub:
            assert (await next_of(sub)).data == 2
            await sub.aclose()
        assert bus.stats().groups[0].backlog == 0

    run(main())


def test_full_hands_wait_for_an_acknowledgement(bus: Bus) -> None:
    """A member that finishes events by itself gets the next one once one of those in hand is done."""

    async def main() -> None:
        async with bus.subscribe("a", group="g", ack="manual", prefetch=2) as sub:
            bus.send_many([("a", "b", "/c", number) for number in range(4)])
            first, second = await next_of(sub), await next_of(sub)
            task = await waiting(next_of(sub))
            sub.ack(second)
            third = await task
            task = await waiting(next_of(sub))
            sub.reject(first)
            again = await task
            assert (third.data, again.data, again.deliveries) == (2, 0, 2)

    run(main())


def test_what_is_scheduled_comes_to_a_loop(bus: Bus) -> None:
    """Asleep in a loop, a subscription of a member sends what is due, and hears it."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(next_of(sub))
            bus.send_later("a", "b", "/c", 1, delay=0.05)
            assert (await task).data == 1

    run(main())


def test_a_child_waits_in_a_loop_of_its_own(bus: Bus, fork: Fork) -> None:
    """An inherited subscription is refused there; the bus has a doorbell of its own in each process."""

    async def hear(sub: Subscription) -> object:
        return (await next_of(sub)).data

    def child(line: object, inherited: Subscription) -> object:
        with pytest.raises(ClosedError, match="forked"):
            run(hear(inherited))
        with bus.subscribe("a") as sub:
            line.say()  # type: ignore[attr-defined]
            return run(hear(sub))

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(hear(sub))
            other = fork(child, sub)
            other.hear()
            await bus.asend("a", "b", "/c", 1)
            assert await task == 1
            assert other.result() == 1

    run(main())


def test_pauses_grow_only_while_there_is_nothing(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event comes just as the subscription would lie down, which it does not then; it is had in the next turn."""
    pauses: list[float] = []
    take = Pauses.take

    def arm(_: SubscriptionHandle, apart: bool = False) -> None:
        bus.send("a", "b", "/c")

    def taken(self: Pauses) -> float:
        pauses.append(take(self))
        return pauses[-1]

    monkeypatch.setattr(SubscriptionHandle, "arm", arm)
    monkeypatch.setattr(Pauses, "take", taken)

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            for _ in range(5):
                await next_of(sub)

    run(main())
    assert pauses == [0.0] * 5
