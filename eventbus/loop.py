"""How a flow waits in an event loop: for a subscription by the doorbell of its bus, or for a moment."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from eventbus import _fast
from eventbus.core import native
from eventbus.core.attachment import Attachment
from eventbus.core.bell import Bell
from eventbus.core.reader import SubscriptionHandle

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02
"""Seconds between two tries of what no doorbell tells: that a lock is free, or that there is room in a full ring."""

Loop = asyncio.AbstractEventLoop


class Desk(Protocol):
    """What receives for many, in whichever loop hears that there is something."""

    @property
    def waits(self) -> bool:
        """Whether it has lain down."""

    def rung(self, slots: list[int]) -> None:
        """The bell was rung, for these."""


class Look(NamedTuple):
    """When a loop looks by itself, in ns on the monotonic clock."""

    until: int
    handle: asyncio.Handle | None

    def cancel(self) -> None:
        """It looks no more."""
        if self.handle is not None:
            self.handle.cancel()


NO_LOOK = Look(sys.maxsize, None)


_fast.bind_doorbell(
    native.address_of("eb_bell_told"),
    native.address_of("eb_bell_still"),
    asyncio._get_running_loop,
    asyncio.current_task,
    asyncio.CancelledError,
)


class Doorbell(_fast.Doorbell):
    """Who waits in which event loop for which subscription of one bus; each of these loops watches the bell."""

    def __init__(self, bus: Attachment) -> None:
        self._bus = weakref.ref(bus, self.close)
        self._bell = Bell(bus)
        self._address = self._bell.address
        self._waiting = {}
        self._loops: dict[Loop, Look] = {}
        self._desks: list[weakref.ref[Desk]] = []
        self._pauses: dict[int, Pauses] = {}  # by slots, of those that are told to look and find nothing

    def wait(self, sub: SubscriptionHandle, deadline: int, again: bool) -> _fast.Waiter:
        """What a task of the running loop is to await until there may be something to receive, or the deadline.

        Args:
            again: whether it has waited before, and found nothing then: where the bell cannot tell, the pauses grow.

        Nothing is in hand then: who is cancelled loses no event. Whoever is told by its timer, or gives up, calls
        ``leave``; and ``next`` whoever waits no more: others may wait for the same subscription.
        """
        loop = asyncio.get_running_loop()
        waiter = _fast.Waiter(loop)
        waiter.queue = self._waiting.setdefault(sub.slot, deque())
        waiter.queue.append(waiter)
        try:
            if not again:
                self._pauses.pop(sub.slot, None)
            if (until := sub.arm()) is not None:
                self._pauses.pop(sub.slot, None)
                if deadline != native.FOREVER:
                    waiter.timer = loop.call_at(by_clock_of(loop, deadline), waiter.tell)
                self._look_by(loop, until)
            else:
                pauses = self._pauses.setdefault(sub.slot, Pauses(native.FOREVER))
                waiter.timer = loop.call_later(pauses.take(), waiter.tell)
        except BaseException:
            self.leave(sub, waiter, gave_up=True)
            raise
        return waiter

    def leave(self, sub: SubscriptionHandle, waiter: _fast.Waiter, gave_up: bool) -> None:
        """It waits no more."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter in waiter.queue:
            waiter.queue.remove(waiter)
        if gave_up and not waiter.queue:
            sub.disarm()

    def next(self, sub: SubscriptionHandle, last: bool = False) -> None:
        """Somebody waits no longer for what the subscription is told: of those who are left, the one who has waited
        longest looks, and waits on for all; or all look, if it was the end."""
        self._tell(sub.slot, last)

    def _tell(self, slot: int, all_of_them: bool = False) -> None:
        waiting = self._waiting.get(slot)
        while waiting:
            if _tell(waiting.popleft()) and not all_of_them:
                return

    def add_desk(self, desk: Desk) -> None:
        """It is told, too, whenever the bell is heard, and lies down by itself."""
        self._desks.append(weakref.ref(desk))

    def lie_down(self, sub: SubscriptionHandle, loop: Loop) -> bool:
        """From now on the bell tells of the next event, unless there may be one already."""
        until = sub.arm()
        if until is not None:
            self._look_by(loop, until)
        return until is not None

    # --- the loops ---

    def watch(self, loop: Loop) -> None:
        """From now on the loop hears the bell."""
        if loop not in self._loops:
            for ended in [one for one in list(self._loops) if one.is_closed()]:  # other threads' loops come and go
                self._loops.pop(ended, None)
            loop.add_reader(self._bell.fd, self._rung)
            self._loops[loop] = NO_LOOK

    def _look_by(self, loop: Loop, until: int) -> None:
        """From now on the loop hears the bell; it looks by itself then, if not before."""
        self.watch(loop)
        look = self._loops[loop]
        if look.until > until:
            look.cancel()
            self._loops[loop] = Look(until, loop.call_at(by_clock_of(loop, until), self._look, loop))

    def _told(self, slots: list[int]) -> None:
        for slot in slots:
            self._tell(slot)
        self._tell_desks(slots)

    def _tell_desks(self, slots: list[int]) -> None:
        for reference in self._desks:
            if (desk := reference()) is not None:
                desk.rung(slots)

    def _look(self, loop: Loop) -> None:
        bus = self._bus()
        if loop in self._loops:
            self._loops[loop] = NO_LOOK
        desks = [desk for reference in self._desks if (desk := reference()) is not None]
        waits = any(self._waiting.values()) or any(desk.waits for desk in desks)
        if bus is None or not waits:
            return
        slots, again = self._bell.look(bus)
        self._look_by(loop, again)
        self._told(slots)

    def close(self, _: object = None) -> None:
        """The bus was left: whoever waits is to see that, and the loops watch no longer."""
        self._bus = _nothing  # the reference keeps this method, and that the descriptor
        for slot in list(self._waiting):
            self._tell(slot, all_of_them=True)
        while self._loops:
            loop, look = self._loops.popitem()
            if loop is _running():
                self._unwatch(loop, look)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(self._unwatch, loop, look)

    def _unwatch(self, loop: Loop, look: Look) -> None:
        look.cancel()
        loop.remove_reader(self._bell.fd)
        self._tell_desks([])


def _nothing() -> None:
    """What was left."""


def _running() -> Loop | None:
    """The loop that runs in this thread."""
    return asyncio._get_running_loop()


def _tell(waiter: _fast.Waiter) -> bool:
    """Whether it will look: its loop runs, and it was neither told before nor cancelled."""
    loop = waiter.get_loop()
    if waiter.done() or loop.is_closed():
        return False
    if loop is _running():
        waiter.tell()
        return True
    loop.call_soon_threadsafe(waiter.tell)
    return loop.is_running()


def by_clock_of(loop: Loop, moment: int) -> float:
    """A moment in ns on the monotonic clock, by the clock of the loop."""
    return loop.time() + (moment - time.monotonic_ns()) / 1e9


# --- one for each bus ---

_doorbells: weakref.WeakKeyDictionary[Attachment, Doorbell] = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_doorbells.clear)  # a child makes its own


def doorbell_of(bus: Attachment) -> Doorbell:
    """That of this process for the bus.

    Raises:
        ClosedError: the bus is closed here.
        OSError: no descriptor is left for it.
    """
    found = _doorbells.get(bus)
    if found is None:
        found = _doorbells.setdefault(bus, Doorbell(bus))
    return found


def leave(bus: Attachment) -> None:
    """Whoever waits on the bus finds it left."""
    doorbell = _doorbells.pop(bus, None)
    if doorbell is not None:
        doorbell.close()


# --- the flows' ways to wait ---


class Pauses:
    """Pauses between tries, each twice as long as the one before."""

    def __init__(self, deadline: int) -> None:
        self._deadline = deadline
        self._next = 0.0  # others in the loop run first

    async def pause(self) -> bool:
        """False when the deadline is over: then the try was the last one."""
        if native.is_over(self._deadline):
            return False
        await asyncio.sleep(self.take())
        return True

    def take(self) -> float:
        """The next one, in seconds, if there is so much left."""
        pause = self._next
        self._next = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
        return pause if self._deadline == native.FOREVER else min(pause, native.seconds_left(self._deadline))


class Turns:
    """The order of those who try the same thing again and again, for each loop."""

    def __init__(self) -> None:
        self._locks: weakref.WeakKeyDictionary[Loop, asyncio.Lock] = weakref.WeakKeyDictionary()

    def mine(self) -> asyncio.Lock:
        """What whoever tries stands within."""
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    @property
    def taken(self) -> bool:
        """Whether somebody of the running loop tries, whom nobody else of it may overtake."""
        return self.mine().locked()


async def in_thread(call: Callable[..., object], *arguments: object) -> None:
    """What waits for other processes, and cannot be parted."""
    await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


async def through(attempt: Callable[[], int], deadline: int) -> int:
    """The status of what is tried again while there is no room, or somebody keeps a lock, until the deadline."""
    pauses = Pauses(deadline)
    while (status := attempt()) in (native.FULL, native.BUSY, native.INTERRUPTED) and await pauses.pause():
        pass
    return status
