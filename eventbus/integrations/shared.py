"""Channels that workers share: each message goes to one of those who receive, and waits until somebody does."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from eventbus import Bus, FullError, Subscription

_LABEL_LIMIT = 63  # bytes of the name of a group of the bus
_FOR_EVER = (1 << 31) - 1  # deliveries: what is given back only was looked at
_ALL = 256  # events that one member can have in hand


class Shared:
    """The channels without a ``!`` in their names, each a group of the bus. This process is a member of those that it
    has sent to or received from: to receive, to count what waits, and to drop what has expired."""

    def __init__(self, bus: Bus, prefix: str, expiry: float, capacity_of: Callable[[str], int]) -> None:
        self._bus = bus
        self._prefix = prefix
        self._system = f"{prefix}.shared"
        self._expiry = round(expiry * 1e9)
        self._capacity_of = capacity_of
        self._members: dict[str, Subscription] = {}
        self._given_back: dict[str, int] = {}  # what waits for a channel beside its backlog, when last looked at
        self._joining = threading.RLock()

    async def join(self, channel: str) -> Subscription:
        """The member for this channel, whose group is made if there is none."""
        member = self._members.get(channel)
        if member is None or member.closed:
            # In a thread: where somebody keeps the lock that this takes, the event loop goes on.
            return await asyncio.get_running_loop().run_in_executor(None, self._join, channel)
        return member

    def _join(self, channel: str) -> Subscription:
        with self._joining:
            member = self._members.get(channel)
            if member is None or member.closed:
                kind, label = _kind_of(channel), self._label_of(channel)
                self._bus.group(label, self._system, kind, max_deliveries=_FOR_EVER)
                member = self._bus.subscribe(self._system, kind, group=label, ack="manual", name=label)
                self._members[channel] = member
            return member

    async def put(self, channel: str, data: bytes) -> bool:
        """Whether there was room for it."""
        if self._is_full(channel, await self.join(channel)):
            return False
        event = (self._system, _kind_of(channel), channel, data)
        try:
            try:
                await self._bus.asend(*event, timeout=0)
            except FullError:
                self.make_room()
                await self._bus.asend(*event)
        except FullError:
            return False
        return True

    def put_now(self, channel: str, data: bytes) -> bool:
        """``put`` of a channel that was joined, which waits for nothing."""
        if self._is_full(channel, self._members[channel]):
            return False
        try:
            return self._bus.send(self._system, _kind_of(channel), channel, data, timeout=0)
        except FullError:
            return False

    async def take(self, channel: str) -> bytes | None:
        """The next message for it; None at the end of the bus. It is given to nobody else, whatever becomes of it."""
        member = await self.join(channel)
        while (event := await member.areceive()) is not None:
            member.ack(event)
            if event.time + self._expiry > time.time_ns():
                return bytes(event.data)
        return None

    def make_room(self) -> None:
        """Drops what has expired of all shared channels; the rest leaves the ring's way as it is given back."""
        for member in self._looked_at():
            for event in member.receive_many(_ALL, 0):
                if event.time + self._expiry > time.time_ns():
                    member.reject(event)
                else:
                    member.ack(event)

    def clear(self) -> None:
        """Drops what waits for all shared channels."""
        for member in self._looked_at():
            while events := member.receive_many(_ALL, 0):
                for event in events:
                    member.ack(event)
        self._given_back.clear()

    def close(self) -> None:
        """Leaves them."""
        while self._members:
            self._members.popitem()[1].close()

    def _is_full(self, channel: str, member: Subscription) -> bool:
        """Counts first what can be counted at no cost, which may be one too few for each process that looked before."""
        capacity = self._capacity_of(channel)
        if member.backlog + self._given_back.get(channel, 0) < capacity:
            return False
        while (event := member.receive(0)) is not None:
            if event.time + self._expiry > time.time_ns():
                member.reject(event)
                break
            member.ack(event)
        label = self._label_of(channel)
        group = next(group for group in self._bus.stats().groups if group.name == label)
        self._given_back[channel] = group.returned
        return group.backlog + group.returned >= capacity

    def _looked_at(self) -> Iterator[Subscription]:
        """A member of each group of shared channels for which something waits, for as long as it takes to look."""
        for one in self._bus.stats().groups:
            if one.system == self._system and one.backlog + one.returned:
                options: dict[str, Any] = {"group": one.name, "ack": "manual", "prefetch": _ALL}
                with self._bus.subscribe(one.system, one.kind, **options) as member:
                    yield member

    def _label_of(self, channel: str) -> str:
        label = f"{self._prefix}:{channel}"
        if len(label.encode()) <= _LABEL_LIMIT:
            return label
        digest = hashlib.blake2b(label.encode(), digest_size=8).hexdigest()
        return f"{label.encode()[: _LABEL_LIMIT - 17].decode(errors='ignore')}~{digest}"


def _kind_of(channel: str) -> str:
    """A name of one segment: a channel may have dots anywhere, and has no colon."""
    return channel.replace(".", ":")
