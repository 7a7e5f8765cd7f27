"""What tests of event loops stand on: coroutines that must end, tasks that wait, publishers of another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

from eventbus import Bus, Event, Subscription
from harness import DEADLINE, SHARED_MEMORY, Child, Fork, Line

T = TypeVar("T")
NewLoop = Callable[[], asyncio.AbstractEventLoop]
KINDS = ["asyncio", "uvloop"]

if HAS_UVLOOP := find_spec("uvloop") is not None:
    import uvloop

    uvloop.new_event_loop().close()  # the first one opens a pipe that stays as long as the process


def maker(kind: str) -> NewLoop:
    """What makes event loops of that kind."""
    if kind == "asyncio":
        return asyncio.new_event_loop
    if not HAS_UVLOOP:
        pytest.skip("uvloop does not install here")
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine in a loop of its own; one that hangs is an error."""
    return asyncio.run(asyncio.wait_for(main, DEADLINE))


def run_in(new_loop: NewLoop, main: Coroutine[Any, Any, T]) -> T:
    """The same in a loop of that kind, which is closed then, whoever waits in it."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main, DEADLINE))
    finally:
        loop.close()


async def waiting(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of it that has come to where it waits, for nothing that is there already."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def next_of(sub: Subscription) -> Event:
    """The next event, which must come."""
    event = await sub.areceive(DEADLINE)
    assert event is not None, "no event came"
    return event


def publisher(fork: Fork, bus: Bus) -> Child:
    """A process that sends the numbers that it is told, one after the other, until it is told None."""
    return fork(_send_what_is_said, bus)


def _send_what_is_said(line: Line, bus: Bus) -> None:
    while (number := line.hear()) is not None:
        bus.send("a", "b", "/c", number)
        line.say(number)


def bells(bus: Bus) -> list[Path]:
    """The files of the bus's doorbells."""
    return bells_of(bus.identity)


def bells_of(identity: str) -> list[Path]:
    """Those of the bus that has, or had, this identity."""
    return sorted(SHARED_MEMORY.glob(f"eventbus.bell.{identity[:16]}.*"))
