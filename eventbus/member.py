"""A member of a group: receive, finish or give back what is in hand, bury what nobody could handle."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from eventbus.awaiting import check_limit
from eventbus.core import native
from eventbus.core.reader import BATCH_LIMIT, EXHAUSTED, SubscriptionHandle
from eventbus.delays import checked_delay
from eventbus.errors import ClosedError, InvalidError, SegmentError, UnavailableError
from eventbus.event import Event, Unreadable
from eventbus.group import MAX_DELIVERIES, find_group
from eventbus.letters import DEAD_SYSTEM, letter_of
from eventbus.request import Answering, Request
from eventbus.subscription import Subscription

LETTER_SECONDS = 5.0
"""How long a member that leaves waits for room for a dead letter."""

_log = logging.getLogger("eventbus")

T = TypeVar("T")


class Member(Subscription):
    """A subscription that shares its group's events with the other members.

    Asking for the next event acknowledges the one before, and only one thread at a time may work with it. With
    ``ack="manual"`` nothing but ``ack`` and ``reject`` finishes an event: in any order, by any thread. Left by an
    exception, or by the end of the process, it gives back what it has in hand. An event that cannot be read is sent as
    ``eventbus.dead`` / ``exhausted`` before its error is raised, and is done with: no other member could read it.
    """

    _in_group = True

    def __init__(
        self,
        handle: SubscriptionHandle,
        name: str,
        hears: Callable[[str, str], bool],
        bus: Answering,
        group: str,
        prefetch: int,
        manual: bool,
        views: bool,
        *,
        post: Callable[[str, dict[str, Any], bool], object],
    ) -> None:
        super().__init__(handle, name, hears, bus, views)
        self._group = group
        self.claim_at_most(prefetch)
        self._manual = manual
        self._asks = True
        self._post = post
        self._letters: deque[tuple[str, dict[str, Any]]] = deque()  # dead letters that found no room yet

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more: what other members hold on a bus that was shut down may come back."""
        handle = self._handle
        if super().closed:
            return self._ended or handle is None or not self._others_hold(handle)
        return handle is not None and handle.group_gone

    @property
    def max_deliveries(self) -> int:
        """How often its group hands an event out, as of now."""
        there = self._subscription.bus.max_deliveries(self._group)
        return MAX_DELIVERIES if there is None else there

    def _others_hold(self, handle: SubscriptionHandle) -> bool:
        mine = find_group(handle.bus, self._group)
        return mine is not None and any(claim.slot != handle.slot for claim in mine.claims)

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """The next 1 to ``limit`` events of one claim, at most ``prefetch``, after acknowledging those before.

        They are in hand together.
        """
        check_limit(limit)
        deadline = native.deadline_after(timeout)
        self._ask()
        while self._begins() and self._fill(deadline):
            for events in map(self._ready.take, (limit,), ([],)):
                if events:
                    return events
        return []

    def take(self, read: Callable[[Event], T], limit: int = 1, timeout: float | None = None) -> Iterator[list[T]]:
        """Iterated, what ``read`` makes of the next 1 to ``limit`` events of one claim, acknowledged with that.

        For ``ack="auto"``, by any thread. Where ``read`` or a signal handler raises, all of them are given back
        instead. By a loop nothing is lost, as may be by ``next``: a signal handler may raise as a call returns.

        Args:
            timeout: seconds from now; the iterator ends when they are over, or the subscription has ended.
        """
        check_limit(limit)
        return self._taking(read, min(limit, BATCH_LIMIT), native.deadline_after(timeout))

    def _begins(self) -> bool:
        self._retry_letters()
        if self._ended:
            self._live_handle()
        return not self._ended

    def _settle(self, handle: SubscriptionHandle, status: int) -> bool:
        if status == native.BUSY:
            pid = handle.keeper
            raise UnavailableError(
                f"process {pid} keeps the lock of the group {self._group!r} of {handle.bus.what}, it may be stopped; "
                "try again, or end it",
                pid=pid,
                group=self._group,
            )
        if status != EXHAUSTED:
            return super()._settle(handle, status)
        self._drop_exhausted(handle)
        return True

    # --- dead letters ---

    def _drop_exhausted(self, handle: SubscriptionHandle) -> None:
        """Sends it on as dead; until then it stays the group's."""
        deliveries, sequence = int(handle.batch.deliveries[0]) - 1, int(handle.batch.sequence[0])
        try:
            (event,) = self._unpack(handle)
            more: dict[str, Any] = {"deliveries": deliveries}
            if isinstance(event, Unreadable):
                event, more["error"] = event
            self._send_dead(event, more)
        except BaseException:
            self._give_back(handle, 0, sequence)
            raise
        self._bury(handle, sequence)
        if isinstance(event, Request):
            self._tell(event, "Exhausted", f"it was delivered {deliveries} times, and no member lived to handle it")

    def _refused(self, handle: SubscriptionHandle, unreadable: Unreadable) -> SegmentError:
        """No further delivery would make it readable, so it is dead with the first."""
        error = super()._refused(handle, unreadable)
        self._send_dead(unreadable.event, {"error": unreadable.why})
        return error

    def bury(self, event: Event, **more: Any) -> None:
        """Sends the event in hand as ``eventbus.dead`` / ``exhausted``, and acknowledges it.

        Args:
            event: one that is in hand.
            more: what the letter's data say beside the event itself.
        """
        with self._receiving:
            handle = self._live_handle()
            if handle is not None and (self._manual or self._ready.unfinished):
                self._send_dead(event, more)
                self._bury(handle, event.sequence)

    def _send_dead(self, event: Event, more: dict[str, Any]) -> None:
        if event.system != DEAD_SYSTEM:
            self._letters.append((event.path, {**letter_of(event, self._group), **more}))
            self._send_letters(patient=False)

    def _retry_letters(self) -> None:
        """Whoever asks for the next events sends first what found no room before."""
        if self._letters:
            with self._receiving:
                self._send_letters(patient=False)

    def _send_letters(self, patient: bool) -> None:
        """Never waits while it holds a claim: a full ring may be waiting for just that claim. Until there is room the
        letters wait here, which is where a kill could lose them; so they are told to the log as well."""
        while self._letters:
            first = self._letters[0]
            path, letter = first
            try:
                self._post(path, letter, patient)
            except UnavailableError as error:
                if not letter.get("late"):
                    _log.warning("a dead letter waits for room: %s; it is %r", error.message, letter)
                letter["late"] = True
                return
            except InvalidError as error:
                _log.error("a dead letter cannot be sent whole: %s; it is %r", error.message, letter)
                if "data" in letter:
                    self._letters.append((path, {key: letter[key] for key in letter if key != "data"}))
            except (ClosedError, SegmentError) as error:
                _log.error("a dead letter cannot be sent any more: %s; it is %r", error.message, letter)
            if self._letters and self._letters[0] is first:  # else a destructor has sent them meanwhile
                self._letters.popleft()

    # --- done, not done, leaving ---

    def ack(self, event: Event | None = None) -> None:
        """Acknowledges what is in hand at once, or this event of it; nothing when nothing is in hand.

        Raises:
            InvalidError: the event is not in hand; with ``ack="manual"``, no event is named.
            ClosedError: the member has left, and given back what it had in hand.
        """
        if event is not None:
            handle = self._handle
            self._release(event.sequence)
            if handle is None or (status := handle.ack_event(event.sequence)) != 0:
                self._unsettled(event, handle, native.CLOSED if handle is None else status)
            return
        if self._manual:
            raise InvalidError("with ack='manual' say which event is done: ack(event)")
        with self._receiving:
            handle = self._live_handle()
            if handle is not None:
                self._release(0)
                self._acknowledge(handle)

    def reject(self, event: Event | None = None, delay: float = 0.0) -> None:
        """Gives back what is in hand, with what was fetched after it, or this event of it; nothing when nothing is.

        What was handed out is delivered again, counted, ``delay`` seconds later or after.

        Raises:
            InvalidError: the event is not in hand; ``delay`` is no number from 0 to a year.
            ClosedError: as ``ack``.
        """
        later = round(checked_delay(delay) * 1e9)
        if event is not None:
            handle = self._handle
            self._release(event.sequence)
            if handle is None or (status := handle.reject_event(event.sequence, later)) != 0:
                self._unsettled(event, handle, native.CLOSED if handle is None else status)
            return
        with self._receiving:
            handle = self._live_handle()
            if handle is not None and (self._manual or self._ready.unfinished):
                self._release(0)
                self._give_back(handle, later, 0)

    def _unsettled(self, event: Event, handle: SubscriptionHandle | None, status: int) -> None:
        """Why an event could not be finished by itself."""
        if self._live_handle() is None or handle is None:
            raise ClosedError(f"the member {self._name!r} has left, and what it had in hand was given back")
        if status == native.NOTHING:
            raise InvalidError(
                f"event {event.sequence} is not in hand of the member {self._name!r}: it was acknowledged or given "
                "back before, or never received by this one",
                sequence=event.sequence,
            )
        if status == native.CLOSED:
            self._ended = True
        else:
            handle.checked(status)

    def claim_at_most(self, prefetch: int) -> None:
        """From now on no more than so many are in hand at once."""
        self._limit = min(prefetch, BATCH_LIMIT)

    def stop(self) -> None:
        """From now on ``receive`` returns None, also one that waits; a signal handler may call this."""
        self._ended = True
        self._subscription.interrupt()

    def stop_awaiting(self) -> None:
        """``stop``, also for whoever waits in an event loop; it is called in that."""
        self.stop()
        if self._doorbell is not None:
            self._doorbell.next(self._subscription, last=True)

    def resume(self) -> None:
        """Receives on after the end of a bus that was shut down: what was in hand then may be to be had again."""
        self._ended = False

    def close(self) -> None:
        """Acknowledges what is in hand, unless each event is finished by itself; gives the rest back, and leaves."""
        self.leave(True)

    def leave(self, handled: bool) -> None:
        """Closes; what is in hand is acknowledged if it was ``handled``, else given back."""
        if self._subscription.inherited:
            self._letters.clear()  # the parent sends them itself
        try:
            self.stop()
            if handled and self._handle is not None:
                self._acknowledge(self._handle)
        finally:
            super().close()
            self._send_letters(patient=True)

    async def _aleave(self, handled: bool) -> None:
        if self._letters:  # for which it waits
            from eventbus.loop import in_thread

            await in_thread(self.leave, handled)
        else:
            self.leave(handled)

    def process_ends(self) -> None:
        """What is in hand is given back, where it stands in the way of letters that are still to be sent."""
        if self._letters:
            self.reject()
            self._send_letters(patient=True)
