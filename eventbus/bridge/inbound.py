"""Inbound: messages of one origin become events of this bus, in one step with the position behind them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from eventbus import patterns
from eventbus.bridge import filters, messages, position
from eventbus.bridge.config import Config
from eventbus.bridge.consumer import Consumer
from eventbus.bridge.flow import States
from eventbus.bridge.link import Arrived, Link, LinkError, fields
from eventbus.bridge.messages import Message, Place
from eventbus.bridge.position import Position
from eventbus.bridge.source import is_own
from eventbus.bus import Bus
from eventbus.errors import FullError, InvalidError, PolicyDeniedError
from eventbus.letters import DEAD_SYSTEM

LOOK_SECONDS: Final = 5.0
"""How often it looks how far the stream is that it sees through filters."""

ROOM_SECONDS: Final = 1.0
"""How long a batch waits for room in the ring before half of it is tried."""

NAMES_KEPT: Final = 65_536
"""Systems that are remembered, so that strangers cannot fill the memory."""

VAIN, WANTED = "vain", ""
_SEQUENCE: Final = {9: 5, 11: 7, 12: 7}
"""Where the address of an acknowledgement has the sequence, by its tokens: servers of a domain have more."""

Waiting = list[tuple[Message, int]]
"""Messages, and their sequences in the stream."""


class Inbound:
    """What comes from one origin."""

    def __init__(self, bus: Bus, config: Config, states: States, origin: str, systems: tuple[str, ...]) -> None:
        self._bus = bus
        self._config = config
        self._states = states
        self._health = states.health
        self._origin = origin
        self._hears = [patterns.compile(one) for one in systems]
        self._whole = "**" in systems
        self._dead = DEAD_SYSTEM in systems
        self._note = position.import_note(config.domain, origin)
        self._position = position.unpacked(bus._noted(self._note))
        self._verdicts: dict[str, str] = {}
        self._waits = False  # for room in the ring
        self._looked = 0.0
        self.subjects = filters.filters(config.domain, origin, systems)

    async def begin(self, link: Link, info: StreamInfo, latest: bool) -> int:
        """The sequence to begin at; what is gone by then is told.

        Args:
            latest: whether what the stream has by now is old where there is no position yet.
        """
        made, state = microseconds(info.created), info.state
        if self._position == position.NOWHERE:
            before = state.last_seq if latest else max(state.first_seq - 1, 0)
            await self._commit("", [], Position(position.NOWHERE.place, before, made))
        elif not await self._is_same(link, info):
            text = f"the stream of {self._origin} is another one, or was set back: it is read from its beginning"
            self._health.say(f"again {self._origin}", text)
            self._position = Position(self._position.place, max(state.first_seq - 1, 0), made)
        elif (gone := state.first_seq - self._position.message - 1) > 0:
            self._position = self._position._replace(message=state.first_seq - 1)
            self._health.gap(self._origin, gone)
        return self._position.message + 1

    async def _is_same(self, link: Link, info: StreamInfo) -> bool:
        """Whether the stream still is what the position was noted of."""
        _, message, made = self._position
        if made != microseconds(info.created) or message > info.state.last_seq:
            return False
        if message < info.state.first_seq:
            return True
        try:
            found = await link.call(link.manager.get_msg(info.config.name or "", message))
            return self._position.place.covers(messages.place_of(found.headers))
        except (NotFoundError, InvalidError):
            return True

    # --- batches ---

    async def bring(self, arrived: Sequence[Arrived]) -> None:
        """Sends what is new and to be heard here, and notes how far that is."""
        place, at, created = self._position
        waiting: Waiting = []
        gone = pending = 0
        for one in arrived:
            sequence, pending = _numbers(one.reply)
            if sequence <= at:  # what no consumer gives
                self._health.duplicate(self._origin)
                continue
            if self._whole:
                gone += sequence - at - 1
            at = sequence
            message = self._read(one, place)
            if message is not None:
                place = message.place
                if self._is_wanted(message):
                    waiting.append((message, at))
        for origin, some in itertools.groupby(waiting, key=_origin_of):
            await self._send(origin, [*some])
        if (end := Position(place, at, created)) != self._position:
            await self._commit("", [], end)
        if gone:
            self._health.gap(self._origin, gone)
        if waiting:
            self._health.imported(self._origin, 0, pending, waiting[-1][0].event.time)

    async def look(self, consumer: Consumer) -> None:
        """Where filters pass over messages, now and then: how far the stream was seen although nothing came of it.

        Raises:
            LinkError: the stream has let go of messages that were to come; what they were is found out anew.
        """
        now = time.monotonic()
        if self._whole or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        first, last, whole = await consumer.look()
        if whole and last > self._position.message:
            await self._commit("", [], self._position._replace(message=last))
        elif not whole and first > self._position.message + 1:
            raise LinkError("it has let go of messages before they came")

    def _read(self, one: Arrived, last: Place) -> Message | None:
        """None of what is no event, or was there before."""
        try:
            message = messages.read(one.subject, fields(one.headers), one.payload)
        except InvalidError as error:
            self._rejected(error.details["reason"], f"{one.subject}: {error.message}")
            return None
        if last.covers(message.place):
            self._health.duplicate(self._origin)
            return None
        return message

    def _is_wanted(self, message: Message) -> bool:
        system = message.event.system
        verdict = self._verdicts.get(system)
        if verdict is None:
            if len(self._verdicts) == NAMES_KEPT:
                self._verdicts.clear()
            verdict = self._verdicts[system] = self._verdict(system)
        if verdict == VAIN:
            self._health.vain(self._origin)
        elif verdict:
            self._rejected("policy", verdict)
        elif self._config.origin in message.hops:
            self._rejected("loop", f"an event that had passed {self._config.origin} came back: see where it is relayed")
        else:
            return True
        return False

    def _verdict(self, system: str) -> str:
        """WANTED, VAIN, or why it is forbidden."""
        if is_own(system) and not (system == DEAD_SYSTEM and self._dead):
            return VAIN
        if not any(one.matches(system) for one in self._hears):
            return VAIN
        try:
            if self._bus._guard is not None:
                self._bus._guard.check_send(system)
        except PolicyDeniedError as error:
            return error.message
        return WANTED

    async def _send(self, origin: str, waiting: Waiting) -> None:
        """All of them; in smaller batches where there is not enough room for all at once."""
        size = len(waiting)
        while waiting:
            some, rest = waiting[:size], waiting[size:]
            try:
                last, message = some[-1]
                end = Position(last.place, message, self._position.created)
                await self._commit(origin, some, end, ROOM_SECONDS)
                waiting = rest
            except FullError as error:
                self._full(error.message)
                size = max(1, len(some) // 2)
            except InvalidError as error:
                if len(some) == 1:
                    self._rejected("large", f"{some[0][0].event.path}: {error.message}")
                    waiting = rest
                size = max(1, len(some) // 2)
        self._full("")

    async def _commit(self, origin: str, some: Waiting, at: Position, seconds: float | None = None) -> None:
        events = [message.event for message, _ in some]
        await self._bus._abring(origin, events, (self._note, at.packed()), seconds)
        self._position = at
        if events:
            inward = self._health.inward(self._origin)
            self._health.imported(self._origin, len(events), inward.pending, events[-1].time)

    def _full(self, why: str) -> None:
        """Whether there is no room for what comes in, and who holds it."""
        if why or self._waits:
            self._waits = bool(why)
            self._states.move("import", "degraded" if why else "running", why)

    def _rejected(self, reason: str, text: str) -> None:
        self._health.rejected(self._origin, reason, text)


def microseconds(then: datetime | None) -> int:
    """Since the epoch."""
    return 0 if then is None else round(then.timestamp() * 1e6)


def _numbers(reply: str) -> tuple[int, int]:
    """The sequence of a message in its stream and how many are to come, of its address; 0 where it has none."""
    tokens = reply.split(".")
    try:
        at = _SEQUENCE[len(tokens)]
        return int(tokens[at]), int(tokens[at + 3])
    except (KeyError, ValueError):
        return 0, 0


def _origin_of(one: tuple[Message, int]) -> str:
    return one[0].origin
