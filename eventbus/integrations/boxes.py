"""Boxes: what waits for the channels of one process, who waits for it, and the groups that the channels are in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

Waiter = asyncio.Future[None]


class Box:
    """What waits for one channel, with the time in ns since 1970 at which it expires; and who waits for more."""

    __slots__ = ("entries", "waiters")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, bytes]] = deque()
        self.waiters: deque[Waiter] = deque()

    def expire(self, now: int) -> None:
        """Drops what has waited too long."""
        while self.entries and self.entries[0][0] <= now:
            self.entries.popleft()

    def wake(self) -> None:
        """The one who has waited longest looks."""
        while self.waiters and not _tell(self.waiters.popleft()):
            pass


class Boxes:
    """Those of one process. Whoever calls stands within ``lock``."""

    def __init__(self, expiry: float, group_expiry: float, capacity_of: Callable[[str], int]) -> None:
        """
        Args:
            expiry: seconds that a message waits at most.
            group_expiry: seconds that a channel is in a group at most, since it was last added.
            capacity_of: how many messages may wait for a channel.
        """
        self.lock = threading.RLock()
        self._expiry = round(expiry * 1e9)
        self._group_expiry = group_expiry
        self._capacity_of = capacity_of
        self._boxes: dict[str, Box] = {}
        self._groups: dict[str, dict[str, float]] = {}  # when each of its channels expires, on the monotonic clock
        self._swept = time.monotonic()

    # --- channels ---

    def put(self, channel: str, data: bytes, sent: int) -> bool:
        """Whether there was room for what was sent at that time, in ns since 1970."""
        box = self._boxes.get(channel) or self._boxes.setdefault(channel, Box())
        now = time.time_ns()
        box.expire(now)
        if len(box.entries) >= self._capacity_of(channel):
            return False
        if sent + self._expiry > now:
            box.entries.append((sent + self._expiry, data))
            box.wake()
        return True

    def take(self, channel: str) -> bytes | None:
        """What has waited longest for it, if something does."""
        box = self._boxes.get(channel)
        if box is None:
            return None
        box.expire(time.time_ns())
        data = box.entries.popleft()[1] if box.entries else None
        if data is None and not box.waiters:
            del self._boxes[channel]
        return data

    def wait(self, channel: str) -> Waiter:
        """What to await until it is worth looking again; then, and if that was cancelled, ``leave``."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        (self._boxes.get(channel) or self._boxes.setdefault(channel, Box())).waiters.append(waiter)
        return waiter

    def leave(self, channel: str, waiter: Waiter, gave_up: bool) -> None:
        """Waits no more; the next one looks in place of one who gave up."""
        box = self._boxes.get(channel)
        if box is None:
            return
        if waiter in box.waiters:
            box.waiters.remove(waiter)
        elif gave_up and box.entries:
            box.wake()
        if not box.entries and not box.waiters:
            del self._boxes[channel]

    def wake_all(self) -> None:
        """Whoever waits looks: nothing more may come."""
        for box in self._boxes.values():
            while box.waiters:
                _tell(box.waiters.popleft())

    def clear(self) -> None:
        """No message and no group is left; who waits, waits on."""
        self._groups.clear()
        for box in self._boxes.values():
            box.entries.clear()

    # --- groups ---

    def add(self, group: str, channel: str) -> None:
        """The channel is in the group from now on."""
        self._groups.setdefault(group, {})[channel] = time.monotonic() + self._group_expiry

    def discard(self, group: str, channel: str) -> None:
        """The channel is not in the group, if it was."""
        members = self._groups.get(group)
        if members is not None:
            members.pop(channel, None)
            if not members:
                del self._groups[group]

    def members(self, group: str) -> list[str]:
        """The channels of a group that have not expired."""
        members = self._groups.get(group)
        if members is None:
            return []
        now = time.monotonic()
        expired = [channel for channel, until in members.items() if until <= now]
        for channel in expired:
            self.discard(group, channel)
        return list(members)

    def sweep(self) -> None:
        """Forgets, now and then, channels that nobody receives from any more: whose last message has expired. They
        leave their groups, too."""
        now = time.monotonic()
        if (now - self._swept) * 1e9 < self._expiry:
            return
        self._swept = now
        for channel in list(self._gone(time.time_ns())):
            del self._boxes[channel]
            for group in list(self._groups):
                self.discard(group, channel)

    def _gone(self, now: int) -> Iterator[str]:
        for channel, box in self._boxes.items():
            if not box.waiters and (not box.entries or box.entries[-1][0] <= now):
                yield channel


def _tell(waiter: Waiter) -> bool:
    """Whether it will look: its loop runs, and it was neither told before nor cancelled."""
    loop = waiter.get_loop()
    if waiter.done() or loop.is_closed():
        return False
    if loop is asyncio._get_running_loop():
        waiter.set_result(None)
        return True
    try:
        loop.call_soon_threadsafe(_settle, waiter)
    except RuntimeError:  # closed meanwhile
        return False
    return loop.is_running()


def _settle(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
