"""python-socketio's tests of managers, with ours in the place of those without a transport, and of those of redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from socketio import async_pubsub_manager, async_redis_manager, pubsub_manager, redis_manager

from eventbus.integrations.socketio import AsyncEventbusManager, EventbusManager

BUS = f"peers-socketio-{os.getpid()}"

_made: list[EventbusManager | AsyncEventbusManager] = []


class PubSubManager(EventbusManager):
    """Made as theirs is, which has no transport."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(BUS, *arguments, **options)
        _made.append(self)


class AsyncPubSubManager(AsyncEventbusManager):
    """Likewise."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(BUS, *arguments, **options)
        _made.append(self)


class RedisManager(PubSubManager):
    """Made as theirs is, with an address."""

    def __init__(self, url: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)


class AsyncRedisManager(AsyncPubSubManager):
    """Likewise."""

    def __init__(self, url: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)


pubsub_manager.PubSubManager = PubSubManager
async_pubsub_manager.AsyncPubSubManager = AsyncPubSubManager
redis_manager.RedisManager = RedisManager
async_redis_manager.AsyncRedisManager = AsyncRedisManager


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test has made leaves the bus after it; the task of a mock is none to wait for."""
    yield
    while _made:
        manager = _made.pop()
        if isinstance(manager, AsyncEventbusManager):
            manager.thread = None
            asyncio.run(manager.close())
        else:
            manager.close()
