"""Import: what other origins export comes to this bus, the events of each origin in their order and once.

The position stands in the ring since the very step that made the events visible there. So nothing is acknowledged at
the servers, who would only know it later: a consumer begins behind the position, and is made anew when in doubt.
"""

from __future__ import annotations

import asyncio
from typing import Final

from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from eventbus.bridge.config import Config, ImportConfig
from eventbus.bridge.consumer import Consumer
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.inbound import Inbound
from eventbus.bridge.link import Link, LinkError, said
from eventbus.bridge.streams import others
from eventbus.bridge.waiting import cancel
from eventbus.bus import Bus

FIRST_LOOK, LOOK_SECONDS = 0.1, 2.0
"""How often it looks for origins that are new: seldom, once it has found none for a while."""

DOUBT_SECONDS: Final = 0.1
"""How long it leaves a stream alone whose consumer was in doubt."""


class Import(Flow):
    """The way in, from all origins."""

    way = "import"

    def __init__(self, bus: Bus, config: Config, states: States, run: int, nearby: set[str]) -> None:
        """Args: nearby: takes note of all origins of the domain, before anything comes from them."""
        super().__init__(bus, config, states)
        self._began = run
        self._nearby = nearby
        self._inbound: dict[str, Inbound] = {}
        self._first = True  # what there is already when the bridge begins is old

    async def _carry(self, link: Link) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}
        pause = FIRST_LOOK
        try:
            while True:
                pause = FIRST_LOOK if await self._look(link, tasks) else min(2 * pause, LOOK_SECONDS)
                self._running()
                ends = (link.ended, *tasks.values())
                await asyncio.wait(ends, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                link.check()
                for origin in [origin for origin, task in tasks.items() if task.done()]:
                    await self._doubted(origin, tasks.pop(origin))
        finally:
            await cancel(tasks.values())

    async def _look(self, link: Link, tasks: dict[str, asyncio.Task[None]]) -> bool:
        """Begins with the origins that nothing comes from; whether there were any."""
        before, there = len(tasks), await others(link, self._config)
        self._nearby.update(there)
        for origin, info in there.items():
            wanted = [one for one in self._config.imports if not one.origins or origin in one.origins]
            if wanted and origin not in tasks:
                latest = self._first and all(one.start == "latest" for one in wanted)
                tasks[origin] = asyncio.ensure_future(self._from(link, info, self._way_in(origin, wanted), latest))
        self._first = False
        return len(tasks) > before

    def _way_in(self, origin: str, wanted: list[ImportConfig]) -> Inbound:
        if origin not in self._inbound:
            systems = tuple(dict.fromkeys(system for one in wanted for system in one.systems))
            self._inbound[origin] = Inbound(self._bus, self._config, self._states, origin, systems)
        return self._inbound[origin]

    async def _doubted(self, origin: str, task: asyncio.Task[None]) -> None:
        """What comes from an origin ended: with a reason to begin again, or to end with it."""
        try:
            task.result()
        except (LinkError, NotFoundError) as error:
            self._health.say(f"doubt {origin}", f"the stream of {origin} is read anew: {said(error)}")
            await asyncio.sleep(DOUBT_SECONDS)

    async def _from(self, link: Link, info: StreamInfo, inbound: Inbound, latest: bool) -> None:
        """Imports from one origin, until something is in doubt."""
        start = await inbound.begin(link, info, latest)
        consumer = Consumer(link, info.config.name or "", self._config, self._began)
        await consumer.open(start, inbound.subjects)
        while True:
            await inbound.bring(await consumer.messages())
            await inbound.look(consumer)
