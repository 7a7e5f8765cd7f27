"""Export: what is sent on this bus goes to the stream of its origin, in its order and once.

Each message tells the server which one has to be the last before it, so a batch is a chain: the acknowledgement of its
end proves all of it, and nothing that comes late or twice is taken. Whatever goes wrong, the end of the stream says
where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from eventbus.bridge import fence, messages, position, subjects
from eventbus.bridge.config import Config
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.link import Arrived, Link, LinkError, block
from eventbus.bridge.messages import Place, Stamp
from eventbus.bridge.position import NOWHERE, Position
from eventbus.bridge.source import Source
from eventbus.bridge.streams import keep_stream, others
from eventbus.bus import Bus
from eventbus.errors import InvalidError, UnavailableError
from eventbus.event import Event

LOOK_SECONDS: Final = 5.0
"""How often a bridge that has nothing to send looks whether the stream is still its own."""

BATCH_BYTES: Final = 1 << 20
"""What is written before an acknowledgement is waited for, beside a last message."""


class Export(Flow):
    """The way out."""

    way = "export"

    def __init__(
        self, bus: Bus, config: Config, states: States, run: int, nearby: set[str], take_over: bool = False
    ) -> None:
        """Args: nearby: the origins of the domain, whose events others have without this bridge."""
        super().__init__(bus, config, states)
        self._stamp = Stamp(bus.identity, run, config.origin)
        self._nearby = nearby
        self._take_over = take_over
        self._synced = False  # once: from then on a later run fences this one off
        self._note = position.export_note(config.domain, config.origin)
        self._acknowledged = position.unpacked(bus._noted(self._note))
        self._stream = subjects.stream_name(config.domain, config.origin)
        self._source = Source(bus, config, self._health, self._acknowledged.place.sequence, nearby)
        self._batch: list[Event] = []  # in hand, and not known to be in the stream
        self._done = 0  # the last event that the stream has, or that cannot go there
        self._end = 0  # the sequence of the stream's last message
        self._alone = True  # the first one of a connection: why the servers refuse it they say of it, not of the last

    def close(self) -> None:
        """Gives back what is in hand. What of it is in the stream is known by the position, and not sent again."""
        self._source.close()

    async def _carry(self, link: Link) -> None:
        self._alone = True
        await self._sync(link)
        self._running()
        while True:
            if not self._batch:
                await self._take(link)
            await self._send(link, [event for event in self._batch if event.sequence > self._done])
            self._batch = []
            self._health.holding(None)

    async def _take(self, link: Link) -> None:
        """Takes the next events in hand, or raises LinkError when the connection is gone before there are any."""
        looked = self._source.sent if self._source.drops else 0
        self._batch = self._source.poll()
        if not self._batch:
            self._passed(looked)
            waiting = asyncio.ensure_future(self._source.wait())
            try:
                while not waiting.done():
                    ends = (waiting, link.ended)
                    await asyncio.wait(ends, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    if not waiting.done():
                        await self._look(link)
            finally:
                if not waiting.cancel():  # nothing is in hand of whoever waits; else it is, also if the stream is gone
                    self._batch = waiting.result()
        if self._batch:
            self._health.holding(self._batch[0].time)

    async def _look(self, link: Link) -> None:
        """While there is nothing to send: whether the connection and the stream are still this bridge's."""
        link.check()
        try:
            stream = await link.call(link.manager.stream_info(self._stream))
        except NotFoundError as error:
            raise LinkError(f"the stream {self._stream} is gone") from error
        fence.check_owner(self._stream, stream.config.description, fence.owner_of(self._config.bus))

    # --- batches ---

    async def _send(self, link: Link, events: Sequence[Event], again: bool = False) -> None:
        """Returns once the stream has them all, but for those that cannot go there."""
        for some, blocks in self._blocks(link, events):
            reply, answer = link.expect()
            blocks[-1] = self._block(link, some[-1], self._end + len(blocks) - 1, reply)
            await link.write(blocks)
            await self._prove(link, answer, len(blocks))
            self._alone = False
            self._done = some[-1].sequence
            if not again:
                self._noted()
        if events:
            self._done = events[-1].sequence

    def _blocks(self, link: Link, events: Sequence[Event]) -> Iterator[tuple[list[Event], list[bytes]]]:
        """Events that go together, and what is written of them."""
        some: list[Event] = []
        blocks: list[bytes] = []
        size = 0
        for event in events:
            written = self._block(link, event, self._end + len(blocks)) if self._source.travels(event) else b""
            if not written:
                continue
            some.append(event)
            blocks.append(written)
            size += len(written)
            if size >= BATCH_BYTES or self._alone:
                yield some, blocks
                some, blocks, size = [], [], 0
        if blocks:
            yield some, blocks

    def _block(self, link: Link, event: Event, last: int, reply: str = "") -> bytes:
        """One message, which says what the sequence before it is; nothing where it cannot go."""
        subject = subjects.subject(self._config.domain, self._config.origin, event.system, event.kind)
        headers, payload = messages.headers_of(event, self._stamp), messages.payload_of(event)
        headers[messages.LAST] = str(last)
        written = block(subject, payload, headers, reply)
        if len(written) > link.max_payload and not link.fits(headers, payload):
            text = f"{event.system} {event.kind} {event.path} has {len(payload)} bytes"
            self._health.refused("large", f"{text}, and the server takes {link.max_payload}: raise its max_payload")
            return b""
        return written

    async def _prove(self, link: Link, answer: asyncio.Future[Arrived], count: int) -> None:
        found = await link.answered(answer)
        if found.get("stream") != self._stream or found.get("seq") != self._end + count:
            raise LinkError(f"the stream {self._stream} has messages that this bridge did not write: {found}")
        self._end += count
        self._health.exported(count)

    def _noted(self) -> None:
        """From now on the ring says that the stream has all up to where it is done."""
        self._acknowledged = Position(Place(self._stamp.epoch, self._stamp.run, self._done), self._end, 0)
        try:
            self._bus._bring("", [], (self._note, self._acknowledged.packed()), timeout=0)
        except UnavailableError as error:  # the next one says it too; until then the stream is ahead of the note
            self._health.say("note", f"the position could not be noted: {error.message}")

    def _passed(self, looked: int) -> None:
        """There was nothing more to go out up to ``looked``. Who drops counts what it lost from there."""
        if looked > self._done:
            self._done = looked
            self._noted()

    # --- where to go on ---

    async def _sync(self, link: Link) -> None:
        """Finds the end of the stream, and reads again what the servers had acknowledged and lost."""
        stream = await keep_stream(link, self._config, fence.owner_of(self._config.bus), self._take_over)
        last = await self._last(link, stream)
        self._check(last)
        if self._config.relay:
            self._nearby.update(await others(link, self._config))
        self._end = stream.state.last_seq
        if self._acknowledged == NOWHERE and stream.did_create:
            self._done = self._source.began  # what comes before was sent before there was a bridge
            self._noted()
        before = self._acknowledged
        there = last.sequence if last is not None and last.epoch == self._stamp.epoch else 0
        lacks = before.message > self._end or 0 < there < before.place.sequence
        self._done = there if lacks else max(there, before.place.sequence)
        if lacks:
            await self._again(link, before)
        if self._done != before.place.sequence or lacks:
            self._noted()

    def _check(self, last: Place | None) -> None:
        """Raises FencedError when another bridge has written. The first time, this one begins later than any."""
        if last is not None and not self._synced:
            self._stamp = self._stamp._replace(run=max(self._stamp.run, last.run + 1))
        if last is not None:
            fence.check_run(self._stream, last, self._stamp.run)
        self._synced, self._take_over = True, False

    async def _last(self, link: Link, stream: StreamInfo) -> Place | None:
        """Where the last message of a bridge stands; None where there is none. Others are passed over."""
        for sequence in range(stream.state.last_seq, stream.state.first_seq - 1, -1) if stream.state.messages else ():
            try:
                found = await link.call(link.manager.get_msg(self._stream, sequence))
                return messages.place_of(found.headers)
            except NotFoundError:
                continue
            except InvalidError as error:
                self._health.say("foreign", f"message {sequence} of {self._stream} is of no bridge: {error.message}")
        return None

    async def _again(self, link: Link, before: Position) -> None:
        """Of what was acknowledged and is not there, the ring may have the rest. Nothing is noted before it is all
        there: killed meanwhile, the next one begins with what is not."""
        missing, end, until = before.message - self._end, self._end, before.place.sequence
        for some in self._source.again(self._done + 1, until):
            await self._send(link, some, again=True)
        self._done = max(self._done, until)
        if (lost := missing - (self._end - end)) > 0:
            self._health.lost(lost)
