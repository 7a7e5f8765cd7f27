"""The layer for Django Channels between processes: others, killed ones, workers that share, and forked children."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from eventbus import Bus
from harness import Fork, Line, until

pytest.importorskip("channels", reason="the extra [channels] is not installed")
pytest.importorskip("msgpack", reason="the extra [channels] is not installed")

from asgiref.sync import async_to_sync

from eventbus.integrations.channels import EventbusChannelLayer

run = asyncio.run


@pytest.fixture
def layer(bus: Bus) -> Iterator[EventbusChannelLayer]:
    """One on the bus of the test."""
    made = EventbusChannelLayer(bus)
    yield made
    async_to_sync(made.close)()


def member(line: Line, bus: Bus) -> None:
    """A process with a channel in the group, which says what it receives."""
    layer = EventbusChannelLayer(bus)

    async def main() -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        line.say(channel)
        while (message := await layer.receive(channel))["n"] >= 0:
            line.say(message["n"])
        await layer.close()

    run(main())


def test_processes(layer: EventbusChannelLayer, bus: Bus, fork: Fork) -> None:
    """Groups and channels reach other processes, and one that is killed takes nobody along."""
    children = [fork(member, bus) for _ in range(3)]
    channels = [child.hear() for child in children]

    async def main() -> None:
        await layer.group_send("g", {"n": 1})
        assert [child.hear() for child in children] == [1, 1, 1]
        os.kill(children[0].pid, signal.SIGKILL)
        await layer.group_send("g", {"n": 2})
        await layer.send(channels[0], {"n": 3})
        await layer.send(channels[1], {"n": 4})
        assert [children[1].hear(), children[1].hear()] == [2, 4]
        assert children[2].hear() == 2
        await layer.group_discard("g", channels[2])
        await layer.group_add("h", channels[2])
        await layer.group_send("g", {"n": -1})
        await layer.group_send("h", {"n": 5})
        assert children[2].hear() == 5
        await layer.group_send("h", {"n": -1})

    run(main())
    for child in children[1:]:
        child.result()


def worker(line: Line, bus: Bus) -> list[int]:
    """A process that takes from a shared channel; what it got."""
    layer, heard = EventbusChannelLayer(bus), list[int]()

    async def main() -> None:
        line.say()
        while (n := (await layer.receive("tasks"))["n"]) >= 0:
            heard.append(n)
        await layer.close()

    run(main())
    return heard


def test_shared_between_processes(layer: EventbusChannelLayer, bus: Bus, fork: Fork) -> None:
    """What was sent before anybody receives is kept; each message goes to one process."""

    async def main() -> None:
        for n in range(3):
            await layer.send("tasks", {"n": n})
        children = [fork(worker, bus) for _ in range(2)]
        for child in children:
            child.hear()
        group = next(one.name for one in bus.stats().groups)
        for n in (3, 4, -1, -1):
            until(lambda: not next(one for one in bus.stats().groups if one.name == group).backlog, "they take")
            await layer.send("tasks", {"n": n})
        assert sorted(n for child in children for n in child.result()) == [0, 1, 2, 3, 4]

    run(main())


def test_a_shared_channel_in_a_group(layer: EventbusChannelLayer, bus: Bus, fork: Fork) -> None:
    """What another process sends to the group another one receives, by the one that put the channel into it."""

    async def main() -> None:
        await layer.group_add("g", "tasks")
        child = fork(send_and_receive, bus)
        assert await asyncio.to_thread(child.result) == [{"n": 1}, {"n": 2}]

    run(main())


def send_and_receive(line: Line, bus: Bus) -> list[dict[str, int]]:
    """What comes back by the shared channel."""
    layer, heard = EventbusChannelLayer(bus), list[dict[str, int]]()

    async def main() -> None:
        for n in (1, 2):
            await layer.group_send("g", {"n": n})
            heard.append(await layer.receive("tasks"))
        await layer.close()

    run(main())
    return heard


def test_a_forked_child_has_channels_of_its_own(layer: EventbusChannelLayer, fork: Fork) -> None:
    """The layer of its parent serves it, with other names and no groups of the parent's."""
    mine = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("g", mine)
    child = fork(use_inherited, layer, mine)
    child.hear()
    child.result()
    assert async_to_sync(layer.receive)(mine) == {"n": 1}


def use_inherited(line: Line, layer: EventbusChannelLayer, theirs: str) -> None:
    """Sends to its parent, and to itself."""

    async def main() -> None:
        own = await layer.new_channel()
        assert own.partition("!")[0] != theirs.partition("!")[0]
        await layer.group_add("h", own)
        await layer.group_send("h", {"n": 2})
        assert await layer.receive(own) == {"n": 2}
        await layer.group_send("g", {"n": 1})
        await layer.close()

    run(main())
    line.say()
