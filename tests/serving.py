"""Whoever asks and answers the requests of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import eventbus
from eventbus import Bus, Event, Request, Subscription
from harness import DEADLINE, Line

Serve = Callable[[Request], object]


@contextmanager
def serving(sub: Subscription, serve: Serve) -> Iterator[list[Event]]:
    """Serves the requests of a subscription in a thread; what it heard, requests or not."""
    heard: list[Event] = []

    def work() -> None:
        for event in sub:
            heard.append(event)
            if isinstance(event, Request):
                serve(event)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield heard
    finally:
        sub.close()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def answer_all(line: Line, name: str) -> None:
    """Answers until the end of the bus."""
    with eventbus.open(name) as bus, bus.subscribe("rpc") as sub:
        line.say("subscribed")
        for event in sub:
            event.reply(event.data)


def ask(bus: Bus, number: Any = 0, timeout: float | None = DEADLINE) -> Any:
    """The answer to a number."""
    return bus.request("rpc", "ask", "/p", number, timeout=timeout)


def waiting(bus: Bus) -> int:
    """How many requests of a bus are waited for."""
    return 0 if bus._replies is None else bus._replies.under_way


def leader_is_there(bus: Bus) -> bool:
    """Whether a thread sleeps until answers come."""
    return any(one.sleeping for one in bus.stats().subscribers if one.system.startswith("eventbus.reply."))


async def aask(bus: Bus, number: Any = 0, timeout: float | None = DEADLINE) -> Any:
    """The answer to a number."""
    return await bus.arequest("rpc", "ask", "/p", number, timeout=timeout)


async def under_way(bus: Bus, count: int) -> None:
    """Waits until so many are waited for, and have been asked."""
    while waiting(bus) != count or bus.stats().sent < count:
        await asyncio.sleep(0.001)
