"""Consumer: messages of one stream from a sequence on, asked for as they are taken. It acknowledges nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Final

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from eventbus.bridge.config import Config
from eventbus.bridge.filters import widest
from eventbus.bridge.link import Arrived, Link, LinkError, fields
from eventbus.bridge.waiting import set_within

MANY_FILTERS: Final = (2, 10, 0)
"""From this version on a consumer may have several filters."""

HEARTBEAT: Final = 1.0
EXPIRES: Final = 30.0
INACTIVE: Final = 60.0
"""Seconds between signs of life, of a question for messages, and after which the server forgets whom nobody asks."""

_numbers = itertools.count(1)


class Consumer:
    """One consumer, as long as nothing is in doubt."""

    def __init__(self, link: Link, stream: str, config: Config, run: int) -> None:
        self._link = link
        self._stream = stream
        self._window = config.window
        self._name = f"{config.origin}-{run}-{next(_numbers)}"
        self._inbox = link.inbox()
        self._arrived: list[Arrived] = []
        self._news = asyncio.Event()
        self._given = 0
        self._due = 0  # messages that were asked for and have not come
        self._doubt = ""
        self._heard = 0.0
        self._loop = asyncio.get_running_loop()

    async def open(self, start: int, wanted: tuple[str, ...]) -> None:
        """From now on messages come, from the sequence ``start`` on, of these subjects."""
        filters = wanted if len(wanted) == 1 or self._link.version >= MANY_FILTERS else (widest(wanted),)
        one = {"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": [*filters]}
        terms = ConsumerConfig(
            name=self._name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
            **one,
        )
        await self._link.listen(self._inbox, self._receive)
        await self._link.call(self._link.manager.add_consumer(self._stream, terms))
        self._heard = self._loop.time()

    async def messages(self) -> list[Arrived]:
        """What has come; nothing when there is no more than a sign of life.

        Raises:
            LinkError: the connection or the consumer is gone, or nothing is heard of it.
        """
        self._link.check()
        await self._ask()
        if not self._arrived:
            self._news.clear()
            if not await set_within(self._news, HEARTBEAT):
                self._check_heartbeat()
        if self._doubt:
            raise LinkError(self._doubt)
        found, self._arrived = self._arrived, []
        self._given += len(found)
        return found

    async def look(self) -> tuple[int, int, bool]:
        """The stream's first and last sequence, and whether all up to there that passes the filters was given."""
        manager = self._link.manager
        stream = await self._link.call(manager.stream_info(self._stream))
        mine = await self._link.call(manager.consumer_info(self._stream, self._name))
        delivered = 0 if mine.delivered is None else mine.delivered.consumer_seq
        whole = mine.num_pending == 0 and delivered == self._given
        return stream.state.first_seq, stream.state.last_seq, whole

    async def _ask(self) -> None:
        """Asks for so many that a window is on its way."""
        more = self._window - self._due
        if more * 2 > self._window:
            times = {"expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            await self._link.publish(subject, json.dumps({"batch": more, **times}).encode(), reply=self._inbox)
            self._due += more

    def _receive(self, message: Arrived) -> None:
        self._heard = self._loop.time()
        if message.reply:
            self._arrived.append(message)
            self._due -= 1
        else:
            self._told(message)
        self._news.set()

    def _told(self, message: Arrived) -> None:
        """A status: of life, of the end of one question, or of the consumer's."""
        headers = fields(message.headers)
        status = headers.get("Status", "")
        if status == "100":
            return
        if status == "408":
            self._due = max(0, self._due - int(headers.get("Nats-Pending-Messages", self._due)))
            return
        self._doubt = headers.get("Description") or f"the consumer is gone (status {status})"

    def _check_heartbeat(self) -> None:
        if self._loop.time() - self._heard > 3 * HEARTBEAT:
            raise LinkError(f"nothing was heard of the stream {self._stream} for {3 * HEARTBEAT:g} s")
