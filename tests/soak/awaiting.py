"""Receivers that wait in event loops, one after the other, as a program that runs many; now and then they give up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from eventbus import Event, Subscription

T = TypeVar("T")
HASTE = 0.002  # seconds after which one gives up in the middle


def awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    """What comes of it in a loop of its own."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def receive(sub: Subscription, timeout: float) -> list[Event]:
    """The next event, if one comes."""
    event = awaited(sub.areceive(timeout))
    return [] if event is None else [event]


def receive_many(sub: Subscription, limit: int, timeout: float) -> list[Event]:
    """The next events, if any come."""
    return awaited(sub.areceive_many(limit, timeout))


def receive_or_give_up(sub: Subscription, dice: random.Random, timeout: float) -> list[Event]:
    """The next event, if it is not given up before."""
    if dice.random() < 0.9:
        return receive(sub, timeout)
    try:
        event = awaited(asyncio.wait_for(sub.areceive(timeout), HASTE))
    except asyncio.TimeoutError:
        return []
    return [] if event is None else [event]
