"""The layer for Django Channels: what its specification asks for, in one process and between several."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

import eventbus
from eventbus import Bus, InvalidError
from harness import DEADLINE

pytest.importorskip("channels", reason="the extra [channels] is not installed")
pytest.importorskip("msgpack", reason="the extra [channels] is not installed")

from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from eventbus.integrations.channels import EventbusChannelLayer

T = TypeVar("T")
Test = Callable[[EventbusChannelLayer], Coroutine[Any, Any, None]]


@pytest.fixture
def layer(bus: Bus) -> Iterator[EventbusChannelLayer]:
    """One with little room, on the bus of the test."""
    made = EventbusChannelLayer(bus, capacity=3, channel_capacity={"tiny*": 1})
    yield made
    async_to_sync(made.close)()


def run(main: Coroutine[Any, Any, T]) -> T:
    """In an event loop of its own."""
    return asyncio.run(main)


async def is_empty(layer: EventbusChannelLayer, channel: str) -> bool:
    """Whether nothing waits for a channel: what has come is taken before anybody waits."""
    waiting = asyncio.ensure_future(layer.receive(channel))
    await layer.send(await layer.new_channel(), {})
    await asyncio.sleep(0)
    if waiting.done():
        return False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return True


async def numbers(layer: EventbusChannelLayer, channel: str, count: int) -> list[int]:
    """Those of the next messages."""
    return [(await layer.receive(channel))["n"] for _ in range(count)]


def test_what_a_message_may_hold(layer: EventbusChannelLayer) -> None:
    """It arrives as it was sent, bytes in it too, and each receiver gets one of its own."""
    message = {"type": "a.b", "b": b"\0\xff", "l": [1, 2.5, None, True], "d": {"e": "ü"}, "i": -(1 << 63)}

    async def main() -> None:
        one, two = await layer.new_channel(), await layer.new_channel()
        for channel in (one, two):
            await layer.group_add("g", channel)
        await layer.group_send("g", message)
        first, second = await layer.receive(one), await layer.receive(two)
        assert first == second == message
        assert first["l"] is not second["l"]
        await layer.send("tasks", message)
        assert await layer.receive("tasks") == message

    run(main())


def test_groups(layer: EventbusChannelLayer) -> None:
    """A message reaches those who are in the group as it is sent, in the order of sending, and nobody else."""

    async def main() -> None:
        one, two = await layer.new_channel(), await layer.new_channel()
        await layer.group_send("g", {"n": 0})
        await layer.group_add("g", one)
        await layer.group_add("g", two)
        await layer.group_send("g", {"n": 1})
        await layer.group_discard("g", two)
        await layer.group_discard("other", two)
        await layer.send(one, {"n": 2})
        await layer.group_send("g", {"n": 3})
        assert await numbers(layer, one, 3) == [1, 2, 3]
        assert await numbers(layer, two, 1) == [1]
        assert await is_empty(layer, one)
        assert await is_empty(layer, two)

    run(main())


def test_a_shared_channel_in_a_group(layer: EventbusChannelLayer) -> None:
    """What is sent to the group goes to the channel, once, as long as it has room."""

    async def main() -> None:
        await layer.group_add("g", "tasks")
        for n in range(5):
            await layer.group_send("g", {"n": n})
        await layer.send(await layer.new_channel(), {})
        assert await numbers(layer, "tasks", 3) == [0, 1, 2]

    run(main())


def test_whoever_waits_for_a_shared_channel_of_a_group(layer: EventbusChannelLayer) -> None:
    """It gets what is sent to the group, though this process waits for nothing else."""

    async def main() -> None:
        waiting = asyncio.ensure_future(layer.receive("tasks"))
        await layer.group_add("g", "tasks")
        for n in range(2):
            await layer.group_send("g", {"n": n})
            assert await asyncio.wait_for(waiting, DEADLINE) == {"n": n}
            waiting = asyncio.ensure_future(layer.receive("tasks"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(main())


@pytest.mark.parametrize(("channel", "room"), [("mine", 3), ("tasks", 3), ("tiny.tasks", 1), ("a..b.", 3)])
def test_capacity(layer: EventbusChannelLayer, channel: str, room: int) -> None:
    """A channel is full when as many wait as may, and has room again when one was received."""

    async def main() -> None:
        name = await layer.new_channel() if channel == "mine" else channel
        for n in range(room):
            await layer.send(name, {"n": n})
        for _ in range(3):
            with pytest.raises(ChannelFull):
                await layer.send(name, {"n": room})
        assert await numbers(layer, name, 1) == [0]
        await layer.send(name, {"n": room})
        assert await numbers(layer, name, room) == [*range(1, room + 1)]

    run(main())


def test_a_full_channel_of_a_group(layer: EventbusChannelLayer, caplog: pytest.LogCaptureFixture) -> None:
    """It gets no more, the others of the group do, and the log says how many did not."""
    caplog.set_level("INFO", "eventbus")

    async def main() -> None:
        full, free = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("g", full)
        await layer.group_add("g", free)
        await layer.send(full, {"n": 9})
        for n in range(3):
            await layer.group_send("g", {"n": n})
        assert await numbers(layer, free, 3) == [0, 1, 2]
        assert await numbers(layer, full, 3) == [9, 0, 1]
        assert await is_empty(layer, full)

    run(main())
    assert [one.getMessage() for one in caplog.records] == ["1 of 2 channels over capacity in group g"]


@pytest.mark.parametrize("channel", ["mine", "tasks"])
def test_expiry(bus: Bus, channel: str) -> None:
    """What has waited too long is not received, and takes no room."""
    layer = EventbusChannelLayer(bus, expiry=1e-9, capacity=1)
    lasting = EventbusChannelLayer(bus, expiry=60, capacity=1)

    async def main() -> None:
        name = await layer.new_channel() if channel == "mine" else channel
        for n in range(3):
            await layer.send(name, {"n": n})
        waiting = asyncio.ensure_future(layer.receive(name))
        await layer.send(await layer.new_channel(), {})
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await lasting.close()
        await layer.close()

    run(main())


def test_group_expiry(bus: Bus) -> None:
    """A channel that was added too long ago is in the group no more."""
    layer = EventbusChannelLayer(bus, group_expiry=1e-9)

    async def main() -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_send("g", {"n": 1})
        assert await is_empty(layer, channel)
        await layer.close()

    run(main())


def test_a_channel_that_nobody_receives_from_is_forgotten(bus: Bus) -> None:
    """When its last message has expired it leaves its groups, and takes no memory."""
    layer = EventbusChannelLayer(bus, expiry=1e-9)

    async def main() -> None:
        gone = await layer.new_channel()
        await layer.group_add("g", gone)
        for n in range(3):
            await layer.group_send("g", {"n": n})
        await layer.send(gone, {})
        boxes = layer._here().boxes
        boxes.sweep()
        assert boxes.members("g") == []
        await layer.close()

    run(main())


def test_cancelled_it_has_taken_nothing(layer: EventbusChannelLayer) -> None:
    """Whenever a receive is cancelled, its message is there for the next one."""

    async def main() -> None:
        for channel in (await layer.new_channel(), "tasks"):
            heard = []
            for n in range(40):
                waiting = asyncio.ensure_future(layer.receive(channel))
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                await layer.send(channel, {"n": n})
                for _ in range(n % 3):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                heard.append((await layer.receive(channel) if waiting.cancelled() else waiting.result())["n"])
            assert heard == [*range(40)]

    run(main())


def test_flush(layer: EventbusChannelLayer, bus: Bus) -> None:
    """No message and no group is left, of this process and of others; who waits waits on."""
    other = EventbusChannelLayer(bus)

    async def main() -> None:
        mine, theirs = await layer.new_channel(), await other.new_channel()
        await layer.group_add("g", mine)
        await other.group_add("g", theirs)
        await layer.group_send("g", {"n": 1})
        await layer.send("tasks", {"n": 2})
        waiting = asyncio.ensure_future(layer.receive(await layer.new_channel()))
        await layer.flush()
        await layer.group_send("g", {"n": 3})
        assert await is_empty(layer, mine)
        assert await is_empty(other, theirs)
        await layer.send("tasks", {"n": 4})
        assert await numbers(other, "tasks", 1) == [4]
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await other.close()

    run(main())


def test_names_and_arguments(layer: EventbusChannelLayer, bus: Bus) -> None:
    """What cannot be a channel, a group, a message or a setting is an error that says so, and nothing is sent."""

    async def main() -> None:
        wrongs: list[Any] = ["=+135!", "", "a b", "x" * 100, 7]
        for wrong in wrongs:
            for call in (
                layer.send(wrong, {}),
                layer.receive(wrong),
                layer.group_add(wrong, "a"),
                layer.group_send(wrong, {}),
            ):
                with pytest.raises(TypeError):
                    await call
        messages: list[Any] = ["text", {"a": object()}]
        for message in messages:
            with pytest.raises(TypeError):
                await layer.send("tasks", message)
        with pytest.raises(AssertionError, match="not of this process"):
            await layer.receive("specific.other!one")

    run(main())
    wrong_arguments: tuple[dict[str, Any], ...] = (
        {"bus": 7},
        {"expiry": 0},
        {"group_expiry": "1"},
        {"capacity": 0},
        {"channel_capacity": {"a": 0}},
    )
    for arguments in wrong_arguments:
        with pytest.raises(InvalidError):
            EventbusChannelLayer(**{"bus": bus, **arguments})


def test_threads_and_event_loops(layer: EventbusChannelLayer) -> None:
    """Many threads send by ``async_to_sync`` to channels that are received from in several event loops."""
    layer.capacity = layer._limits.capacity = 1000
    channels = [async_to_sync(layer.new_channel)() for _ in range(3)]
    for channel in channels:
        async_to_sync(layer.group_add)("g", channel)
    heard: dict[str, list[int]] = {}

    def receive(channel: str) -> None:
        heard[channel] = sorted(run(numbers(layer, channel, 80)))

    def send(first: int) -> None:
        for n in range(first, first + 10):
            async_to_sync(layer.group_send)("g", {"n": n})
            async_to_sync(layer.send)(channels[n % 3], {"n": n})

    threads = [threading.Thread(target=receive, args=(channel,)) for channel in channels]
    threads += [threading.Thread(target=send, args=(first,)) for first in range(0, 60, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, channel in enumerate(channels):
        assert heard[channel] == sorted([*range(60), *range(number, 60, 3)])


def test_by_its_configuration(name: str) -> None:
    """A layer that Channels makes of its settings, by the name of a bus and options of ``eventbus.open``."""
    import django
    from channels.layers import ChannelLayerManager
    from django.conf import settings

    config = {"bus": name, "prefix": "chat", "options": {"capacity": 1 << 20}}
    backend = {"BACKEND": "eventbus.integrations.channels.EventbusChannelLayer", "CONFIG": config}
    if not settings.configured:
        settings.configure(CHANNEL_LAYERS={"default": backend})
        django.setup()
    layer: Any = ChannelLayerManager()["default"]
    assert layer.extensions == ["groups", "flush"]
    async_to_sync(layer.send)("tasks", {"n": 1})
    with eventbus.open(name) as bus:
        assert [one.system for one in bus.stats().groups] == ["chat.shared"]
    async_to_sync(layer.close)()
