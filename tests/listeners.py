"""What the tests of a Fanout share: how its events are sent, and waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from eventbus import Bus, Event
from eventbus.fanout import Listener
from harness import DEADLINE


def send(bus: Bus, *numbers: int) -> None:
    """All at once."""
    bus.send_many([("a", "k", "/p", number) for number in numbers])


async def next_of(events: Listener) -> Event:
    """The next event, which must come."""
    return await asyncio.wait_for(anext(events), DEADLINE)


async def rest_of(events: Listener) -> list[Any]:
    """The data of all there is up to the end, which must come."""

    async def read() -> list[Any]:
        return [event.data async for event in events]

    return await asyncio.wait_for(read(), DEADLINE)


async def drained(bus: Bus) -> None:
    """Waits until the only subscription has taken all that was sent."""
    while sum(one.backlog for one in bus.stats().subscribers):
        await asyncio.sleep(0)


async def unsubscribed(bus: Bus) -> None:
    """Waits until there is no subscription."""
    while bus.stats().subscribers:
        await asyncio.sleep(0)
