"""Import: what other origins export comes to this bus, the events of each origin in their order and once.

The position stands in the ring since the very step that made the events visible there. So nothing is acknowledged at
the servers, who would only know it later: a consumer begins behind the position, and is made anew when in doubt.
"""

from __future__ import annotations

import asyncio
from typing import Final

from nats.js.api import StreamInfo

from eventbus.bridge.config import Config, ImportConfig
from eventbus.bridge.consumer import Consumer
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.inbound import Inbound
from eventbus.bridge.link import Link
from eventbus.bridge.streams import others
from eventbus.bus import Bus

LOOK_SECONDS: Final = 2.0
"""How often it looks for origins that are new."""


class Import(Flow):
    """The way in, from all origins."""

    way = "import"

    def __init__(self, bus: Bus, config: Config, states: States, run: int) -> None:
        super().__init__(bus, config, states)
        self._run_number = run
        self._inbound: dict[str, Inbound] = {}
        self._first = True  # what there is already when the bridge begins is old

    async def _carry(self, link: Link) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for origin, info in (await others(link, self._config)).items():
                    wanted = tuple(one for one in self._config.imports if not one.origins or origin in one.origins)
                    if origin not in tasks and wanted:
                        tasks[origin] = asyncio.ensure_future(self._from(link, origin, info, wanted))
                self._first = False
                self._running()
                ends = (link.ended, *tasks.values())
                await asyncio.wait(ends, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                link.check()
                for origin in [origin for origin, task in tasks.items() if task.done()]:
                    tasks.pop(origin).result()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _from(self, link: Link, origin: str, info: StreamInfo, wanted: tuple[ImportConfig, ...]) -> None:
        """Imports from one origin, until something is in doubt."""
        inbound = self._inbound.get(origin)
        if inbound is None:
            systems = tuple(dict.fromkeys(system for one in wanted for system in one.systems))
            inbound = self._inbound[origin] = Inbound(self._bus, self._config, self._states, origin, systems)
        start = await inbound.begin(link, info, latest=self._first and all(one.start == "latest" for one in wanted))
        consumer = Consumer(link, info.config.name or "", self._config, self._run_number)
        await consumer.open(start, inbound.subjects)
        while True:
            await inbound.bring(await consumer.messages())
