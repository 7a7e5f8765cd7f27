"""The receive flow in an event loop: the same steps as in a call, which wait for the doorbell in between."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from operator import length_hint
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from eventbus import _fast
from eventbus.core import native
from eventbus.core.reader import BATCH_LIMIT, SubscriptionHandle
from eventbus.errors import InvalidError
from eventbus.event import Event

if TYPE_CHECKING:
    from eventbus.loop import Doorbell


class Awaiting(_fast.Receiver):
    """What of a subscription is awaited. Nothing is in hand of whoever waits: cancelled, it has taken nothing.

    Any number of tasks may wait for one subscription, and share its events.
    """

    _subscription: SubscriptionHandle
    _doorbell: Doorbell | None
    _join: Callable[[], object] | None = None  # what is still to be done until it is one

    async def areceive(self, timeout: float | None = None) -> Event | None:
        """``receive`` in the running event loop."""
        return await self._awaited(native.FOREVER if timeout is None else native.deadline_after(timeout))

    async def areceive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """``receive_many`` in the running event loop."""
        check_limit(limit)
        deadline = native.deadline_after(timeout)
        self._ask()
        if self._is_long_in_a_row(min(limit, BATCH_LIMIT)):
            await Turn()
        if not self._begins():
            return []
        if self._join is not None:
            await self._joined()
        if (self._asks or not length_hint(self._ready)) and not await self._more(deadline):
            return []
        return self.receive_many(limit, 0)

    def fileno(self) -> int:
        """A descriptor for ``select`` and for loops of any kind: it can be read when there may be something.

        It is this subscription's alone and is closed with it. It tells only what was asked for with ``arm``.

        Raises:
            ClosedError: the subscription is closed, or another process's.
            OSError: no descriptor is left.
        """
        return self._subscription.fileno()

    def arm(self) -> bool:
        """Whether ``fileno`` will be readable for the next event; False when ``receive(0)`` is to be called first."""
        if not self._begins() or length_hint(self._ready):
            return False
        return self._subscription.arm(apart=True) is not None

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """In a call; see the subscription."""
        raise NotImplementedError

    def _begins(self) -> bool:
        """What whoever asks for an event does first; False when none will come."""
        return True

    async def _awaited(self, deadline: int) -> Event | None:
        """The next event, None when the deadline is over or the end has come."""
        if self._is_long_in_a_row(1):
            await Turn()
        if not self._begins():
            return None
        for event in self._ready:
            return event
        if self._join is not None:
            await self._joined()
        while await self._more(deadline):
            for event in self._ready:  # empty where another thread was faster
                return event
            if not self._begins():
                break
        return None

    async def _awaited_next(self) -> Event:
        """For ``async for``. One that cannot be read is an error of its own, and ends nothing."""
        event = await self._awaited(native.FOREVER)
        if event is None:
            raise StopAsyncIteration
        return event

    def _whose(self) -> ReferenceType[object]:
        """Who asks just now, and so has done with what it looked at: a task of an event loop, or a thread.

        The same object for as long as that one lives, and never again.
        """
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and (loop := asyncio._get_running_loop()) is not None:
            return ref(asyncio.current_task(loop) or loop)
        return ref(threading.current_thread())

    def _is_long_in_a_row(self, events: int) -> bool:
        """Whether others in the loop are to run before so many are taken: after BATCH_LIMIT that came at once."""
        self._in_a_row += events
        if self._in_a_row <= BATCH_LIMIT:
            return False
        self._in_a_row = events
        return True

    async def _joined(self) -> None:
        """Once it has joined: the lock that this takes is waited for in a thread."""
        if self._join is not None:
            from eventbus.loop import in_thread  # takes longer to import than all of eventbus

            await in_thread(self._join_now)

    def _join_now(self) -> None:
        raise NotImplementedError

    def _wait(self, deadline: int, again: bool) -> _fast.Waiter:
        """What to await until there may be something to receive, or the deadline; for ``_more``, like the next two."""
        return (self._doorbell or self._hang()).wait(self._subscription, deadline, again)

    def _waited(self, waiter: _fast.Waiter, gave_up: bool) -> None:
        if (doorbell := self._doorbell) is not None:
            doorbell.leave(self._subscription, waiter, gave_up)

    def _pass_on(self) -> None:
        if (doorbell := self._doorbell) is not None:
            doorbell.next(self._subscription, last=self._is_over)

    def _hang(self) -> Doorbell:
        from eventbus.loop import doorbell_of  # takes longer to import than all of eventbus

        self._doorbell = doorbell_of(self._subscription.bus)
        return self._doorbell

    @property
    def _is_over(self) -> bool:
        return self._ended or self._handle is None


class Turn:
    """Awaited, it lets run what else is ready in the loop: asyncio, and what is made like it, take a bare yield so."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def check_limit(limit: object) -> None:
    """Raises InvalidError unless it can be the number of events at most."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidError(f"limit must be an int of at least 1, not {limit!r}", limit=limit)
