"""Waiting: for news in the event loop, for so long.

``asyncio.wait_for`` would not do for what may be cancelled: up to Python 3.11 it forgets that it was, where the wait ends
in the same moment.
"""

from __future__ import annotations

import asyncio


async def set_within(news: asyncio.Event, seconds: float) -> bool:
    """Whether it is set, now or within so many seconds."""
    waiting = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait((waiting,), timeout=seconds)
    finally:
        waiting.cancel()
    return news.is_set()
