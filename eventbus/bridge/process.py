"""Process: one bridge from its start to its end, with the exit code that it ends with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from typing import Any, Final

from eventbus.bridge.asks import Asks
from eventbus.bridge.config import Config
from eventbus.bridge.export import Export
from eventbus.bridge.fence import FencedError
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.health import Health
from eventbus.bridge.imports import Import
from eventbus.bridge.messages import Stamp
from eventbus.bridge.notify import Notifier
from eventbus.bridge.queues import Queue
from eventbus.bridge.waiting import cancel
from eventbus.bus import Bus
from eventbus.errors import ClosedError, EventBusError

STOPPED, FAILED, FENCED = 0, 1, 3
"""Exit codes."""

WIND_UP: Final = 10.0
"""Seconds for which a bridge that was told to stop waits for work that came out of a queue."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

WATCH_SECONDS: Final = 1.0
"""How often it looks whether the bus is still there."""

_log = logging.getLogger("eventbus.bridge")


async def serve(config: Config, *, take_over: bool = False) -> int:
    """Runs a bridge until SIGINT or SIGTERM, or until it cannot go on; the exit code."""
    run = time.time_ns()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        actor = f"bridge:{config.origin}"
        with Bus(config.bus, capacity=config.capacity, persist=config.persist, actor=actor) as bus:
            return await _run(bus, config, run, take_over, stopped)
    except EventBusError as error:
        _log.error("%s: %s", config.origin, error.message)
        return FAILED
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _run(bus: Bus, config: Config, run: int, take_over: bool, stopped: asyncio.Event) -> int:
    health = Health(bus, config, run, notifier=Notifier())
    states = States(health)
    with contextlib.ExitStack() as ways:
        flows: list[Flow] = []
        nearby: set[str] = set()
        if config.exports:
            out = Export(bus, config, states, run, nearby, take_over)
            ways.callback(out.close)
            flows.append(out)
        if config.imports:
            flows.append(Import(bus, config, states, run, nearby))
        stamp = Stamp(bus.identity, run, config.origin)
        for queue in config.queues:
            route = Queue(bus, config, states, queue, stamp)
            ways.callback(route.close)
            flows.append(route)
        if config.asks:
            flows.append(Asks(bus, config, states, stamp))
        try:
            return await _supervise(bus, flows, health, stopped)
        finally:
            health.stop()


async def _supervise(bus: Bus, flows: list[Flow], health: Health, stopped: asyncio.Event) -> int:
    parts = (stopped.wait(), health.run(), _watch(bus), *(flow.run() for flow in flows))
    tasks = [asyncio.ensure_future(one) for one in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await _wind_up(flows, tasks[2:])
        return STOPPED
    except FencedError as error:
        health.move("fenced", error.message)
        return FENCED
    finally:
        await cancel(tasks)


async def _watch(bus: Bus) -> None:
    """Raises ClosedError once the bus was shut down, or its name means another one."""
    while not bus.closed:
        await asyncio.sleep(WATCH_SECONDS)
    raise ClosedError(f"the bus {bus.name!r} was shut down or removed: start the bridge again once it is back")


async def _wind_up(flows: list[Flow], running: Sequence[asyncio.Task[Any]]) -> None:
    """Lets what is under way come to its end, for a while."""
    ends: asyncio.Future[Any] = asyncio.gather(*(flow.wind_up() for flow in flows))
    await asyncio.wait((ends, *running), timeout=WIND_UP, return_when=asyncio.FIRST_COMPLETED)
    ends.cancel()
