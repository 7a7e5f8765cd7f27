"""Ways: how a process takes events and runs its handler: one after the other in calls, or several at once in a loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request
from eventbus.workers.loop import Loop

Result = TypeVar("Result")
Handle = Callable[[Event], Awaitable[None]]


class Watcher(Protocol):
    """Who is told how far a process has come."""

    def ready(self) -> None:
        """It asks for events from now on."""

    def began(self) -> None:
        """It has its first event."""

    def handles(self, sequence: int, since: int) -> None:
        """This event is the one that it has handled for longest, since then in ns of ``time.monotonic_ns``."""

    def handled(self) -> None:
        """It handles none any more."""

    def leaves(self) -> None:
        """It has handled its last event."""


class Way(Protocol):
    """What waits in the flow of a process, in one of two ways. The flow itself is in ``handling``."""

    ack: Literal["auto", "manual"]
    """Who says that an event is done: whoever asks for the next one, or the flow, of each by itself."""
    concurrency: int
    """How many events are under way at most."""

    def drive(self, flow: Coroutine[Any, Any, Result]) -> Result:
        """Runs the flow to its end."""

    def begin(self, member: Member) -> None:
        """The process has joined its group."""

    async def wait_for_turn(self) -> None:
        """Waits until another event may begin."""

    async def take(self, limit: int, timeout: float | None = None) -> Iterable[Event]:
        """Waits for that, and for the next events; none when the time is up, or the end has come.

        Who asks them for another one has begun with those before.
        """

    def runner(self, handle: Handle) -> Handle:
        """What handles an event by ``handle``, or sees to it that it is handled."""

    def result(self, event: Event, result: Any) -> Awaitable[Any]:
        """What the handler gives in the end, which has returned this."""

    def gave_up(self, error: BaseException) -> bool:
        """Whether this came out of a handler because its process leaves: it is no failure of the event."""

    async def reply(self, event: Request, data: Any) -> None:
        """Answers whoever asked."""

    async def fail(self, event: Request, kind: str, text: str) -> None:
        """Tells whoever asked that it failed."""

    async def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls what may wait for other processes."""

    async def pause(self, seconds: float) -> None:
        """Waits."""

    def stop(self) -> None:
        """No further event is taken; a signal handler may call this."""

    async def finish(self) -> None:
        """Waits for what is under way, as long as that may take."""


class InCalls:
    """One event after the other. No step of the flow waits for anything but in a call, so that one runs through."""

    ack: Literal["auto", "manual"] = "auto"
    concurrency = 1

    def __init__(self, loop: Loop, watcher: Watcher, timeout: float | None) -> None:
        self._loop = loop
        self._watcher = watcher
        self._timeout = timeout

    def drive(self, flow: Coroutine[Any, Any, Result]) -> Result:
        """Runs the flow to its end, which is its first step."""
        try:
            flow.send(None)
        except StopIteration as end:
            result: Result = end.value
            return result
        raise RuntimeError("a step of the flow waits for an event loop, and there is none")

    def begin(self, member: Member) -> None:
        """The process has joined its group."""
        self._member = member

    async def wait_for_turn(self) -> None:
        """None is under way."""

    async def take(self, limit: int, timeout: float | None = None) -> Iterable[Event]:
        """The next event; without a timeout all that come, each received when the one before is done."""
        if timeout is None:
            return islice(self._member, limit)
        event = self._member.receive(timeout)
        return () if event is None else (event,)

    def runner(self, handle: Handle) -> Handle:
        """What handles an event, watched where it may not take any time."""
        return handle if self._timeout is None else partial(self._watched, handle)

    async def _watched(self, handle: Handle, event: Event) -> None:
        self._watcher.handles(event.sequence, time.monotonic_ns())
        await handle(event)
        self._watcher.handled()

    async def result(self, event: Event, result: Any) -> Any:
        """Of a function that has returned what is to be awaited, that."""
        return self._loop.done(result)

    def gave_up(self, error: BaseException) -> bool:
        """It never does."""
        return False

    async def reply(self, event: Request, data: Any) -> None:
        """In a call."""
        event.reply(data)

    async def fail(self, event: Request, kind: str, text: str) -> None:
        """In a call."""
        event.fail(kind, text)

    async def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls it."""
        function(*arguments)

    async def pause(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def stop(self) -> None:
        """The member stops waiting."""
        self._member.stop()

    async def finish(self) -> None:
        """Nothing is under way."""
