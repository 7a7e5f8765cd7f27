"""Handler: a function and what it handles, as it was registered, and what can be said of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from eventbus.core.reader import BATCH_LIMIT
from eventbus.delays import checked_delay
from eventbus.errors import InvalidError
from eventbus.event import Event
from eventbus.subscription import checked_name
from eventbus.workers.schedule import Schedule


class Handler(NamedTuple):
    """A function and what it handles; with a schedule, that alone. None stands for what the worker says."""

    function: Callable[[Event], Any]
    name: str
    system: tuple[str, ...]
    kind: tuple[str, ...] | None
    group: str | None
    retry_delay: float | None
    timeout: float | None
    concurrency: int | None
    schedule: Schedule | None

    def at_once(self, default: int) -> int | None:
        """How many events are under way at once in each process; None for a function that is no ``async def``.

        Args:
            default: what the worker says.

        Raises:
            InvalidError: that is no ``async def`` and would have several.
        """
        if self.schedule is not None:
            return 1 if is_async(self.function) else None
        concurrency = self.concurrency or default
        if is_async(self.function):
            return concurrency
        if concurrency > 1:
            raise InvalidError(
                f"the handler {self.name!r} is no async def, so each process handles one event at a time: run more "
                "processes for it, and say @worker.on(..., concurrency=1); or make it an async def",
                concurrency=concurrency,
            )
        return None


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an ``async def``, also as a method or as an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def name_of(function: Callable[..., Any]) -> str:
    """What it is called."""
    return getattr(function, "__name__", type(function).__name__)


def with_event(function: Callable[..., Any]) -> Callable[[Event], Any]:
    """The function as one that takes an event, which it need not."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return _asynchronous(function) if is_async(function) else lambda _: function()
    return function


def _asynchronous(function: Callable[[], Any]) -> Callable[[Event], Any]:
    async def run(_: Event) -> Any:
        return await function()

    return run


def check_terms(
    group: str | None = None,
    retry_delay: float | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
) -> None:
    """Raises InvalidError unless a handler can have these, each of which may be left out."""
    if group is not None:
        checked_name(group, "")
    if retry_delay is not None:
        checked_delay(retry_delay, "retry_delay")
    if timeout is not None and not checked_delay(timeout, "timeout") > 0:
        raise InvalidError("timeout must be more than 0 seconds; leave it out for none", timeout=timeout)
    if concurrency is not None:
        check_count("concurrency", concurrency)
        if concurrency > BATCH_LIMIT:
            raise InvalidError(
                f"concurrency must be at most {BATCH_LIMIT}, what a process may have in hand, not {concurrency}: run "
                "more processes",
                concurrency=concurrency,
            )


def check_count(what: str, value: object) -> None:
    """Raises InvalidError unless it can be a number of things."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidError(f"{what} must be an int of at least 1, not {value!r}", **{what: value})
