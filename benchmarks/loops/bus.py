"""The subject in an event loop, and beside it the same with the calls that block."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from operator import attrgetter
from typing import Any

from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad, wrong
from benchmarks.loops.ends import (
    Answerer,
    Ask,
    Asker,
    BlockingListener,
    Listener,
    Loop,
    LoopAnswerer,
    LoopAsker,
    Looped,
    LoopListener,
)
from benchmarks.peer import Topology
from benchmarks.peers.bus import BusMedium
from eventbus import Subscription
from eventbus import open as open_bus

_TIMEOUT = 10.0
_SPARE = 24
_FEWEST_SLOTS = 64


class _Attached(Looped):
    """Opens the bus as an event loop does, and leaves it so."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._name = name
        self._held = AsyncExitStack()
        super().__init__(loop)

    async def open(self, **terms: Any) -> None:
        self.bus = await self._held.enter_async_context(open_bus(self._name, **terms))

    async def subscribe(self) -> Subscription:
        return await self._held.enter_async_context(self.bus.subscribe(SYSTEM))

    async def leave(self) -> None:
        await self._held.aclose()


class BusListener(_Attached, LoopListener):
    data_of = attrgetter("data")

    async def enter(self) -> None:
        await self.open()
        self.messages = aiter(await self.subscribe())


class BlockingBusListener(BlockingListener):
    data_of = attrgetter("data")

    def __init__(self, name: str) -> None:
        self._bus = open_bus(name)
        self._subscription = self._bus.subscribe(SYSTEM)
        self.messages = iter(self._subscription)

    def close(self) -> None:
        self._subscription.close()
        self._bus.close()


class BusAnswerer(_Attached, LoopAnswerer):
    async def enter(self) -> None:
        await self.open()
        self._subscription = await self.subscribe()

    async def answer(self, requests: int) -> None:
        left = requests
        async for event in self._subscription:
            await event.areply(event.data)
            left -= 1
            if not left:
                break


class BlockingAnswerer(Answerer):
    def __init__(self, name: str) -> None:
        self._bus = open_bus(name)
        self._subscription = self._bus.subscribe(SYSTEM)

    def serve(self, requests: int) -> None:
        left = requests
        for event in self._subscription:
            event.reply(event.data)
            left -= 1
            if not left:
                break

    def close(self) -> None:
        self._subscription.close()
        self._bus.close()


class BusAsker(_Attached, LoopAsker):
    async def enter(self) -> None:
        await self.open()

    async def line(self) -> Ask:
        return partial(self.bus.arequest, SYSTEM, KIND, PATH, timeout=_TIMEOUT)


class BlockingAsker(Asker):
    """Asks with `Bus.request`: many at once in as many threads."""

    def __init__(self, name: str) -> None:
        self._bus = open_bus(name)
        self._ask: Callable[[Any], Any] = partial(self._bus.request, SYSTEM, KIND, PATH, timeout=_TIMEOUT)

    def trips(self, load: JsonLoad, requests: int) -> array[int]:
        ask, times, now = self._ask, array("q"), time.monotonic_ns
        for number, data in enumerate(load.events(0, range(requests))):
            asked = now()
            answer = ask(data)
            times.append(now() - asked)
            if answer["number"] != number:
                raise wrong(number, answer["number"])
        return times

    def together(self, load: JsonLoad, requests: int, tasks: int) -> None:
        shares = [range(task, requests, tasks) for task in range(tasks)]
        with ThreadPoolExecutor(tasks) as threads:
            list(threads.map(partial(self._in_turn, load), shares))

    def _in_turn(self, load: JsonLoad, numbers: range) -> None:
        for number, data in zip(numbers, load.events(0, numbers), strict=True):
            answer = self._ask(data)
            if answer["number"] != number:
                raise wrong(number, answer["number"])

    def close(self) -> None:
        self._bus.close()


class Crowd(_Attached):
    """Many subscriptions in one loop, each with a task of its own that hears all events."""

    def __init__(self, loop: Loop, name: str, listeners: int) -> None:
        self._listeners = listeners
        super().__init__(loop, name)

    def join(self) -> None:
        """Open the bus and subscribe."""
        self.run(self._join())

    async def _join(self) -> None:
        await self.open(max_subscribers=max(self._listeners + _SPARE, _FEWEST_SLOTS))
        self._subscriptions = [await self.subscribe() for _ in range(self._listeners)]

    def check(self, events: int) -> None:
        """Take so many events by every subscription, as `Listener.check` does."""
        self.run(self._check(events))

    async def _check(self, events: int) -> None:
        await asyncio.gather(*(_checked(subscription, events) for subscription in self._subscriptions))


async def _checked(subscription: Subscription, events: int) -> None:
    due = 0
    async for event in subscription:
        if event.data["number"] != due:
            raise wrong(due, event.data["number"])
        due += 1
        if due == events:
            break


class LoopMedium(BusMedium):
    """Both ends of requests in loops of their own; the publisher of a stream blocks."""

    def __init__(self, topology: Topology, new_loop: Callable[[], Loop] = asyncio.new_event_loop) -> None:
        super().__init__(topology)
        self._new_loop = new_loop

    def listener(self) -> Listener:
        return BusListener(self._new_loop(), self._name)

    def crowd(self, listeners: int) -> Crowd:
        """Return so many subscriptions, to be joined."""
        return Crowd(self._new_loop(), self._name, listeners)

    def asker(self) -> Asker:
        return BusAsker(self._new_loop(), self._name)

    def answerer(self) -> Answerer:
        return BusAnswerer(self._new_loop(), self._name)


class HalfLoopMedium(LoopMedium):
    """Requests out of a loop, to a server that blocks."""

    def answerer(self) -> Answerer:
        return BlockingAnswerer(self._name)


class BlockingMedium(HalfLoopMedium):
    def listener(self) -> Listener:
        return BlockingBusListener(self._name)

    def asker(self) -> Asker:
        return BlockingAsker(self._name)


connect = LoopMedium
connect_half = HalfLoopMedium
connect_blocking = BlockingMedium
