"""`group_send` of a layer of Django Channels, beside channels_redis."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.crew import Control, Crew, cpu_seconds
from benchmarks.latency import Timing
from benchmarks.load import PROBE, SYSTEM, JsonLoad, wrong
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.peers import no_redis
from benchmarks.peers.bus import new_name, remove
from benchmarks.report import Report
from benchmarks.session import Session

PROCESSES = 4
"""Of those that hear; the one that sends is none of them."""

_GROUP, _TYPE = "orders", "order.created"
_CAPACITY = 1 << 20
"""Messages that may wait for a channel: none is dropped, however far behind its process is."""

_RATE = 100
_AGAIN = 0.02  # seconds after which what has not begun is tried again
_WARM_UP = 200

Layer = Any


class BusLayers(Medium):
    """Layers over a bus."""

    def open(self, leftovers: ExitStack) -> None:
        self._name = new_name()
        leftovers.callback(remove, self._name)

    def layer(self) -> Layer:
        """One for a process, made in it."""
        from eventbus.integrations.channels import EventbusChannelLayer

        return EventbusChannelLayer(self._name, capacity=_CAPACITY)


def _redis(topology: Topology, module: str, kind: str) -> Medium:
    medium: Any = import_module("benchmarks.peers.redis_server").RedisMedium(topology)
    made = getattr(import_module(f"channels_redis.{module}"), kind)
    medium.layer = lambda: made(hosts=[f"unix://{medium.socket}"], capacity=_CAPACITY)
    return medium  # type: ignore[no-any-return]


def entrants() -> list[Peer]:
    """Return eventbus and both layers of channels_redis; the absent ones with the reason."""
    missing = _missing("channels", "msgpack")
    absent = _missing("channels", "channels_redis") or no_redis()
    return [
        Peer("eventbus", missing, BusLayers),
        Peer("channels_redis", absent, partial(_redis, module="core", kind="RedisChannelLayer")),
        Peer("channels_redis pub/sub", absent, partial(_redis, module="pubsub", kind="RedisPubSubChannelLayer")),
    ]


def _missing(*modules: str) -> str | None:
    return next((f"No module named {name!r}" for name in modules if find_spec(name) is None), None)


def rate(session: Session) -> Report:
    """`group_send` of Django Channels to a channel in each of four processes, at full speed."""
    settings = session.settings
    measure = partial(_rate, events=settings.events, seconds=0.1 if settings.quick else 1.0)
    return session.each("channels", _note(), f"1 → {PROCESSES}", measure)


def paced(session: Session) -> Report:
    """From before a `group_send` to the consumers of four processes, at 100/s."""
    settings = session.settings
    events = settings.events or (20 if settings.quick else 300)
    return session.latency("channels-paced", _note(), [f"{_RATE}/s"], lambda peer, _: _paced(peer, events))


def killed(session: Session) -> Report:
    """`group_send` while one of four processes dies by `kill -9`: the others get all, or the run is an error."""
    events = session.settings.events or (100 if session.settings.quick else 2_000)
    return session.each("channels-killed", _note(), "kill -9", partial(_killed, events=events))


SCENARIOS: dict[str, Callable[[Session], Report]] = {
    "channels": rate,
    "channels-paced": paced,
    "channels-killed": killed,
}


def _note() -> str:
    return f"messages of {JsonLoad().size} bytes of JSON to one channel in each of {PROCESSES} processes"


def _rate(peer: Peer, events: int | None, seconds: float) -> dict[str, float]:
    with peer.connect(_topology()) as medium, Crew() as crew:
        _start(crew, peer, medium, PROCESSES, 0.0)
        warmed, _ = _round(crew, medium, _WARM_UP)
        events = events or max(int(_WARM_UP / warmed * seconds), _WARM_UP)
        spent, cpu = _round(crew, medium, events)
        crew.meet("ready", 0)
        crew.results()
    return {"messages/s": events / spent, "CPU s/M": cpu / events / PROCESSES * 1e6, "messages": events}


def _paced(peer: Peer, events: int) -> Timing:
    with peer.connect(_topology()) as medium, Crew() as crew:
        _start(crew, peer, medium, PROCESSES, 1 / _RATE)
        _round(crew, medium, max(events // 10, 1))
        _, cpu = _round(crew, medium, events)
        crew.meet("ready", 0)
        times = array("q")
        for taken in crew.results():
            times.extend(taken or ())
    return Timing(times, cpu)


def _killed(peer: Peer, events: int) -> dict[str, float]:
    """Send as fast as it goes; kill one process amid that. The others must get all, in their order."""
    with peer.connect(_topology()) as medium, ExitStack() as held, Crew() as crew:
        victim = multiprocessing.get_context("fork").Process(target=_hear_for_ever, args=(medium,), daemon=True)
        victim.start()
        held.callback(victim.join)
        held.callback(victim.kill)
        _start(crew, peer, medium, PROCESSES - 1, 0.0, victim.pid or 0)
        spent, _ = _round(crew, medium, events)
        crew.meet("ready", 0)
        crew.results()
    return {"messages/s": events / spent, "messages": events}


def _topology() -> Topology:
    return Topology(1, (SYSTEM,), JsonLoad().size)


def _start(crew: Crew, peer: Peer, medium: Any, listeners: int, every: float, victim: int = 0) -> None:
    for index in range(listeners):
        crew.start(f"{peer.name} process {index}", _hear, medium)
    crew.start(f"{peer.name} sender", _send, medium, every, victim)
    crew.meet("heard")


def _round(crew: Crew, medium: Medium, events: int) -> tuple[float, float]:
    """Return the seconds from the first send to the last message received, and the CPU seconds of all."""
    crew.meet("ready", events)
    server = medium.server_seconds()
    *ends, begun = crew.meet("complete")
    cpu = medium.server_seconds() - server + sum(crew.gather("spent"))
    return (max(ends) - begun) / 1e9, cpu


# --- the processes ---


@asynccontextmanager
async def _member(medium: Any) -> AsyncIterator[tuple[Layer, str]]:
    layer = medium.layer()
    channel = await layer.new_channel()
    await layer.group_add(_GROUP, channel)
    yield layer, channel


def _hear(control: Control, medium: Any) -> array[int]:
    return asyncio.run(_heard(control, medium))


async def _heard(control: Control, medium: Any) -> array[int]:
    times, now = array("q"), time.monotonic_ns
    async with _member(medium) as (layer, channel):
        await layer.receive(channel)
        await asyncio.to_thread(control.meet, "heard")
        while events := await asyncio.to_thread(control.meet, "ready"):
            before, times = cpu_seconds(), array("q")
            while len(times) < events:
                data = (await layer.receive(channel))["data"]
                if data["number"] == PROBE:
                    continue
                if data["number"] != len(times):
                    raise wrong(len(times), data["number"])
                times.append(now() - data["sent"])
            await asyncio.to_thread(control.meet, "complete", now())
            control.post("spent", cpu_seconds() - before)
    return times


def _send(control: Control, medium: Any, every: float, victim: int) -> None:
    asyncio.run(_sent(control, medium.layer(), every, victim))


async def _sent(control: Control, layer: Layer, every: float, victim: int) -> None:
    load = JsonLoad()
    control.post("heard")
    while not control.answered(0):  # until all have heard one
        for data in load.events(0, [PROBE]):
            await layer.group_send(_GROUP, {"type": _TYPE, "data": data})
        await asyncio.sleep(_AGAIN)
    control.answer()
    while events := await asyncio.to_thread(control.meet, "ready"):
        before, start = cpu_seconds(), time.monotonic_ns()
        for number, data in enumerate(load.events(0, range(events))):
            if every:
                await asyncio.sleep(start / 1e9 + number * every - time.monotonic())
            if victim and number == events // 2:
                os.kill(victim, signal.SIGKILL)
            data["sent"] = time.monotonic_ns()
            await layer.group_send(_GROUP, {"type": _TYPE, "data": data})
        await asyncio.to_thread(control.meet, "complete", start)
        control.post("spent", cpu_seconds() - before)


def _hear_for_ever(medium: Any) -> None:
    async def heard() -> None:
        async with _member(medium) as (layer, channel):
            while True:
                await layer.receive(channel)

    asyncio.run(heard())
