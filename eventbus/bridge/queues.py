"""Queues: work for the group of one host, whichever that is.

A bridge puts in what its host cannot do at once, and takes out what its members wait for.

**A host that only puts in** reads the systems by a group of its own, and acknowledges there what the server has stored.

**A host that serves** is a member of the group that does the work, a modest one: it takes events only while all other
members have enough to do, or there is none, and puts them into the queue. What it takes out it sends to its bus, as
much as members sleep for, and remembers by its sequence. Once the group is through with that the server is told, and
not before: whoever dies meanwhile, member, bridge or server, nothing is lost. A member that dies is noticed by proof,
as ever, and the group hands its event to the next one. A bridge or a host that dies is silent, and after the
acknowledgement's wait another host gets what it had. So an event may be handled twice, and there is no order.

An event that was handed out here for nothing carries that count along, so one that kills whoever handles it is dead
after ``max_deliveries``, on however many hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from eventbus.bridge.config import Config, QueueConfig
from eventbus.bridge.filters import filters, overlap
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.link import Arrived, Link, LinkError
from eventbus.bridge.messages import Stamp, headers_of, payload_of
from eventbus.bridge.pool import Figures, Pool
from eventbus.bridge.source import is_own
from eventbus.bridge.waiting import set_within
from eventbus.bridge.work import DELIVERIES, MESSAGE_ID, Job, Outgoing, Work, job_of, subject_of
from eventbus.bus import Bus
from eventbus.errors import InvalidError, SegmentError, UnavailableError
from eventbus.event import Event
from eventbus.group import find_group
from eventbus.request import Request

BUSY: Final = 0.1
"""Seconds for which all members have been busy before what waits for them goes into the queue."""

LATER: Final = 1.0
"""Seconds before the servers offer again what could not be taken."""

AT_WORK, IDLE = 0.004, 0.25
"""Seconds between two looks at the group: while there is something to do, and else."""


class Queue(Flow):
    """One queue. It outlives its connections: what it has in hand it has until it can say what became of it."""

    def __init__(self, bus: Bus, config: Config, states: States, queue: QueueConfig, stamp: Stamp) -> None:
        self.way = f"queue {queue.name}"
        super().__init__(bus, config, states)
        check_apart(config, queue)
        self._queue = queue
        self._stamp = stamp
        self._own = f"bridge.queue.{queue.name}"  # the group of a host that only puts in
        self._pool: Pool | None = None
        self._taken: list[Event] = []  # that go into the queue
        self._kept: list[Event] = []  # that cannot
        self._jobs: dict[int, Job] = {}  # that came out of it, by their sequences here
        self._returning: list[Event] = []  # of these, what goes to another host
        self._done: list[Arrived] = []  # and what the server has yet to be told
        self._lost: list[Arrived] = []  # what went with a group that was removed
        self._busy_since: float | None = None
        self._ends = False
        self._wound_up = asyncio.Event()

    async def _carry(self, link: Link) -> None:
        work = Work(link, self._config, self._queue)
        await work.open()
        pool = self._joined()
        await self._give_back(work)
        await self._put_taken(work, pool)
        if not self._queue.serve:
            self._running()
            await self._feed(work, link, pool)
        await self._drain(work)
        self._running()
        await work.working(self._jobs.values())
        await self._put_returning(work, pool, pool.look().limit)
        await self._serve(work, pool)

    async def wind_up(self) -> None:
        """Returns once the server knows of all that came out of the queue what became of it."""
        self._ends = True
        if self._jobs or self._done:
            await self._wound_up.wait()

    def close(self) -> None:
        """Leaves the group, which gets back what was on its way."""
        if self._pool is not None:
            self._pool.leave()

    def _joined(self) -> Pool:
        """The group; made anew where it was removed, with what it had to do."""
        if self._pool is None or self._pool.member.closed:
            self._pool = self._join(self._queue.serve or self._own, alone=not self._queue.serve)
            self._lost += [job.raw for job in self._jobs.values()]
            for held in (self._taken, self._kept, self._returning, self._jobs):
                held.clear()
        return self._pool

    def _join(self, name: str, alone: bool) -> Pool:
        try:
            return Pool(self._bus, name, self._queue.systems, self._config.window, label_of(self._queue.name), alone)
        except UnavailableError as error:
            raise LinkError(error.message) from error

    async def _drain(self, work: Work) -> None:
        """Puts in what was sent when this host only did that; the group for it would hold the ring up for ever."""
        if find_group(self._bus._open_handle(), self._own) is None:
            return
        before = self._join(self._own, alone=True)
        with contextlib.ExitStack() as leaving:
            leaving.callback(before.leave)
            for held in (self._taken, self._kept):  # else the other group would be told of them
                leaving.callback(held.clear)
            while events := self._received(before, self._config.window):
                self._sort(events, before)
                await self._put_taken(work, before)
                self._let_go(before)
        before.remove()

    # --- putting in ---

    async def _feed(self, work: Work, link: Link, pool: Pool) -> None:
        """What a host that only puts in does."""
        while True:
            await self._take(link, pool)
            await self._put_taken(work, pool)
            self._let_go(pool)

    async def _take(self, link: Link, pool: Pool) -> None:
        """Takes the next events, or raises LinkError when the connection is gone before there are any."""
        waiting = asyncio.ensure_future(pool.member.areceive_many(self._config.window))
        try:
            await asyncio.wait((waiting, link.ended), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                self._sort(waiting.result(), pool)
                pool.look()  # there may be no group any more
        except SegmentError as error:  # one that cannot be read is dead by now
            self._health.refused("unreadable", error.message)
        finally:
            waiting.cancel()  # nothing is in hand of whoever waits
        link.check()

    def _received(self, pool: Pool, limit: int) -> list[Event]:
        """Up to so many events that wait. One that cannot be read is dead, and counted."""
        while True:
            try:
                return pool.member.receive_many(limit, 0)
            except SegmentError as error:
                self._health.refused("unreadable", error.message)

    def _let_go(self, pool: Pool) -> None:
        """Of what no queue takes: requests, which others hear too, and what is too large, which is dead."""
        for event in self._kept:
            if isinstance(event, Request) or is_own(event.system):
                pool.member.ack(event)
            else:
                pool.member.bury(event, error="it is too large for the servers")
        self._kept.clear()

    async def _put_taken(self, work: Work, pool: Pool) -> None:
        """Puts in what was taken, and acknowledges it here once the server has it."""
        going = []
        for event in self._taken:
            outgoing = self._outgoing(event)
            if work.fits(outgoing):
                going.append((event, outgoing))
            else:
                self._health.refused("size", f"{event.path!r} of {event.system!r} is too large for the servers")
                self._kept.append(event)
        self._taken = [event for event, _ in going]
        await work.put(outgoing for _, outgoing in going)
        for event in self._taken:
            pool.member.ack(event)
        self._health.exported(len(self._taken))
        self._taken.clear()

    def _outgoing(self, event: Event) -> Outgoing:
        config, stamp = self._config, self._stamp
        headers = headers_of(event, stamp)
        headers[MESSAGE_ID] = f"{stamp.origin}/{stamp.epoch}/{event.sequence}"
        if event.deliveries > 1:
            headers[DELIVERIES] = str(event.deliveries - 1)
        subject = subject_of(config.domain, self._queue.name, stamp.origin, event.system, event.kind)
        return subject, payload_of(event), headers

    # --- serving ---

    async def _serve(self, work: Work, pool: Pool) -> None:
        """What a host does whose group does the work."""
        while True:
            seen = pool.look()
            await self._tell(work, seen)
            for raw in work.came():
                await self._take_in(work, pool, seen, raw)
                seen = seen.with_one_more()
            wanted = seen.idle - seen.waiting - work.asked
            if seen.idle and self._kept:
                pool.member.reject(self._kept.pop())
            elif wanted > 0 and not self._ends:
                await work.ask(wanted)
            elif self._is_stuck(seen):
                await self._pass_on(work, pool, seen)
            await set_within(work.news, AT_WORK if self._jobs or seen.waiting else IDLE)

    async def _tell(self, work: Work, seen: Figures) -> None:
        """Tells the server what the group is through with, and from time to time what it is not."""
        for sequence in [sequence for sequence in self._jobs if seen.has_done(sequence)]:
            self._done.append(self._jobs.pop(sequence).raw)
        if self._done:
            await work.done(self._done)
            self._done.clear()
        if self._ends and not self._jobs:
            self._wound_up.set()
        due = time.monotonic() - work.ack_wait / 3
        await work.working([job for job in self._jobs.values() if job.told < due])

    async def _take_in(self, work: Work, pool: Pool, seen: Figures, raw: Arrived) -> None:
        """Sends to the bus what came out of the queue."""
        name = self._queue.name
        try:
            job = job_of(raw, self._config.domain, name)
        except InvalidError as error:
            self._health.rejected(self.way, str(error.details["reason"]), f"a message of {self.way}: {error.message}")
            await work.drop(raw)
            return
        for sequence, known in self._jobs.items():
            if job.identity and job.identity == known.identity:  # the server had not heard of this host for too long
                self._jobs[sequence] = job
                return
        event, origin = job.message.event, job.message.origin
        if self._ends or not seen.members or not pool.hears(event.system, event.kind):
            await work.give_back(raw, LATER)
            return
        try:
            sequence = await self._bus._abring(origin, [event], None, self._config.ack_timeout)
        except (UnavailableError, InvalidError) as error:
            self._health.rejected(self.way, "refused", f"what came out of the {self.way} goes back: {error.message}")
            await work.give_back(raw, LATER)
            return
        self._jobs[sequence] = job
        self._health.imported(self.way, 1, 0, event.time)

    # --- what this host cannot do at once ---

    def _is_stuck(self, seen: Figures) -> bool:
        """Whether events have been waiting for so long while no member did."""
        now = time.monotonic()
        if seen.idle or not seen.waiting:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        return self._busy_since is not None and now - self._busy_since >= BUSY

    async def _pass_on(self, work: Work, pool: Pool, seen: Figures) -> None:
        """Puts into the queue what waits here: what others are likely to take soon, or all where nobody is left."""
        window = self._config.window
        room = window
        if seen.members:
            self._busy_since = None
            room -= await work.pending()
        if room > 0:
            pool.member.claim_at_most(room)
            self._sort(self._received(pool, room), pool)
            await self._put_taken(work, pool)
            await self._put_returning(work, pool, seen.limit)

    def _sort(self, events: list[Event], pool: Pool) -> None:
        for event in events:
            if event.sequence in self._jobs:
                self._returning.append(event)
            elif event.origin:  # of a bridge that died, or whose message is another host's by now
                pool.member.ack(event)
            else:
                stays = isinstance(event, Request) or is_own(event.system)
                (self._kept if stays else self._taken).append(event)

    async def _put_returning(self, work: Work, pool: Pool, limit: int) -> None:
        """Gives jobs to other hosts. One that was handed out here for nothing goes as a new message, with the count."""
        while self._returning:
            event = self._returning[-1]
            job = self._jobs[event.sequence]
            carried = job.carried + event.deliveries - 1
            if carried >= limit:
                pool.member.bury(event, deliveries=carried)
                self._done.append(job.raw)
            elif carried > job.carried:
                await work.put([job.again(carried)])
                pool.member.ack(event)
                self._done.append(job.raw)
            else:
                pool.member.ack(event)
                self._lost.append(job.raw)
            self._returning.pop()
            del self._jobs[event.sequence]
        await self._give_back(work)

    async def _give_back(self, work: Work) -> None:
        """Offers to other hosts what is not here any more."""
        for raw in self._lost:
            await work.give_back(raw)
        self._lost.clear()


def label_of(name: str) -> str:
    """How the bridge is called as a member of the group of a queue."""
    return f"bridge queue {name}"


def check_apart(config: Config, queue: QueueConfig) -> None:
    """Raises InvalidError where an import may bring what is the queue's."""
    mine = filters(config.domain, "*", queue.systems)
    for one in config.imports:
        theirs = filters(config.domain, "*", one.systems)
        if any(overlap(a, b) for a in mine for b in theirs):
            raise InvalidError(
                f"the queue {queue.name!r} and the import of {', '.join(map(repr, one.systems))} share systems, "
                "which this host would get twice: leave them out of one"
            )
