"""Traced: subscriptions whose events have a span from when they are received until the next ones are asked for."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableMapping
from functools import partial
from typing import Any, TypeVar

from eventbus.core import native
from eventbus.event import Event
from eventbus.member import Member
from eventbus.observe.spans import Handled, Spans, is_current, sender
from eventbus.subscription import Subscription

Got = TypeVar("Got", bound="Event | list[Event] | None")


class _Tracing(Subscription):
    """What a subscription does more when it is traced."""

    _spans: Spans
    _handled: MutableMapping[object, Handled]  # by threads and tasks

    @property
    def group(self) -> str | None:
        """The group's name, of a member."""
        return None

    def receive(self, timeout: float | None = None) -> Event | None:
        """As it is without traces; so are the next."""
        return self._took(partial(super().receive, timeout))

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        return self._took(partial(super().receive_many, limit, timeout))

    async def areceive(self, timeout: float | None = None) -> Event | None:
        return await self._awaited_took(partial(super().areceive, timeout))

    async def areceive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        self._end()
        return await super().areceive_many(limit, timeout)  # which takes them by ``receive_many``

    def __aiter__(self) -> AsyncIterator[Event]:
        return _Each(partial(self._awaited_took, super()._awaited_next))

    def __iter__(self) -> Iterator[Event]:
        return iter(partial(self._took, partial(super().receive_until, native.FOREVER)), None)

    def leave(self, handled: bool) -> None:
        self.end_all()
        super().leave(handled)

    def close(self) -> None:
        self.end_all()
        super().close()

    def _took(self, receive: Callable[[], Got]) -> Got:
        self._end()
        return self._begun(receive())

    async def _awaited_took(self, receive: Callable[[], Coroutine[Any, Any, Got]]) -> Got:
        self._end()
        return self._begun(await receive())

    def _begun(self, got: Got) -> Got:
        """What was received, which has a span from now on. If a signal handler raises meanwhile, it comes first next
        time, and what a member has in hand stays there."""
        events = _listed(got)
        try:
            if events:
                parent = sender(events[0]) if len(events) == 1 and not is_current() else None
                self._handled[_here()] = Handled(*self._spans.process(events, self.group, parent))
        except BaseException:
            if self.group is None:
                self._ready.put_back(events)
            raise
        return got

    def _end(self) -> None:
        if (handled := self._handled.pop(_here(), None)) is not None:
            handled.end()

    def end_all(self) -> None:
        """Nobody handles anything any more."""
        for handled in list(self._handled.values()):
            handled.end()
        self._handled.clear()


class _Each(AsyncIterator[Event]):
    """What ``async for`` iterates over, by what gives the next one."""

    def __init__(self, following: Callable[[], Coroutine[Any, Any, Event]]) -> None:
        self._following = following

    def __anext__(self) -> Coroutine[Any, Any, Event]:
        return self._following()


class TracedSubscription(_Tracing):
    """A subscription of a bus that is instrumented."""


class TracedMember(_Tracing, Member):
    """A member of a group, of a bus that is instrumented."""

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group


_TRACED: dict[type[Subscription], type[_Tracing]] = {Subscription: TracedSubscription, Member: TracedMember}
_PLAIN: dict[type[Subscription], type[Subscription]] = {traced: plain for plain, traced in _TRACED.items()}


def trace_by(spans: Spans, sub: Subscription) -> Subscription:
    """From now on it is traced, unless it is the bus's own."""
    traced = _TRACED.get(type(sub))
    if traced is not None:
        vars(sub).update(_spans=spans, _handled=weakref.WeakKeyDictionary())
        sub.__class__ = traced
    return sub


def leave_untraced(sub: Subscription) -> None:
    """From now on it is not; what is being handled is left at that."""
    if isinstance(sub, _Tracing):
        sub.end_all()
        sub.__class__ = _PLAIN[type(sub)]  # type: ignore[assignment]  # it is that one's, too


def _listed(got: Event | list[Event] | None) -> list[Event]:
    return [] if got is None else got if isinstance(got, list) else [got]


def _here() -> object:
    """The task that runs, or else the thread."""
    loop = asyncio._get_running_loop()
    return (None if loop is None else asyncio.current_task(loop)) or threading.current_thread()
