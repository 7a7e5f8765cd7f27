"""Flow: one way of a bridge, which runs on a connection, and on the next one when that is gone."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from typing import Final

from eventbus.bridge import subjects
from eventbus.bridge.config import Config
from eventbus.bridge.health import Health
from eventbus.bridge.link import SAFE, Link, linked
from eventbus.bridge.names import State
from eventbus.bus import Bus
from eventbus.errors import UnavailableError

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0
"""Seconds between two connections, doubled each time that one did not get as far as running."""

_WORST: Final[tuple[State, ...]] = ("degraded", "starting", "syncing", "running")


class States:
    """What each way is in; the bridge as a whole is in the worst of them."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self._ways: dict[str, tuple[State, str]] = {}

    def move(self, way: str, state: State, why: str = "") -> None:
        """From now on the way is in another one."""
        self._ways[way] = state, why
        worst = min(self._ways.values(), key=lambda one: _WORST.index(one[0]))
        self.health.move(*worst)


class Flow(ABC):
    """One way. What a way is called stands in ``way``: in messages, and in what the servers show."""

    way: str

    def __init__(self, bus: Bus, config: Config, states: States) -> None:
        self._bus = bus
        self._config = config
        self._states = states
        self._health = states.health
        self._pause = FIRST_PAUSE
        states.move(self.way, "starting")

    async def run(self) -> None:
        """Until it is cancelled, or raises what no other connection would mend."""
        name = f"eventbus bridge {self._config.origin} {self.way}"
        inbox_prefix = subjects.inbox_prefix(self._config.domain, self._config.origin)
        while True:
            try:
                async with linked(self._config.nats, name, self._config.ack_timeout, inbox_prefix) as link:
                    self._states.move(self.way, "syncing")
                    self._check_version(link)
                    await self._carry(link)
            except UnavailableError as error:
                self._states.move(self.way, "degraded", error.message)
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def wind_up(self) -> None:
        """Returns once nothing is under way that would be done twice if the bridge ended now; nothing new is begun."""
        return

    @abstractmethod
    async def _carry(self, link: Link) -> None:
        """Carries, until the connection is gone or anything goes wrong on it."""

    def _running(self) -> None:
        """It is what it should be."""
        self._pause = FIRST_PAUSE
        self._states.move(self.way, "running")

    def _check_version(self, link: Link) -> None:
        if link.version < SAFE:
            version, safe = (".".join(map(str, one)) for one in (link.version, SAFE))
            self._health.say(
                "version", f"the server is {version}, which lacks fixes of its security: use {safe} or newer"
            )
