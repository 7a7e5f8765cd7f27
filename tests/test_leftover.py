"""What a large event leaves behind in whoever receives it, once it is dropped: nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

import eventbus
from eventbus import Event, Subscription
from harness import DEADLINE

LARGE = 3_000_000
KEPT = 65_536
"""Bytes of a buffer that no large event came through."""


def buffer_of(subscription: Subscription) -> int:
    """The bytes of its batch's buffer."""
    handle = subscription._handle
    assert handle is not None
    return int(handle.batch.size)


def received(subscription: Subscription) -> Event:
    """One event, by `receive`."""
    event = subscription.receive(DEADLINE)
    assert event is not None
    return event


def taken(subscription: Subscription) -> Event:
    """One event, by `receive_many`."""
    (event,) = subscription.receive_many(1, DEADLINE)
    return event


@pytest.mark.parametrize("how", [received, taken, next], ids=["receive", "receive_many", "iterated"])
@pytest.mark.parametrize("data", ["x" * LARGE, b"x" * LARGE], ids=["text", "raw"])
@pytest.mark.parametrize("group", [None, "g"], ids=["alone", "member"])
def test_whoever_has_the_event_has_its_data_alone(
    name: str, how: Callable[[Any], Event], data: str | bytes, group: str | None
) -> None:
    """And the buffer that it came through is given back by the first look that finds nothing more."""
    with eventbus.open(name) as bus, bus.subscribe("a", group=group) as subscription:
        for _ in range(2):
            assert buffer_of(subscription) == KEPT
            bus.send("a", "b", "/c", data)
            event = how(iter(subscription) if how is next else subscription)
            assert event.data == data
            assert sys.getrefcount(event.data) == sys.getrefcount(object()) + 1
            assert buffer_of(subscription) > LARGE
            assert subscription.receive(0) is None
        assert buffer_of(subscription) == KEPT


def test_one_of_a_batch(name: str) -> None:
    """Those before the last of a batch are had by the batch, too, until the last is handed out."""
    with eventbus.open(name) as bus, bus.subscribe("a") as subscription:
        for number in range(3):
            bus.send("a", "b", "/c", [str(number)])
        first, second, third = (received(subscription) for _ in range(3))
        alone = sys.getrefcount(object()) + 1
        assert [sys.getrefcount(event.data) for event in (first, second, third)] == [alone] * 3
        assert (first.data, second.data, third.data) == (["0"], ["1"], ["2"])


def test_in_an_event_loop(name: str) -> None:
    """A task that waits for the next one keeps nothing of the last."""

    async def wait(bus: eventbus.Bus, subscription: Subscription) -> None:
        bus.send("a", "b", "/c", "x" * LARGE)
        events = aiter(subscription)
        assert len((await anext(events)).data) == LARGE
        waiting = asyncio.ensure_future(anext(events))
        while buffer_of(subscription) != KEPT:
            await asyncio.sleep(0.001)
        bus.send("a", "b", "/c", "last")
        assert (await waiting).data == "last"

    with eventbus.open(name) as bus, bus.subscribe("a") as subscription:
        asyncio.run(asyncio.wait_for(wait(bus, subscription), DEADLINE))


def test_a_stream_of_large_events_keeps_its_buffer(name: str) -> None:
    """Between two that wait it is neither given back nor made anew."""
    with eventbus.open(name) as bus, bus.subscribe("a") as subscription:
        for _ in range(2):
            bus.send("a", "b", "/c", "x" * LARGE)
        received(subscription)
        grown = buffer_of(subscription)
        received(subscription)
        assert buffer_of(subscription) == grown > LARGE
