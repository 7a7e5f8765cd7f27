"""Mail: the one subscription by which a process hears of its groups and of its own channels, in any event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
import zlib

from eventbus import Bus, Event, SegmentError, Subscription
from eventbus.integrations.boxes import Boxes
from eventbus.integrations.shared import Shared

ALL = "all"
"""The kind of what every process hears."""

Loop = asyncio.AbstractEventLoop

_BATCH, _TURNS = 256, 4  # events that are taken at once, and how often before others in the loop run
_KINDS = 64  # topics are for ever, and clients come and go: some share one, and pass over what is for the other

_log = logging.getLogger("eventbus")


class Mail:
    """What comes for one process by a bus, and goes into the boxes of its channels.

    Attributes:
        bus: by which it comes.
        boxes: where it goes.
        shared: the channels that other processes have, too.
        client: what the names of this process's own channels have before the ``!``.
        left: set by whoever wants no more of it.
    """

    def __init__(self, bus: Bus, prefix: str, boxes: Boxes, shared: Shared, client: str) -> None:
        self.bus = bus
        self.boxes = boxes
        self.shared = shared
        self.client = client
        self.left = False
        self.heard = False  # whether it ever had a subscription
        self._group_system, self._local_system = f"{prefix}.group", f"{prefix}.local"
        self._pid = os.getpid()
        self._sub: Subscription | None = None
        self._armed = False
        self._loops: weakref.WeakSet[Loop] = weakref.WeakSet()  # that are told when something comes
        self._going: Loop | None = None  # that takes more in its next turn

    @property
    def mine(self) -> bool:
        """Whether it is of this process, and not of the one that this was forked from."""
        return self._pid == os.getpid()

    @property
    def usable(self) -> bool:
        """Whether it is of this process, and its bus is still there."""
        return self._pid == os.getpid() and not self.left and not self.bus.closed

    async def begin(self) -> None:
        """Once this has returned nothing is missed that is sent to groups and channels of this process."""
        if (sub := self._sub) is None:
            sub = self.subscribe()
        await sub.__aenter__()  # where somebody keeps a lock, it is not yet one

    def subscribe(self) -> Subscription:
        """Its subscription, made if there is none."""
        with self.boxes.lock:
            if self._sub is None:
                systems, kinds = [self._group_system, self._local_system], [ALL, kind_of(self.client)]
                self._sub = self.bus.subscribe(systems, kinds, overflow="drop", name=f"channels:{self.client}")
                self.heard = True
            return self._sub

    async def next(self, channel: str) -> bytes | None:
        """The next message for one of its channels; None when no more will come by this bus."""
        self.watch()
        while True:
            with self.boxes.lock:
                data = self.boxes.take(channel)
                if data is not None or not self.usable:
                    return data
                waiter = self.boxes.wait(channel)
            gave_up = True
            try:
                await waiter
                gave_up = False
            finally:
                with self.boxes.lock:
                    self.boxes.leave(channel, waiter, gave_up)

    def watch(self) -> None:
        """The running event loop is told of what comes, from now on."""
        with self.boxes.lock:
            loop = asyncio.get_running_loop()
            if loop not in self._loops and self._sub is not None and not self._sub.closed:
                loop.add_reader(self._sub.fileno(), self._told)
                self._loops.add(loop)
            if not self._armed:
                self.look()

    def look(self) -> None:
        """Takes what has come, and is told of what comes next; after much, others in the loop run first."""
        with self.boxes.lock:
            for _ in range(_TURNS):
                if not self._take() and self._lies_down():
                    return
            if self._going is None or not self._going.is_running():
                self._going = asyncio.get_running_loop()
                self._going.call_soon(self._go_on)

    def close(self) -> None:
        """Hears no more; who waits looks, and finds that."""
        with self.boxes.lock:
            if self.mine:
                self._end()
                self.shared.close()

    # --- event loops ---

    def _told(self) -> None:
        with self.boxes.lock:
            if self._sub is not None:
                self.look()

    def _go_on(self) -> None:
        self._going = None
        self._told()

    def _lies_down(self) -> bool:
        """Whether the loops will be told; False when there is something to take first."""
        if self._sub is None or self._sub.closed:
            self._end()
            return True
        self._armed = self._sub.arm()
        return self._armed

    def _end(self) -> None:
        """Nothing comes any more."""
        for loop in list(self._loops):
            if loop.is_closed():
                self._loops.discard(loop)
            elif loop is asyncio._get_running_loop() or not loop.is_running():
                self._unwatch(loop)
            else:
                loop.call_soon_threadsafe(self._unwatch, loop)
        self._close_unwatched()
        self.boxes.wake_all()

    def _unwatch(self, loop: Loop) -> None:
        with self.boxes.lock:
            if self._sub is not None and loop in self._loops:
                loop.remove_reader(self._sub.fileno())
            self._loops.discard(loop)
            self._close_unwatched()

    def _close_unwatched(self) -> None:
        """Not before no loop watches its descriptor, whose number the next one may have."""
        if not self._loops and self._sub is not None:
            self._sub.close()
            self._sub = None

    # --- what comes ---

    def _take(self) -> bool:
        """Puts the next events into boxes; whether there may be more of them at once."""
        if self._sub is None:
            return False
        self._armed = False
        try:
            events = self._sub.receive_many(_BATCH, 0)
        except SegmentError as error:
            if "sequence" not in error.details:
                raise
            _log.warning("passed over what is no message of a channel: %s", error.message)
            return True
        for event in events:
            self._put(event)
        self.boxes.sweep()
        return len(events) == _BATCH

    def _put(self, event: Event) -> None:
        data = event.data
        if event.system == self._group_system:
            self._put_to_group(event.path, data, event.time)
        elif event.kind == ALL:
            self.boxes.clear()
        elif client_of(event.path) != self.client:
            return
        elif isinstance(data, bytes):
            if not self.boxes.put(event.path, data, event.time):
                _log.info("channel %s over capacity", event.path)
        elif isinstance(data, dict):
            for group in data.get("add", ()):
                self.boxes.add(group, event.path)
            for group in data.get("discard", ()):
                self.boxes.discard(group, event.path)

    def _put_to_group(self, group: str, data: bytes, sent: int) -> None:
        channels = self.boxes.members(group)
        full = 0
        for channel in channels:
            if "!" in channel:
                full += not self.boxes.put(channel, data, sent)
            else:
                full += not self.shared.put_now(channel, data)
        if full:
            _log.info("%s of %s channels over capacity in group %s", full, len(channels), group)


def client_of(channel: str) -> str:
    """Whose channel it is: ``client`` of its process, ``""`` of one that workers share."""
    before, mark, _ = channel.partition("!")
    return before.rpartition(".")[2] if mark else ""


def kind_of(client: str) -> str:
    """The kind of what is for a process."""
    return f"to{zlib.crc32(client.encode()) % _KINDS}"
