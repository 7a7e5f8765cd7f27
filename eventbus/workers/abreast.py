"""Abreast: the events of an ``async def`` handler, several at once in the event loop of a process."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Literal

from eventbus.errors import UnavailableError
from eventbus.event import Event
from eventbus.loop import LONGEST_PAUSE, in_thread
from eventbus.member import Member
from eventbus.request import Request
from eventbus.workers.loop import Loop
from eventbus.workers.ways import Handle, Result, Watcher

_log = logging.getLogger("eventbus.worker")


class InLoop:
    """Several events at once, each in a task of its own and acknowledged by itself; the loop runs all the time."""

    ack: Literal["auto", "manual"] = "manual"

    def __init__(
        self, loop: Loop, watcher: Watcher, concurrency: int, timeout: float | None, shutdown_timeout: float | None
    ) -> None:
        """Makes one for a process that has not joined yet.

        Args:
            loop: the process's.
            watcher: told which event has been under way for longest, where that is limited.
            concurrency: how many are under way at most.
            timeout: seconds after which an event is cancelled; None for no limit.
            shutdown_timeout: seconds that events may take when no further ones are taken; None for no limit.
        """
        self.concurrency = concurrency
        self._loop = loop
        self._watcher = watcher
        self._timeout = timeout
        self._shutdown_timeout = shutdown_timeout
        self._under_way: dict[int, asyncio.Task[None]] = {}  # by sequences
        self._since: dict[int, int] = {}  # in ns, the oldest first
        self._expired: set[int] = set()
        self._news: asyncio.Future[None] | None = None  # of the flow, when it waits for what is under way
        self._broken: BaseException | None = None  # what is no handler's failure
        self._stopped = False
        self._end_by: float | None = None  # by the clock of the loop
        self._leaving = False

    def drive(self, flow: Coroutine[Any, Any, Result]) -> Result:
        """Runs the loop until the flow has come to its end."""
        result: Result = self._loop.done(flow)
        return result

    def begin(self, member: Member) -> None:
        """The process has joined its group."""
        self._running = asyncio.get_running_loop()
        self._member = member

    # --- take ---

    async def wait_for_turn(self) -> None:
        """Waits until another event may begin, or none will."""
        while len(self._under_way) >= self.concurrency and not self._stopped:
            await self._until_one_ends()

    async def take(self, limit: int, timeout: float | None = None) -> Iterable[Event]:
        """The next events, as many as may begin.

        On a bus that was shut down nothing comes while something is in hand here, and what is given back of that is to
        be had once it was: so the end has come when nothing is under way any more, or not in time.
        """
        await self.wait_for_turn()
        while not self._stopped:
            if limit < self.concurrency:
                self._member.claim_at_most(len(self._under_way) + limit)
            events = await self._received(min(limit, self.concurrency - len(self._under_way)), timeout)
            if events or not self._under_way:
                self._end_by = None
                return events
            if not await self._one_ends_in_time():
                break
            self._member.resume()
        return ()

    async def _received(self, limit: int, timeout: float | None) -> list[Event]:
        while True:
            try:
                return await self._member.areceive_many(limit, timeout)
            except UnavailableError:  # somebody who is stopped keeps the lock of the group
                await asyncio.sleep(LONGEST_PAUSE)

    async def _until_one_ends(self, deadline: float = math.inf) -> None:
        """Or until the deadline, by the clock of the loop, or until no further event is taken."""
        self._news = news = self._running.create_future()
        timer = None if deadline == math.inf else self._running.call_at(deadline, _tell, news)
        try:
            await news
        finally:
            self._news = None
            if timer is not None:
                timer.cancel()

    async def _one_ends_in_time(self) -> bool:
        """Counted from when no further event was to be had."""
        if self._end_by is None:
            limit = math.inf if self._shutdown_timeout is None else self._shutdown_timeout
            self._end_by = self._running.time() + limit
        if self._running.time() >= self._end_by:
            return False
        await self._until_one_ends(self._end_by)
        return True

    # --- run ---

    def runner(self, handle: Handle) -> Handle:
        """What begins to handle an event."""
        return partial(self._begin, handle)

    async def _begin(self, handle: Handle, event: Event) -> None:
        """A loop whose tasks are eager may have come to the end of the event with that."""
        task = self._running.create_task(self._run(handle, event))
        if not task.done():
            self._under_way[event.sequence] = task

    async def _run(self, handle: Handle, event: Event) -> None:
        """A task that is cancelled before its first step never comes here: so it is when the process leaves."""
        self._since[event.sequence] = time.monotonic_ns()
        if len(self._since) == 1:
            self._tell_oldest()
        try:
            await handle(event)
        except BaseException as error:
            if not self.gave_up(error):
                self._broken = error
                self._stop()
        finally:
            self._ended(event.sequence)

    def _ended(self, sequence: int) -> None:
        was_oldest = next(iter(self._since)) == sequence
        self._under_way.pop(sequence, None)
        del self._since[sequence]
        if was_oldest:
            self._tell_oldest()
        if self._news is not None:
            _tell(self._news)

    def _tell_oldest(self) -> None:
        """Whoever holds up the loop, or is cancelled and goes on, is ended by the parent of the process."""
        if self._timeout is None:
            return
        for sequence, since in self._since.items():
            self._watcher.handles(sequence, since)
            return
        self._watcher.handled()

    def result(self, event: Event, result: Any) -> Awaitable[Any]:
        """What is awaited."""
        return result if self._timeout is None else self._timed(event.sequence, result, self._timeout)

    async def _timed(self, sequence: int, result: Awaitable[Any], timeout: float) -> Any:
        timer = self._running.call_later(timeout, self._expire, sequence)
        try:
            return await result
        except asyncio.CancelledError as error:
            if sequence not in self._expired or self._leaving:
                raise
            raise TimeoutError(f"it was cancelled, as it took longer than {timeout:g} s") from error
        finally:
            timer.cancel()
            self._expired.discard(sequence)

    def _expire(self, sequence: int) -> None:
        self._expired.add(sequence)
        self._under_way[sequence].cancel()

    def gave_up(self, error: BaseException) -> bool:
        """What was not done in time when the process leaves."""
        return self._leaving and isinstance(error, asyncio.CancelledError)

    async def reply(self, event: Request, data: Any) -> None:
        """The loop goes on meanwhile."""
        await event.areply(data)

    async def fail(self, event: Request, kind: str, text: str) -> None:
        """Likewise."""
        await event.afail(kind, text)

    async def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """In a thread: the loop is not held up."""
        await in_thread(function, *arguments)

    async def pause(self, seconds: float) -> None:
        """Others in the loop run meanwhile."""
        await asyncio.sleep(seconds)

    # --- leave ---

    def stop(self) -> None:
        """The loop is woken, and stops the member itself."""
        self._running.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopped = True
        self._member.stop_awaiting()
        if self._news is not None:
            _tell(self._news)

    async def finish(self) -> None:
        """Waits for what is under way up to the limit, and cancels the rest, which is given back with the member."""
        while self._under_way and await self._one_ends_in_time():
            pass
        if self._under_way:
            self._leaving = True
            self._watcher.leaves()  # from now on its parent ends it if it does not end
            _log.warning(
                "process %d leaves, and cancels what it had not done within %g s: %d events are delivered again",
                os.getpid(),
                self._shutdown_timeout,
                len(self._under_way),
            )
            for task in (left := list(self._under_way.values())):
                task.cancel()
            await asyncio.wait(left)
        if self._broken is not None:
            raise self._broken


def _tell(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
