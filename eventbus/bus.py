"""Bus: open and close, subscribe, groups, requests, and what a process does with a bus as a whole."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from eventbus import audience
from eventbus.attached import Attached, leave_forgotten
from eventbus.core import segment
from eventbus.core.native import deadline_after
from eventbus.core.reader import LATEST, SubscriptionHandle
from eventbus.core.terms import Terms, check_name
from eventbus.errors import InvalidError
from eventbus.event import Event
from eventbus.group import (
    MAX_DELIVERIES,
    checked_acknowledgement,
    checked_limit,
    checked_prefetch,
    join_group,
    make_group,
    remove_group,
)
from eventbus.hearing import hearing
from eventbus.patterns import Wanted
from eventbus.replies import Inbox
from eventbus.subscription import Subscription, checked_name, checked_spin, checked_start

if TYPE_CHECKING:
    from eventbus.core.stats import BusStats
    from eventbus.member import Member
    from eventbus.policy import Guard, PolicyLike

SEND_TIMEOUT = 5.0

_ROLES = ("member", "subscriber")
_OVERFLOWS = ("block", "drop")


class Bus(Attached):
    """One process's attachment to a bus. Made by ``eventbus.open``; any number of threads may use it."""

    def __init__(
        self,
        name: str,
        *,
        capacity: int | None = None,
        max_subscribers: int | None = None,
        mode: int = 0o600,
        role: str = "member",
        policy: PolicyLike | None = None,
        actor: str | None = None,
        send_timeout: float | None = SEND_TIMEOUT,
        persist: bool = False,
    ) -> None:
        check_name(name)
        if role not in _ROLES:
            raise InvalidError(f"role must be 'member' or 'subscriber', not {role!r}", role=role)
        deadline_after(send_timeout)
        self._role = role
        self._mode = mode
        self._own_policy = policy is not None
        guard = _guard(policy, actor)
        terms = Terms(capacity, max_subscribers, mode, role == "member", bool(persist))
        super().__init__(name, partial(segment.open_bus, name, terms), guard, send_timeout)

    # --- subscribing ---

    def subscribe(
        self,
        system: Wanted,
        kind: Wanted | None = None,
        *,
        overflow: Literal["block", "drop"] = "block",
        start: Literal["latest", "oldest"] | int = "latest",
        group: str | None = None,
        prefetch: int = 1,
        ack: Literal["auto", "manual"] = "auto",
        exclusive: bool = False,
        name: str | None = None,
        spin: float | None = None,
        view: bool = False,
        _local: bool = False,
    ) -> Subscription:
        """Hears the events whose system and kind match; nothing sent after this returns is missed.

        Args:
            system, kind: a pattern each, or a list of which any may match; no kind hears every kind.
            overflow: "block" is lossless and holds publishers back when it falls a whole ring behind; "drop" is
                lapped instead and counts what it lost.
            start: "latest", "oldest", or the sequence to begin at, at most one past the last; of a group, when this
                call makes it.
            group: be a member of the group of this name, whose members share its events; it is made if there is none.
                All members need the same policy: what the one that meets an event may not hear is passed over for all.
            prefetch: how many events a member claims at once, up to 256.
            ack: of a member, "auto" has done with an event when it asks for the next one; "manual" finishes each by
                itself, in any order, by ``sub.ack(event)`` or ``sub.reject(event)``, with up to ``prefetch`` in hand.
            exclusive: be the only member of the group, for as long as this one lives.
            name: up to 63 bytes, for people.
            spin: seconds to look for the next event before sleeping; 0 never, None adapts to the traffic.
            view: raw data arrives as a read-only ``memoryview``, of large events one into the ring, where nothing is
                copied. It is good until its reader, a thread or a task, asks for the next event, with ``ack="manual"``
                until that one is finished, and then released; what an array was made of it keeps its bytes.

        Returns:
            The subscription, to be kept and closed: one that nobody refers to any more goes when Python collects it.

        Raises:
            InvalidError: a bad pattern or argument.
            PolicyDeniedError: the policy does not allow the whole of the pattern.
            SubscribersFullError: no subscriber slot is left.
            UnavailableError: the group has a member, and that one or this one is exclusive.
            ClosedError: the bus is closed.
        """
        hears = hearing(system, kind, self._guard)
        if overflow not in _OVERFLOWS:
            raise InvalidError(f"overflow must be 'block' or 'drop', not {overflow!r}", overflow=overflow)
        if view and overflow == "drop":
            raise InvalidError("view=True needs overflow='block': what is lapped cannot be looked at in the ring")
        first, seconds, label = checked_start(start), checked_spin(spin), checked_name(name, hears.system.text)
        hears.check_allowed()
        texts = (hears.system.text, hears.kind.text, label)
        bus = self._live_handle()
        handle = SubscriptionHandle(bus, _local)
        manual = checked_acknowledgement(ack, group)
        if group is None:
            if exclusive:
                raise InvalidError("exclusive is for a member of a group: name one with group=")
            alone = Subscription(handle, label, hears, self, bool(view))
            lossless = overflow == "block"
            join = partial(handle.join, *texts, start=first, spin=seconds, blocking=lossless, views=bool(view))
            return self._joined(alone, handle, join)
        from eventbus.member import Member  # with what tells of dead letters, which few processes need

        self._check_group(group)
        fetch = checked_prefetch(prefetch, overflow)
        made = Member(handle, label, hears, self, group, fetch, manual, bool(view), post=self._send_dead)
        terms = {"exclusive": bool(exclusive), "manual": manual, "views": bool(view)}
        return self._joined(made, handle, partial(join_group, handle, group, texts, first, seconds, **terms))

    def group(
        self,
        name: str,
        system: Wanted,
        kind: Wanted | None = None,
        *,
        start: Literal["latest", "oldest"] | int = "latest",
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        """Makes a group before it has members, so nothing sent from now on is missed. Made already, it goes on.

        Args:
            name: up to 63 bytes.
            system, kind, start: as in ``subscribe``.
            max_deliveries: how often an event is handed out before it is sent as ``eventbus.dead`` / ``exhausted``; a
                group that there is already has it from now on, unless it is left out.

        Raises:
            InvalidError: a bad argument, or a group of this name with other patterns.
            PolicyDeniedError: the policy does not allow the whole of the pattern.
            SubscribersFullError: no slot or no group is left.
            ClosedError: the bus is closed.
        """
        hears = hearing(system, kind, self._guard)
        limit, first = checked_limit(max_deliveries), checked_start(start)
        self._check_group(name)
        hears.check_allowed()
        make_group(self._live_handle(), name, hears.system.text, hears.kind.text, first, limit)

    def remove_group(self, name: str) -> None:
        """Removes a group, with what it still had to do; its members see the end of their subscriptions.

        Raises:
            InvalidError: a bad name, or no group has it.
            PolicyDeniedError: the policy does not allow the whole of its pattern.
            ClosedError: the bus is closed.
        """
        self._check_group(name)
        remove_group(self._live_handle(), name, self._guard)

    def _check_group(self, name: str) -> None:
        checked_name(name, "")
        if self._role != "member":
            raise InvalidError(f"a group sends dead letters: open the bus {self._name!r} with role='member'")

    def _send_dead(self, path: str, letter: dict[str, Any], patient: bool) -> None:
        from eventbus.letters import DEAD_KIND, DEAD_SYSTEM  # imported, like the next, when the member was made
        from eventbus.member import LETTER_SECONDS

        seconds = LETTER_SECONDS if patient else 0
        headers = letter.get("headers")
        self._send_own(DEAD_SYSTEM, DEAD_KIND, path, letter, seconds, deadline_after(seconds), headers)

    def _listen(self, system: str) -> Inbox:
        """A lossless subscription to one system of the bus's own, which no policy is asked for."""
        texts = (system, "**", checked_name(None, "request"))
        handle = SubscriptionHandle(self._live_handle())
        made = Inbox(handle, texts[2], system)
        with handle.joining():
            handle.join(*texts, start=LATEST, spin=None, blocking=True)
            self._subscriptions[id(made)] = made
        return made

    def _handler(self, function: Callable[[Event], Any], member: Member) -> Callable[[Event], Any]:
        """What a worker runs for each event that the member takes: of a bus that is traced, more than the function."""
        return function

    def _joined(self, made: Subscription, handle: SubscriptionHandle, join: Callable[[], object]) -> Subscription:
        with handle.joining():
            self._subscriptions[id(made)] = made
            made.begin(join)
        return made

    def wait_for_subscribers(self, count: int, system: str | None = None, timeout: float | None = None) -> bool:
        """Waits until at least ``count`` live subscriptions would hear ``system`` (any, if None).

        Returns:
            True when they are there, False when the time was up first.

        Raises:
            InvalidError: a bad count, system or timeout.
            ClosedError: the bus is closed.
        """
        return audience.wait_for_subscribers(self._live_handle, count, system, timeout)

    async def await_for_subscribers(self, count: int, system: str | None = None, timeout: float | None = None) -> bool:
        """``wait_for_subscribers`` in an event loop."""
        return await audience.await_for_subscribers(self._live_handle, count, system, timeout)

    # --- the whole bus ---

    def stats(self) -> BusStats:
        """One frozen snapshot of the bus.

        Raises:
            ClosedError: the bus is closed here.
        """
        from eventbus.core.stats import read_stats

        handle = self._open_handle()
        handle.check()
        return read_stats(self._name, handle)

    def shutdown(self) -> None:
        """Closes the bus for all processes: subscribers drain what is left, then see the end."""
        handle = self._open_handle()
        if not handle.writable:
            raise InvalidError(f"the bus {self._name!r} was opened with role='subscriber', which cannot shut it down")
        handle.shutdown()

    def __repr__(self) -> str:
        return f"<Bus {self._name!r}{' closed' if self._handle is None else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        seen = self._open_handle().stats()
        options = {
            "capacity": seen.capacity,
            "max_subscribers": seen.max_subscribers,
            "mode": self._mode,
            "role": self._role,
            "policy": self._guard.policy if self._guard is not None and self._own_policy else None,
            "actor": self._guard.actor if self._guard is not None else None,
            "send_timeout": self._send_timeout,
            "persist": seen.persist,
        }
        return _reopen, (self._name, options)


def _guard(policy: PolicyLike | None, actor: str | None) -> Guard | None:
    if policy is None and actor is None and not os.environ.get("EVENTBUS_POLICY"):
        return None
    from eventbus.policy import make_guard  # few have a policy

    return make_guard(policy, actor)


def _reopen(name: str, options: dict[str, Any]) -> Bus:
    """By pickle, in another process: nobody wrote an ``open`` there that a ``close`` should follow."""
    bus = Bus(name, **options)
    bus._finalizer.detach()
    bus._finalize(leave_forgotten, weakref.ref(bus._open_handle()))
    return bus
