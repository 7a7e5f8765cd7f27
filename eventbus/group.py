"""Groups: make one, be a member of one, bury what nobody could handle."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from eventbus.core import native
from eventbus.core.attachment import Attachment, Group
from eventbus.core.reader import BATCH_LIMIT, EXHAUSTED, LATEST, SubscriptionHandle, ahead
from eventbus.errors import (
    ClosedError,
    InvalidError,
    SegmentError,
    SubscribersFullError,
    UnavailableError,
)
from eventbus.event import Event, Unreadable
from eventbus.request import Answer, Request
from eventbus.subscription import Subscription


class _LeftOut(int):
    """A default that is told apart from the same number given: an existing group keeps what it has."""


MAX_DELIVERIES: Final[int] = _LeftOut(5)
LETTER_SECONDS = 5.0
"""How long a member that leaves waits for room for a dead letter."""
DEAD_SYSTEM, DEAD_KIND = "eventbus.dead", "exhausted"

_TRIES = 100  # at a group that others remove, and make with other patterns, at the same time

_log = logging.getLogger("eventbus")


def checked_limit(max_deliveries: int) -> int:
    """``max_deliveries`` if it can be one; 0 if it was left out."""
    if isinstance(max_deliveries, _LeftOut):
        return 0
    if isinstance(max_deliveries, bool) or not isinstance(max_deliveries, int) or not 1 <= max_deliveries < 1 << 31:
        raise InvalidError(f"max_deliveries must be an int from 1, not {max_deliveries!r}", max=max_deliveries)
    return max_deliveries


def checked_prefetch(prefetch: int, overflow: str) -> int:
    """``prefetch`` if it can be one, of a member that is lossless."""
    if overflow != "block":
        raise InvalidError("a group is lossless: leave overflow out", overflow=overflow)
    if isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch < 1:
        raise InvalidError(f"prefetch must be an int of at least 1, not {prefetch!r}", prefetch=prefetch)
    return prefetch


def find_group(bus: Attachment, name: str) -> Group | None:
    """The group of this name, if there is one."""
    return next((group for group in bus.groups() if group.name == name), None)


def make_group(bus: Attachment, name: str, system: str, kind: str, start: int, max_deliveries: int) -> None:
    """Makes the group, or gives the one of the name another ``max_deliveries``, unless that is 0.

    Raises:
        InvalidError: there is one with other patterns; ``start`` comes after the next sequence.
        SubscribersFullError: no slot or no group is left.
    """
    for _ in range(_TRIES):
        number = bus.group_create(name, system, kind, start, max_deliveries)
        there = find_group(bus, name) if number == native.CONFLICT else None
        if there is not None and (there.system, there.kind) != (system, kind):
            raise InvalidError(
                f"the group {name!r} hears system {there.system!r} and kind {there.kind!r}; {system!r} and {kind!r} "
                "were asked for: use the same, or another name, or remove it",
                existing=(there.system, there.kind),
                requested=(system, kind),
            )
        if number != native.CONFLICT:
            break  # else the one that was in the way is gone by now
    if number == native.AHEAD:
        raise ahead(bus, start)
    if number in (native.NO_SLOT, native.TABLE_FULL):
        raise SubscribersFullError(
            f"{bus.what} has no room for the group {name!r}: it takes one of its {bus.stats().max_subscribers} "
            f"subscriber slots, and there are at most {native.GROUPS} groups",
            limit=native.GROUPS,
        )
    native.checked(number, bus.what)


def remove_group(bus: Attachment, name: str) -> None:
    """Removes the group, with what it still has to do.

    Raises:
        InvalidError: there is none.
    """
    status = bus.group_remove(name)
    if status == native.NOTHING:
        raise no_group(bus, name)
    native.checked(status, bus.what)


def no_group(bus: Attachment, name: str) -> InvalidError:
    """That there is none of this name."""
    return InvalidError(f"{bus.what} has no group {name!r}", group=name)


@contextlib.contextmanager
def room_for_member(bus: Attachment, group: str) -> Iterator[None]:
    """Whoever makes a group has a slot and a descriptor for itself: without a member it would hold publishers back."""
    if bus.has_group(group):
        yield
        return
    taken = SubscriptionHandle(bus)  # which leaves with the last reference to it
    taken.join("", "", group, start=LATEST, spin=0, blocking=False)
    yield
    taken.leave()


def join_group(
    handle: SubscriptionHandle, group: str, texts: tuple[str, str, str], start: int, spin: float | None, exclusive: bool
) -> None:
    """Makes the handle a member of the group, which is made if there is none; ``texts`` are its patterns and its name.

    Raises:
        UnavailableError: a member that lives and this one exclude each other.
        As ``make_group`` and ``SubscriptionHandle.join``.
    """
    while True:  # as long as it is removed between the two, or whoever excludes this one leaves meanwhile
        with room_for_member(handle.bus, group):
            make_group(handle.bus, group, texts[0], texts[1], start, 0)
        status = handle.join(*texts, start=LATEST, spin=spin, blocking=False, group=group, exclusive=exclusive)
        if status == 0:
            return
        if status == native.EXCLUDED:
            _check_excluded(handle.bus, group)


def _check_excluded(bus: Attachment, name: str) -> None:
    there = find_group(bus, name)
    first = next((one for one in bus.occupants() if there is not None and one.group == there.number), None)
    if first is not None:
        raise UnavailableError(
            f"the group {name!r} of {bus.what} has the member {first.name!r} of process {first.pid}, and "
            f"{'that one is' if first.exclusive else 'this one would be'} exclusive: join once it has left",
            name=first.name,
            pid=first.pid,
            group=name,
        )


class Member(Subscription):
    """A subscription that shares its group's events with the other members.

    Asking for the next event acknowledges the one before. Only one thread at a time may work with it. Left by an
    exception, or by the end of the process, it gives back what it has in hand. An event that cannot be read is sent as
    ``eventbus.dead`` / ``exhausted`` before its error is raised, and is done with: no other member could read it.
    """

    def __init__(
        self,
        handle: SubscriptionHandle,
        name: str,
        hears: Callable[[str, str], bool],
        answer: Answer,
        *,
        group: str,
        prefetch: int,
        post: Callable[[str, dict[str, Any], bool], object],
    ) -> None:
        super().__init__(handle, name, hears, answer)
        self._group = group
        self._limit = min(prefetch, BATCH_LIMIT)
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
        there = find_group(self._subscription.bus, self._group)
        return MAX_DELIVERIES if there is None else there.max_deliveries

    def _others_hold(self, handle: SubscriptionHandle) -> bool:
        mine = find_group(handle.bus, self._group)
        return mine is not None and any(claim.slot != handle.slot for claim in mine.claims)

    def receive(self, timeout: float | None = None) -> Event | None:
        """The next event, after acknowledging the one before; else as ``Subscription.receive``."""
        return self.receive_until(native.FOREVER if timeout is None else native.deadline_after(timeout))

    def receive_until(self, deadline: int) -> Event | None:
        """``receive`` with an absolute deadline. An event is taken and in hand in one step that no signal can part."""
        self._retry_letters()
        if self._ended:
            self._live_handle()
            return None
        while self._fill(deadline):
            for event in self._ready:  # which is in hand from the moment on in which it is made
                return event
        return None

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """The next 1 to ``limit`` events of one claim, at most ``prefetch``, after acknowledging those before.

        They are in hand together: given back, all of them are delivered again, and the first one has the count.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidError(f"limit must be an int of at least 1, not {limit!r}", limit=limit)
        deadline = native.deadline_after(timeout)
        self._retry_letters()
        while not self._ended and self._fill(deadline):
            for events in map(self._ready.take, (limit,), ([],)):
                if events:
                    return events
        self._live_handle()
        return []

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
        deliveries = int(handle.batch.head.deliveries) - 1
        try:
            (event,) = self._unpack(handle)
            more: dict[str, Any] = {"deliveries": deliveries}
            if isinstance(event, Unreadable):
                event, more["error"] = event
            self._send_dead(event, more)
        except BaseException:
            self._give_back(handle)
            raise
        self._bury(handle)
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
            event: the one event in hand.
            more: what the letter's data say beside the event itself.
        """
        with self._receiving:
            handle = self._live_handle()
            if handle is not None and self._ready.unfinished:
                self._send_dead(event, more)
                self._bury(handle)

    def _send_dead(self, event: Event, more: dict[str, Any]) -> None:
        if event.system != DEAD_SYSTEM:
            self._letters.append((event.path, {**_letter(event, self._group), **more}))
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
            path, letter = self._letters[0]
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
            self._letters.popleft()

    # --- done, not done, leaving ---

    def ack(self) -> None:
        """Acknowledges what is in hand at once; nothing when there is none."""
        with self._receiving:
            handle = self._live_handle()
            if handle is not None:
                self._acknowledge(handle)

    def reject(self) -> None:
        """Gives what is in hand back, with what was fetched after it; nothing when there is none."""
        with self._receiving:
            handle = self._live_handle()
            if handle is not None and self._ready.unfinished:
                self._give_back(handle)

    def stop(self) -> None:
        """From now on ``receive`` returns None, also one that waits; a signal handler may call this."""
        self._ended = True
        self._subscription.interrupt()

    def close(self) -> None:
        """Acknowledges what is in hand, gives back what was fetched after it, and leaves."""
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

    def process_ends(self) -> None:
        """What is in hand is given back, where it stands in the way of letters that are still to be sent."""
        if self._letters:
            self.reject()
            self._send_letters(patient=True)

    def __iter__(self) -> Iterator[Event]:
        return iter(partial(self.receive_until, native.FOREVER), None)


def _letter(event: Event, group: str) -> dict[str, Any]:
    """What is told of an event that nobody could handle; raw data is in base64."""
    raw = isinstance(event.data, bytes)
    letter = {
        "group": group,
        "deliveries": event.deliveries,
        "system": event.system,
        "kind": event.kind,
        "path": event.path,
        "data": {"base64": base64.b64encode(event.data).decode()} if raw else event.data,
        "sequence": event.sequence,
        "time": event.time,
        "sender": event.sender,
    }
    return letter | {name: value for name in ("headers", "origin") if (value := getattr(event, name))}
