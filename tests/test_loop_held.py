"""A process that was stopped while it holds a lock: event loops of others go on, and who needs it waits in them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Fanout
from harness import Child, Fork, Line, arm
from jobs import join, manual
from jobs import send as send_jobs
from loops import run

TURNS = 100


def stop_at(line: Line, name: str, point: str, act: Callable[[Bus], object]) -> None:
    """Stands still at a test point in the middle of what it does."""
    with eventbus.open(name) as bus:
        arm(point, signal.SIGSTOP)
        act(bus)


def stopped(fork: Fork, bus: Bus, point: str, act: Callable[[Bus], object]) -> Child:
    """A process that holds a lock."""
    child = fork(stop_at, bus.name, point, act)
    child.wait_stopped()
    return child


async def beside(coroutine: Awaitable[Any], holder: Child) -> Any:
    """What comes of it once the holder of the lock goes on; the loop has so many turns before."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(TURNS):
        await asyncio.sleep(0)
        assert not task.done(), "it did without the lock, or waited for it outside of the loop"
    holder.go_on()
    done = await task
    await asyncio.to_thread(holder.result)
    return done


async def subscribed(bus: Bus) -> list[object]:
    """What is heard by one who subscribes now."""
    async with bus.subscribe("a") as sub:
        await bus.asend("a", "k", "/p", 1)
        event = await sub.areceive()
        return [event and event.data]


async def joined(bus: Bus) -> list[object]:
    """The same by a member of a new group."""
    async with bus.subscribe("a", group="new") as member:
        await bus.asend("a", "k", "/p", 1)
        event = await member.areceive()
        return [event and event.data]


async def listened(bus: Bus) -> list[object]:
    """The same by a listener."""
    async with Fanout(bus, "a") as fanout, fanout.listen() as events:
        await bus.asend("a", "k", "/p", 1)
        return [(await anext(events)).data]


async def used_at_once(bus: Bus) -> list[object]:
    """The same by one who does not enter what it subscribes."""
    sub = bus.subscribe("a", start="oldest")
    await bus.asend("a", "k", "/p", 1)
    event = await sub.areceive()
    await sub.aclose()
    return [event and event.data]


@pytest.mark.parametrize("act", [subscribed, joined, listened, used_at_once])
def test_the_lock_of_the_roster(bus: Bus, fork: Fork, act: Callable[[Bus], Awaitable[list[object]]]) -> None:
    """Whoever subscribes hears what is sent once it has been entered."""

    async def main() -> list[object]:
        holder = stopped(fork, bus, "roster_locked", lambda bus: bus.subscribe("b").close())
        heard: list[object] = await beside(act(bus), holder)
        return heard

    assert run(main()) == [1]


def test_the_door(bus: Bus, fork: Fork) -> None:
    """Whoever opens the bus waits in its loop for one who is half-way in."""

    async def opened() -> int:
        async with eventbus.open(bus.name) as another:
            return another.stats().attached

    async def main() -> int:
        holder = stopped(fork, bus, "door_entered", lambda bus: eventbus.open(bus.name).close())
        there: int = await beside(opened(), holder)
        return there

    assert run(main()) >= 2


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_the_lock_of_a_group(bus: Bus, fork: Fork, ack: str) -> None:
    """A member gets its event once the lock is free, and others of its loop run meanwhile."""

    async def main() -> None:
        member = join(bus) if ack == "auto" else manual(bus)
        holder = stopped(fork, bus, "group_locked", lambda bus: bus.subscribe("jobs.**", group="g").receive(0))
        send_jobs(bus, 1)
        event = await beside(member.areceive(), holder)
        assert event.data == 0
        member.close()

    run(main())


def test_the_publish_lock(bus: Bus, fork: Fork) -> None:
    """It keeps nobody from hearing what was sent before, nor from subscribing; whoever sends waits in the loop."""

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            await bus.asend("a", "k", "/p", 1)
            holder = stopped(fork, bus, "publish_locked", lambda bus: bus.send("a", "k", "/p", 2))
            event = await sub.areceive()
            assert event is not None
            assert event.data == 1
            async with bus.subscribe("a") as late:
                assert await beside(bus.asend("a", "k", "/p", 3), holder)
                assert [event.data for event in await late.areceive_many(2)] == [2, 3]

    run(main())
