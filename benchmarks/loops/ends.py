"""The ends of a stream and of requests, as they are in an event loop: what every peer of these benchmarks has."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from benchmarks.load import JsonLoad, wrong
from benchmarks.peer import Endpoint, Publisher

Loop = asyncio.AbstractEventLoop
Ask = Callable[[Any], Awaitable[Any]]
"""Sends data and returns what came back for it."""

_Result = TypeVar("_Result")


class Looped(Endpoint):
    """An end with an event loop of its own, which runs while something is measured and stands still in between."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.run(self.enter())

    async def enter(self) -> None:
        """Connect."""

    async def leave(self) -> None:
        """Give back what this end holds in its loop."""

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run one piece of work to its end, and what the peer has in the loop beside it."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.leave())
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()


# --- streams ---


class Listener(Endpoint, ABC):
    """The receiving end of a stream of events, which come from one publisher in their order."""

    data_of: Callable[[Any], Any]
    """The data of an event in one of the peer's messages."""

    @abstractmethod
    def one_by_one(self) -> Iterator[Any]:
        """Yield the data of each event heard, for ever, without haste: for the handshake."""

    @abstractmethod
    def check(self, events: int) -> None:
        """Take so many events, numbered from 0.

        Raises:
            OrderError: one is missing, double or out of order.
        """

    @abstractmethod
    def arrivals(self, events: int) -> array[int]:
        """Take so many paced events, as `check` does; returns how many nanoseconds each has been under way."""


class LoopListener(Looped, Listener):
    """Takes them with ``async for``."""

    messages: AsyncIterator[Any]
    """The peer's own messages, for ever."""

    def one_by_one(self) -> Iterator[Any]:
        while True:
            yield self.data_of(self.run(self._next()))

    async def _next(self) -> Any:
        return await anext(self.messages)

    def check(self, events: int) -> None:
        self.run(self._check(events))

    async def _check(self, events: int) -> None:
        data_of, due = self.data_of, 0
        async for message in self.messages:
            number = data_of(message)["number"]
            if number != due:
                raise wrong(due, number)
            due += 1
            if due == events:
                break

    def arrivals(self, events: int) -> array[int]:
        return self.run(self._arrivals(events))

    async def _arrivals(self, events: int) -> array[int]:
        data_of, times, now = self.data_of, array("q"), time.monotonic_ns
        async for message in self.messages:
            data = data_of(message)
            times.append(now() - data["sent"])
            if data["number"] != len(times) - 1:
                raise wrong(len(times) - 1, data["number"])
            if len(times) == events:
                break
        return times


class BlockingListener(Listener):
    """Takes them with ``for``, and does the same with each."""

    messages: Iterator[Any]

    def one_by_one(self) -> Iterator[Any]:
        return map(self.data_of, self.messages)

    def check(self, events: int) -> None:
        data_of, due = self.data_of, 0
        for message in self.messages:
            number = data_of(message)["number"]
            if number != due:
                raise wrong(due, number)
            due += 1  # noqa: SIM113  what the other loop does, too
            if due == events:
                break

    def arrivals(self, events: int) -> array[int]:
        data_of, times, now = self.data_of, array("q"), time.monotonic_ns
        for message in self.messages:
            data = data_of(message)
            times.append(now() - data["sent"])
            if data["number"] != len(times) - 1:
                raise wrong(len(times) - 1, data["number"])
            if len(times) == events:
                break
        return times


class Streaming(Protocol):
    """The medium of a stream."""

    def publisher(self, index: int, /) -> Publisher: ...

    def listener(self) -> Listener: ...


# --- requests ---


class Answerer(Endpoint, ABC):
    """The server: answers each request with its own data."""

    @abstractmethod
    def serve(self, requests: int) -> None:
        """Answer so many requests."""


class LoopAnswerer(Looped, Answerer):
    def serve(self, requests: int) -> None:
        self.run(self.answer(requests))

    @abstractmethod
    async def answer(self, requests: int) -> None:
        """What `serve` does."""


class Asker(Endpoint, ABC):
    """The end that asks."""

    @abstractmethod
    def trips(self, load: JsonLoad, requests: int) -> array[int]:
        """Ask so often, the next when the last is answered; returns nanoseconds from before each until its answer.

        Raises:
            OrderError: the answer to another request came.
        """

    @abstractmethod
    def together(self, load: JsonLoad, requests: int, tasks: int) -> None:
        """Ask so often, ``tasks`` at once, each as `trips` does."""


class LoopAsker(Looped, Asker):
    """Asks with one line per task, which stays open."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self._lines: list[Ask] = []

    @abstractmethod
    async def line(self) -> Ask:
        """Return what one more task asks with."""

    async def _line(self, task: int) -> Ask:
        while len(self._lines) <= task:
            self._lines.append(await self.line())
        return self._lines[task]

    def trips(self, load: JsonLoad, requests: int) -> array[int]:
        return self.run(self._trips(load, requests))

    async def _trips(self, load: JsonLoad, requests: int) -> array[int]:
        ask, times, now = await self._line(0), array("q"), time.monotonic_ns
        for number, data in enumerate(load.events(0, range(requests))):
            asked = now()
            answer = await ask(data)
            times.append(now() - asked)
            if answer["number"] != number:
                raise wrong(number, answer["number"])
        return times

    def together(self, load: JsonLoad, requests: int, tasks: int) -> None:
        self.run(self._together(load, requests, tasks))

    async def _together(self, load: JsonLoad, requests: int, tasks: int) -> None:
        lines = [await self._line(task) for task in range(tasks)]
        shares = [range(task, requests, tasks) for task in range(tasks)]
        await asyncio.gather(*(_in_turn(*one, load) for one in zip(lines, shares, strict=True)))


async def _in_turn(ask: Ask, numbers: range, load: JsonLoad) -> None:
    for number, data in zip(numbers, load.events(0, numbers), strict=True):
        answer = await ask(data)
        if answer["number"] != number:
            raise wrong(number, answer["number"])


class Asking(Protocol):
    """The medium of requests."""

    def asker(self) -> Asker: ...

    def answerer(self) -> Answerer: ...
