"""The layer for Django Channels when its bus ends: it goes on by the next one, and keeps none that has ended."""

from __future__ import annotations

import asyncio
import os

import pytest

import eventbus
from eventbus import Bus, ClosedError, SubscribersFullError

pytest.importorskip("channels", reason="the extra [channels] is not installed")
pytest.importorskip("msgpack", reason="the extra [channels] is not installed")

from eventbus.integrations import channels
from eventbus.integrations.channels import EventbusChannelLayer

run = asyncio.run


def test_the_bus_ends(name: str) -> None:
    """Who waits goes on by the next bus of the name, with the same channels and groups."""
    layer = EventbusChannelLayer(name)

    async def main() -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        waiting = asyncio.ensure_future(layer.receive(channel))
        await asyncio.sleep(0)
        layer._here().bus.shutdown()
        await layer.group_send("g", {"n": 1})
        if waiting.done():
            assert waiting.result() == {"n": 1}
        assert await waiting == {"n": 1}
        last = asyncio.ensure_future(layer.receive(channel))
        await asyncio.sleep(0)
        await layer.close()
        with pytest.raises(ClosedError, match="closed while"):
            await last

    run(main())
    assert not [one for one in os.listdir("/dev/shm") if name in one]


def test_a_bus_that_others_keep(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """While somebody has a bus open that was shut down, sending says so, receiving waits, and the layer has left it:
    the next one is there once that one has closed it."""
    layer = EventbusChannelLayer(name)
    monkeypatch.setattr(channels, "_PAUSE", 0.001)

    async def main() -> None:
        with eventbus.open(name) as old:
            channel = await layer.new_channel()
            await layer.group_add("g", channel)
            waiting = [asyncio.ensure_future(layer.receive(one)) for one in (channel, "tasks")]
            await layer.send("tasks", {"n": 0})
            assert await waiting.pop() == {"n": 0}
            waiting.append(asyncio.ensure_future(layer.receive("tasks")))
            old.shutdown()
            for call in (layer.group_send("g", {"n": 1}), layer.send("tasks", {"n": 1})):
                with pytest.raises(ClosedError, match="another process has it open still"):
                    await call
            while "tries again" not in caplog.text:
                await asyncio.sleep(0)
            ended = old.identity
        with eventbus.open(name) as new:
            assert new.identity != ended
            await layer.group_send("g", {"n": 2})
            await layer.send("tasks", {"n": 3})
            assert await asyncio.gather(*waiting) == [{"n": 2}, {"n": 3}]
            new.shutdown()
            last = asyncio.ensure_future(layer.receive(channel))
            while caplog.text.count("tries again") < 2:
                await asyncio.sleep(0)
            await layer.close()
            with pytest.raises(ClosedError, match="closed while"):
                await last

    run(main())
    assert caplog.text.count("tries again") == 2
    assert not [one for one in os.listdir("/dev/shm") if name in one]


def test_a_bus_on_which_there_is_no_room(name: str) -> None:
    """A layer that cannot go on by the next bus does not keep it."""
    layer = EventbusChannelLayer(name)

    async def main() -> None:
        await layer.group_add("g", await layer.new_channel())
        eventbus.unlink(name)
        with eventbus.open(name, max_subscribers=1) as taken, taken.subscribe("a"):
            with pytest.raises(SubscribersFullError) as refused:
                await layer.group_send("g", {"n": 1})
            assert refused.tb  # whoever keeps the error keeps what the layer was about to use
        assert not [one for one in os.listdir("/dev/shm") if name in one]
        await layer.group_send("g", {"n": 2})
        await layer.close()

    run(main())


def test_a_bus_that_was_given_ends(bus: Bus) -> None:
    """There is no other one after it: whoever receives is told so."""
    layer = EventbusChannelLayer(bus)

    async def main() -> None:
        waiting = asyncio.ensure_future(layer.receive(await layer.new_channel()))
        await asyncio.sleep(0)
        bus.shutdown()
        with pytest.raises(ClosedError, match="was shut down"):
            await waiting

    run(main())
