"""Thousands of cancellations while events stream into an event loop: none is lost, none comes twice, all in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from eventbus import Bus, Event, Subscription
from harness import DEADLINE, Child, Fork, Line
from jobs import join, manual
from loops import NewLoop, run_in

EVENTS, CANCELLED = 20_000, 500
MANY_CANCELLED = 20_000

Take = Callable[[Event], object]

pytestmark = pytest.mark.usefixtures("doorbell")


class Boom(Exception):
    """What makes a task group cancel its other tasks."""


# --- who sends ---


def stream(line: Line, bus: Bus, seed: int, system: str, longest: float) -> int:
    """Sends numbered events in bursts, with pauses of so many seconds at most, until it is told to end; how many."""
    generator, sent = random.Random(seed), 0
    while sent < EVENTS or not line.told():
        burst = range(sent, sent + generator.choice((1, 1, 2, 3, 20, 200)))
        if generator.random() < 0.5:
            bus.send_many([(system, "k", "/p", number) for number in burst], timeout=DEADLINE)
        else:
            for number in burst:
                bus.send(system, "k", "/p", number, timeout=DEADLINE)
        sent = burst.stop
        time.sleep(generator.random() * longest)
    return sent


# --- ways to ask for events and to give up; each says whether it gave up ---


async def give_up_in_time(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """By ``asyncio.wait_for``."""
    try:
        event = await asyncio.wait_for(sub.areceive(), generator.choice((0, 1e-5, 1e-4, 5e-4)))
    except asyncio.TimeoutError:
        return True
    if event is not None:
        take(event)
    return False


async def give_up_many_in_time(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """The same, for several at once."""
    try:
        events = await asyncio.wait_for(sub.areceive_many(generator.choice((1, 3, 1000))), 1e-4)
    except asyncio.TimeoutError:
        return True
    for event in events:
        take(event)
    return False


async def give_up_by_itself(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """By its own timeout."""
    event = await sub.areceive(timeout=generator.choice((0, 1e-5, 5e-4)))
    if event is not None:
        take(event)
    return event is None


async def be_cancelled(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """As a task, after so many turns of the loop."""
    task = asyncio.ensure_future(sub.channel().areceive())
    for _ in range(generator.randrange(5)):
        await asyncio.sleep(0)
    task.cancel()
    try:
        event, _ = await task
    except asyncio.CancelledError:
        return True
    if event is not None:
        take(event)
    return False


async def be_cancelled_in_a_loop(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """In the middle of ``async for``."""

    async def read() -> None:
        async for event in sub:
            take(event)

    task = asyncio.ensure_future(read())
    await asyncio.sleep(generator.choice((0, 1e-5, 5e-4)))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return task.cancelled()


async def be_cancelled_in_a_group(sub: Subscription, generator: random.Random, take: Take) -> bool:
    """As the other task of the group fails; before 3.11 there are no groups."""
    if sys.version_info < (3, 11):
        return await be_cancelled(sub, generator, take)

    async def read() -> None:
        while True:
            if (event := await sub.areceive()) is not None:
                take(event)

    async def fail() -> None:
        await asyncio.sleep(generator.choice((0, 1e-5, 5e-4)))
        raise Boom

    with pytest.RaisesGroup(Boom):
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            group.create_task(fail())
    return reading.cancelled()


WAYS = [
    give_up_in_time,
    give_up_many_in_time,
    give_up_by_itself,
    be_cancelled,
    be_cancelled_in_a_loop,
    be_cancelled_in_a_group,
]


class Storm:
    """Tasks that ask for events and give up, until there were enough of both; then the sender is told to end."""

    def __init__(self, sender: Child, seed: int, cancelled: int) -> None:
        self._sender = sender
        self._seed = seed
        self._wanted = cancelled
        self._sent: int | None = None
        self._heard: list[list[int]] = []  # by each task, which may be of different threads
        self._gave_up: list[list[bool]] = []

    @property
    def over(self) -> bool:
        """Whether all that was sent was heard."""
        return self._sent is not None and self._count >= self._sent

    @property
    def _count(self) -> int:
        return sum(map(len, self._heard))

    async def rage(self, *asking: tuple[Subscription, Callable[[Event], object]]) -> None:
        """One task for each subscription, and what it does with an event before it counts."""
        await asyncio.gather(self._end(), self.join_in(*asking))

    async def join_in(self, *asking: tuple[Subscription, Callable[[Event], object]]) -> None:
        """More tasks."""
        await asyncio.gather(*(self._ask(*one) for one in asking))

    async def _ask(self, sub: Subscription, done: Callable[[Event], object]) -> None:
        heard, gave_up = list[int](), list[bool]()
        self._heard.append(heard)
        self._gave_up.append(gave_up)
        generator = random.Random(f"{self._seed} {len(self._heard)}")

        def take(event: Event) -> None:
            assert event.deliveries == 1
            done(event)
            heard.append(event.data)

        while not self.over:
            gave_up.append(await generator.choice(WAYS)(sub, generator, take))

    async def _end(self) -> None:
        while self._count < EVENTS or sum(map(sum, self._gave_up)) < self._wanted:
            await asyncio.sleep(1e-3)
        self._sender.say()
        self._sent = await asyncio.to_thread(self._sender.result)

    def check(self) -> None:
        """All were heard, once, and in order by each."""
        assert all(heard == sorted(heard) for heard in self._heard)
        assert sorted(chain.from_iterable(self._heard)) == [*range(self._sent or 0)]


def nothing(_: Event) -> None:
    """There is nothing to do with it."""


# --- storms ---


@pytest.mark.parametrize("seed", range(2))
def test_one_task(bus: Bus, fork: Fork, new_loop: NewLoop, seed: int) -> None:
    """It hears everything in order, however often it is cancelled."""
    with bus.subscribe("a") as sub:
        storm = Storm(fork(stream, bus, seed, "a", 1e-3), seed, CANCELLED)
        run_in(new_loop, storm.rage((sub, nothing)))
    storm.check()


def test_several_tasks(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """They share what one subscription hears."""
    with bus.subscribe("a") as sub:
        storm = Storm(fork(stream, bus, 1, "a", 1e-3), 1, CANCELLED)
        run_in(new_loop, storm.rage(*[(sub, nothing)] * 5))
    storm.check()


def test_two_loops_at_once(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """In two threads, whose tasks share what one subscription hears."""
    with bus.subscribe("a") as sub, ThreadPoolExecutor(2) as threads:
        storm = Storm(fork(stream, bus, 5, "a", 1e-3), 5, CANCELLED)
        halves = [storm.rage(*[(sub, nothing)] * 3), storm.join_in(*[(sub, nothing)] * 3)]
        for half in [threads.submit(run_in, new_loop, half) for half in halves]:
            half.result()
    storm.check()


def test_tens_of_thousands(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """Of cancellations, under load."""
    with bus.subscribe("a") as sub:
        storm = Storm(fork(stream, bus, 2, "a", 1e-3), 2, MANY_CANCELLED)
        run_in(new_loop, storm.rage(*[(sub, nothing)] * 50))
    storm.check()


@pytest.mark.parametrize("prefetch", [1, 7])
def test_members(bus: Bus, fork: Fork, new_loop: NewLoop, prefetch: int) -> None:
    """Of a group, each of whom asks for the next event when the one before is done: all are handled once."""
    members = [join(bus, prefetch) for _ in range(3)]
    storm = Storm(fork(stream, bus, 3, "jobs", 1e-3), 3, CANCELLED)
    run_in(new_loop, storm.rage(*((member, nothing) for member in members)))
    storm.check()
    for member in members:
        member.close()
    settled(bus)


def test_members_that_finish_each_by_itself(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """Several tasks of each of two members: all events are acknowledged once, which no one else was given."""
    members = [manual(bus), manual(bus, 2)]
    storm = Storm(fork(stream, bus, 4, "jobs", 1e-3), 4, CANCELLED)
    run_in(new_loop, storm.rage(*[(member, member.ack) for member in members * 3]))
    storm.check()
    settled(bus)
    for member in members:
        member.close()


def settled(bus: Bus) -> None:
    """The only group has nothing left, and gave nothing out twice."""
    (group,) = bus.stats().groups
    assert (group.backlog, group.redelivered, [one for one in group.members if one.events]) == (0, 0, [])
