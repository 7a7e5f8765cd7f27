"""channels_redis's tests of layers, with the layer of `eventbus.integrations` in the place of both of theirs."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import channels_redis.core
import channels_redis.pubsub
import pytest

import eventbus
from eventbus.integrations.channels import EventbusChannelLayer

BUS = f"peers-channels-{os.getpid()}"


class Layer(EventbusChannelLayer):
    """Made as theirs are; wherever redis is, there is one bus."""

    def __init__(self, hosts: object = None, **settings: Any) -> None:
        super().__init__(BUS, **settings)

    async def close_pools(self) -> None:
        """There the connections of one event loop, which ours has not."""


channels_redis.core.RedisChannelLayer = Layer
channels_redis.pubsub.RedisPubSubChannelLayer = Layer


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """The bus goes with the run, whatever a test left open."""
    with contextlib.suppress(FileNotFoundError):
        eventbus.unlink(BUS)
