"""Waiting: for news in the event loop, for so long; and for the end of what was cancelled.

``asyncio.wait_for`` would not do for what may be cancelled: up to Python 3.11 it forgets that it was, where the wait
ends in the same moment. The client of the servers waits so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

AGAIN: Final = 0.5
"""Seconds after which what was cancelled and goes on is cancelled once more."""


async def set_within(news: asyncio.Event, seconds: float) -> bool:
    """Whether it is set, now or within so many seconds."""
    waiting = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait((waiting,), timeout=seconds)
    finally:
        waiting.cancel()
    return news.is_set()


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them until all have ended. What they raise is looked at by whoever wants to know."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()
