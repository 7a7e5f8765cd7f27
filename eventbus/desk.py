"""Desk: how answers come to those who wait for them in event loops."""

from __future__ import annotations

import asyncio
import weakref

from eventbus import _fast
from eventbus.core import native
from eventbus.errors import EventBusError
from eventbus.loop import Loop, by_clock_of, doorbell_of
from eventbus.replies import Replies

NEVER = 1 << 63


class Seat:
    """What one loop has at the desk.

    Attributes:
        looks: whether it is going to look, as soon as what is ready has run.
        due: when it looks who has no time left, in ns on the monotonic clock.
    """

    def __init__(self) -> None:
        self.looks = False
        self.due = NEVER
        self.timer: asyncio.TimerHandle | None = None


class Desk:
    """Of what one bus asks, for all loops in which somebody waits.

    Any loop that hears the doorbell receives for all of them, and for threads: one that is held up holds up nobody
    else. While a thread receives they leave it to that.
    """

    running = staticmethod(asyncio.get_running_loop)

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self._slot = replies.handle.slot
        self._doorbell = doorbell_of(replies.handle.bus)
        self._doorbell.add_desk(self)
        self._seats: dict[Loop, Seat] = {}

    def attend(self, asked: _fast.Ticket) -> None:
        """Its future will be resolved once it is answered, or has no time left."""
        loop, deadline = asked.loop, asked.deadline
        seat = self._seats.get(loop) or self._sit(loop)
        if self.replies.unattended:
            self._look_soon(loop, seat)
        if deadline != native.FOREVER and deadline < seat.due:
            self._look_by(loop, seat, deadline)

    def _sit(self, loop: Loop) -> Seat:
        for ended in [one for one in self._seats if one.is_closed()]:
            del self._seats[ended]
            self.replies.tell(ended, True)
        self._doorbell.watch(loop)
        return self._seats.setdefault(loop, Seat())

    def _look_soon(self, loop: Loop, seat: Seat) -> None:
        if not seat.looks:
            seat.looks = True
            loop.call_soon(self._look, loop, seat)

    def _look_by(self, loop: Loop, seat: Seat, deadline: int) -> None:
        if seat.timer is not None:
            seat.timer.cancel()
        seat.due = deadline
        seat.timer = loop.call_at(by_clock_of(loop, deadline), _expire, weakref.ref(self), loop)

    # --- in a loop ---

    @property
    def waits(self) -> bool:
        """Whether the doorbell tells of the next answer."""
        return self.replies.armed

    def rung(self, slots: list[int]) -> None:
        """The doorbell was rung for these, or the bus was left."""
        replies = self.replies
        if self._slot in slots or replies.unattended or replies.owes or replies.ended:
            loop = asyncio.get_running_loop()
            self._look(loop, self._seats.setdefault(loop, Seat()))

    def _look(self, loop: Loop, seat: Seat) -> None:
        """Gives out what there is, and sees to it that somebody does so with the next."""
        seat.looks = False
        try:
            came = self.replies.attend(self._lie_down, loop)
            if not came and self.replies.ended:
                self.replies.release(None)
        except (EventBusError, OSError) as error:
            self.replies.release(error)
        finally:
            if self.replies.unattended:
                self._look_soon(loop, seat)
            self._tell(loop)

    def _lie_down(self, loop: Loop) -> bool:
        return self._doorbell.lie_down(self.replies.handle, loop)

    def _tell(self, loop: Loop) -> None:
        if self.replies.tell(loop):
            for other in list(self._seats):
                if other.is_closed():
                    self.replies.tell(other, True)
                elif other is not loop:
                    other.call_soon_threadsafe(self.replies.tell, other)

    def expire(self, loop: Loop) -> None:
        """Some may have no time left."""
        seat = self._seats[loop]
        seat.timer, seat.due = None, NEVER
        self._look(loop, seat)
        due = self.replies.expire(loop)
        if due != native.FOREVER:
            self._look_by(loop, seat, due)
        self._tell(loop)


def _expire(desk: weakref.ref[Desk], loop: Loop) -> None:
    there = desk()
    if there is not None:
        there.expire(loop)
