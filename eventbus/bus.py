"""Bus: the send flow, and everything that a process does with a bus as a whole."""

from __future__ import annotations

import functools
import os
import weakref
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NoReturn

from eventbus import _ring, lifetime, patterns, segment
from eventbus._reader import LATEST, SubscriptionHandle
from eventbus._ring import deadline_after, send_now, send_raw_now
from eventbus.errors import ClosedError, FullError, InvalidError, UnavailableError
from eventbus.event import OPTIONS, check_path, dumps, encode
from eventbus.group import DEAD_KIND, DEAD_SYSTEM, MAX_DELIVERIES, Member, make_group
from eventbus.policy import Guard, Policy, make_guard
from eventbus.request import REQUEST_TIMEOUT, addressed, marked, new_identity, reply_system, result_of, unanswered
from eventbus.stats import BusStats, read_stats
from eventbus.subscription import Subscription, checked_name, checked_spin, checked_start

SEND_TIMEOUT = 5.0
NAMES_KEPT = 65_536  # names past a full topic table that a process remembers, so that strangers cannot fill its memory

_DEFAULT: Final[Any] = type("Default", (), {"__repr__": lambda _: "send_timeout"})()  # the bus's own
_SAFE_PATH = 1024  # characters that are at most 4096 bytes whatever they are
_ROLES = ("member", "subscriber")
_OVERFLOWS = ("block", "drop")

PolicyLike = Policy | Callable[[str, str, str], bool] | str | os.PathLike[str] | dict[str, Any]


class Bus:
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
        segment.check_name(name)
        if role not in _ROLES:
            raise InvalidError(f"role must be 'member' or 'subscriber', not {role!r}", role=role)
        deadline_after(send_timeout)
        self._name = name
        self._role = role
        self._mode = mode
        self._send_timeout = send_timeout
        self._own_policy = policy is not None
        self._guard: Guard | None = make_guard(policy, actor)
        self._topics: dict[str, dict[str, int]] = {}  # allowed by the policy and in the table
        self._untabled: set[tuple[str, str]] = set()  # allowed, and not in the table
        self._own_topics: dict[tuple[str, str], int] = {}  # what only the bus itself may send: requests, replies
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        terms = segment.Terms(capacity, max_subscribers, mode, role == "member", bool(persist))
        with lifetime.lock:
            self._handle: _ring.BusHandle | None = segment.open_bus(name, terms)
            self._pointer = self._handle.pointer
            lifetime.opened(self)

    # --- sending ---

    def send(self, system: str, kind: str, path: str, data: Any = None, *, timeout: float | None = _DEFAULT) -> bool:
        """Publishes one event; every subscriber can see it when this returns.

        Args:
            system, kind: the topic, segments separated by dots; up to 255 bytes each.
            path: what it is about; up to 4096 bytes.
            data: anything that orjson encodes, or bytes.
            timeout: seconds to wait for room in the ring; None for ever, 0 not at all; the bus's ``send_timeout`` if
                left out.

        Returns:
            True.

        Raises:
            InvalidError: a bad name or path, data that cannot be encoded, an event too large for the ring.
            PolicyDeniedError: the policy forbids it.
            FullError: the ring stayed full; the message names the subscriber that holds it back.
            ClosedError: the bus is closed.
        """
        pointer = self._pointer
        try:
            topic = self._topics[system][kind]
        except (KeyError, TypeError):
            return self._send_one(system, kind, path, data, timeout)
        if type(path) is not str or not 0 < len(path) <= _SAFE_PATH:
            check_path(path)
        if timeout is not _DEFAULT:
            deadline_after(timeout)
        if type(data) is bytes:
            if not path.isascii():
                check_path(path)
            raw_path = path.encode()
            status = send_raw_now(pointer, topic, raw_path, len(raw_path), data, len(data))
        else:
            try:
                body = dumps((path, data), None, OPTIONS)
            except TypeError:  # what cannot be encoded, and raw data of other types
                return self._send_one(system, kind, path, data, timeout)
            status = send_now(pointer, topic, body, len(body))
        return status == 0 or self._send_one(system, kind, path, data, timeout)

    def _send_one(self, system: str, kind: str, path: str, data: Any, timeout: float | None) -> bool:
        """The same with all checks, names and patience."""
        self._publish([(system, kind, path, data)], timeout)
        return True

    def send_many(self, events: Iterable[tuple[Any, ...]], *, timeout: float | None = _DEFAULT) -> int:
        """Publishes several events at once: all become visible together, or none does.

        Args:
            events: ``(system, kind, path)`` or ``(system, kind, path, data)`` each.
            timeout: as in ``send``.

        Returns:
            The number of events sent.

        Raises:
            As ``send``; also InvalidError when the events do not fit into the ring together.
        """
        return self._publish(events, timeout)

    def _outgoing(self, event: tuple[Any, ...], deadline: int) -> tuple[tuple[int, ...], bytes]:
        """The eb_outgoing of one event, and its bytes."""
        if not isinstance(event, (tuple, list)) or len(event) not in (3, 4):
            raise InvalidError("each event must be (system, kind, path) or (system, kind, path, data)", event=event)
        system, kind, path, data = (*event, None)[:4]
        return _row(self._topic(system, kind, path, deadline), system, kind, path, data)

    def _topic(self, system: str, kind: str, path: str, deadline: int) -> int:
        """Checks the names, then asks the policy, then finds the topic's number; remembered from then on."""
        handle = self._open_handle()
        _check_names(system, kind, path)
        known = self._topics.get(system, {}).get(kind)
        if known is not None:
            return known
        if (system, kind) in self._untabled:
            return _ring.INLINE
        self._allow_send(handle, system)
        topic = handle.topic(system.encode(), kind.encode(), deadline)
        if topic < 0:
            self._refuse(handle, topic)
        if topic != _ring.INLINE:
            self._topics.setdefault(system, {})[kind] = topic
        elif len(self._untabled) < NAMES_KEPT:
            self._untabled.add((system, kind))
        return topic

    def _allow(self, system: str, kind: str, path: str) -> None:
        """Raises unless an event may be sent there."""
        handle = self._open_handle()
        _check_names(system, kind, path)
        self._allow_send(handle, system)

    def _allow_send(self, handle: _ring.BusHandle, system: str) -> None:
        if not handle.writable:
            raise InvalidError(f"the bus {self._name!r} was opened with role='subscriber', which cannot send")
        if self._guard is not None:
            self._guard.check_send(system)

    def _publish(self, events: Iterable[tuple[Any, ...]], timeout: float | None) -> int:
        """Sends them all with the patience that was asked for, or says what went wrong; how many there were."""
        seconds = self._send_timeout if timeout is _DEFAULT else timeout
        deadline = deadline_after(seconds)
        rows, parts = array("I"), []
        for event in events:
            row, bytes_ = self._outgoing(event, deadline)
            rows.extend(row)
            parts.append(bytes_)
        if parts:
            handle, blob = self._open_handle(), b"".join(parts)
            status = handle.send_batch(rows, len(parts), blob, deadline)
            if status < 0:
                self._refuse(handle, status, seconds, len(blob))
        return len(parts)

    def _refuse(self, handle: _ring.BusHandle, status: int, seconds: float | None = None, size: int = 0) -> NoReturn:
        if status == _ring.FULL:
            self._full(handle, seconds)
        if status == _ring.TOO_LARGE:
            limit = handle.event_limit
            raise InvalidError(
                f"{size} bytes are too many for the bus {self._name!r}: one event may take {limit} bytes, a quarter of "
                "the ring, and what is sent together must fit into the ring; open it with a larger capacity",
                size=size,
                limit=limit,
            )
        if status == _ring.BUSY:
            pid = handle.lock_holder()
            raise UnavailableError(
                f"process {pid} keeps the publish lock of the bus {self._name!r}, it may be stopped; try again", pid=pid
            )
        _ring.fail(status, handle.what)

    def _full(self, handle: _ring.BusHandle, seconds: float | None) -> NoReturn:
        slowest = handle.slowest()
        if isinstance(slowest, _ring.Group):
            members = [one for one in handle.occupants() if one.group == slowest.number]
            names = ", ".join(f"{one.name!r} of process {one.pid}" for one in members) or "none"
            raise FullError(
                f"the bus {self._name!r} stayed full for {seconds} s: the group {slowest.name!r} has {slowest.backlog} "
                f"events that no member took (members: {names}); add members, or use a larger capacity",
                group=slowest.name,
                pids=[one.pid for one in members],
                backlog=slowest.backlog,
                timeout=seconds,
            )
        if slowest is None:
            raise FullError(f"the bus {self._name!r} was full for {seconds} s; it has room now, try again")
        raise FullError(
            f"the bus {self._name!r} stayed full for {seconds} s: subscriber {slowest.name!r} of process {slowest.pid} "
            f"has {slowest.backlog} events to receive; let it receive or close it, or subscribe with overflow='drop'",
            name=slowest.name,
            pid=slowest.pid,
            backlog=slowest.backlog,
            timeout=seconds,
        )

    # --- subscribing ---

    def subscribe(
        self,
        system: str,
        kind: str | None = None,
        *,
        overflow: Literal["block", "drop"] = "block",
        start: Literal["latest", "oldest"] | int = "latest",
        group: str | None = None,
        prefetch: int = 1,
        name: str | None = None,
        spin: float | None = None,
    ) -> Subscription:
        """Hears the events whose system and kind match; nothing sent after this returns is missed.

        Args:
            system, kind: patterns; no kind hears every kind.
            overflow: "block" is lossless and holds publishers back when it falls a whole ring behind; "drop" is
                lapped instead and counts what it lost.
            start: "latest", "oldest", or the sequence to begin at; of a group, when this call makes it.
            group: be a member of the group of this name, whose members share its events; it is made if there is none.
            prefetch: how many events a member claims at once, up to 256.
            name: up to 63 bytes, for people.
            spin: seconds to look for the next event before sleeping; 0 never, None adapts to the traffic.

        Raises:
            InvalidError: a bad pattern or argument.
            PolicyDeniedError: the policy does not allow the whole of the pattern.
            SubscribersFullError: no subscriber slot is left.
            ClosedError: the bus is closed.
        """
        wanted = patterns.compile(system, "system")
        wanted_kind = None if kind is None else patterns.compile(kind, "kind")
        if overflow not in _OVERFLOWS:
            raise InvalidError(f"overflow must be 'block' or 'drop', not {overflow!r}", overflow=overflow)
        first, seconds, label = checked_start(start), checked_spin(spin), checked_name(name, system)
        if self._guard is not None:
            self._guard.check_subscribe(wanted)
        hears = self._hearing(wanted, wanted_kind)
        with lifetime.lock:
            bus = self._live_handle()
            texts = (system, kind or "**", label)
            made: Subscription
            if group is None:
                blocking = overflow == "block"
                handle = SubscriptionHandle(bus, *texts, start=first, spin=seconds, blocking=blocking)
                made = Subscription(handle, label, hears, self._answer)
            else:
                fetch = self._check_member(group, overflow, prefetch)
                number = make_group(bus, group, system, kind or "**", first, None)
                handle = SubscriptionHandle(bus, *texts, start=LATEST, spin=seconds, blocking=False, group=number)
                made = Member(handle, label, hears, self._answer, group=group, prefetch=fetch, bury=self._send_dead)
            self._subscriptions.add(made)
        return made

    def group(
        self,
        name: str,
        system: str,
        kind: str | None = None,
        *,
        start: Literal["latest", "oldest"] | int = "latest",
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        """Makes a group before it has members, so nothing sent from now on is missed. Made already, it stays as it is.

        Args:
            name: up to 63 bytes.
            system, kind, start: as in ``subscribe``.
            max_deliveries: how often an event is handed out before it is sent as ``eventbus.dead`` / ``exhausted``.

        Raises:
            InvalidError: a bad argument, or a group of this name with other terms.
            PolicyDeniedError: the policy does not allow the whole of the pattern.
            SubscribersFullError: no slot or no group is left.
            ClosedError: the bus is closed.
        """
        wanted = patterns.compile(system, "system")
        if kind is not None:
            patterns.compile(kind, "kind")
        if isinstance(max_deliveries, bool) or not isinstance(max_deliveries, int) or not 1 <= max_deliveries < 1 << 31:
            raise InvalidError(f"max_deliveries must be an int from 1, not {max_deliveries!r}", max=max_deliveries)
        first = checked_start(start)
        self._check_member(name, "block", 1)
        if self._guard is not None:
            self._guard.check_subscribe(wanted)
        with lifetime.lock:
            make_group(self._live_handle(), name, system, kind or "**", first, max_deliveries)

    def _check_member(self, group: str, overflow: str, prefetch: int) -> int:
        checked_name(group, "")
        if overflow != "block":
            raise InvalidError("a group is lossless: leave overflow out", overflow=overflow)
        if isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch < 1:
            raise InvalidError(f"prefetch must be an int of at least 1, not {prefetch!r}", prefetch=prefetch)
        if self._role != "member":
            raise InvalidError(f"a group sends dead letters: open the bus {self._name!r} with role='member'")
        return prefetch

    def _send_own(
        self, system: str, kind: str, path: str, data: Any, seconds: float | None, deadline: int | None = None
    ) -> bool:
        """A message of the bus itself: its names are known to be good, and no policy is asked."""
        handle = self._open_handle()
        deadline = deadline_after(seconds) if deadline is None else deadline
        topic = self._own_topics.get((system, kind))
        if topic is None:
            topic = handle.topic(system.encode(), kind.encode(), deadline)
        row, blob = _row(max(topic, 0), system, kind, path, data)
        status = topic if topic < 0 else handle.send_batch(array("I", row), 1, blob, deadline)
        if status < 0:
            self._refuse(handle, status, seconds, len(blob))
        if topic != _ring.INLINE:
            self._own_topics[system, kind] = topic
        return True

    def _send_dead(self, path: str, letter: dict[str, Any], patient: bool) -> None:
        self._send_own(DEAD_SYSTEM, DEAD_KIND, path, letter, self._send_timeout if patient else 0)

    def _answer(self, identity: str, kind: str, data: Any) -> bool:
        return self._send_own(reply_system(identity), kind, identity, data, self._send_timeout)

    # --- asking ---

    def request(
        self, system: str, kind: str, path: str, data: Any = None, *, timeout: float | None = REQUEST_TIMEOUT
    ) -> Any:
        """Sends an event to which a subscriber replies with ``event.reply(data)``, and waits for the first answer.

        Whoever replies sees an ordinary event; the requester is subscribed before it is sent.

        Args:
            system, kind, path, data: as in ``send``; kind and path may be a little shorter.
            timeout: seconds for the whole call; None for ever.

        Returns:
            The data of the reply.

        Raises:
            RemoteError: the answer is an error.
            UnavailableError: no answer came in time.
            As ``send`` and ``subscribe``.
        """
        deadline = deadline_after(timeout)
        identity = new_identity()
        self._allow(system, kind, path)
        with self._listen(reply_system(identity)) as replies:
            self._send_own(system, marked(kind), addressed(path, identity), data, timeout, deadline)
            while (answer := replies.receive_until(deadline)) is not None and answer.path != identity:
                pass
            ended = replies.closed
        if answer is None:
            raise unanswered(self._name, system, kind, path, timeout, ended)
        return result_of(answer, system, kind, path)

    def _listen(self, system: str) -> Subscription:
        """A lossless subscription to one system of the bus's own, which no policy is asked for."""
        with lifetime.lock:
            bus, label = self._live_handle(), checked_name(None, "request")
            handle = SubscriptionHandle(bus, system, "**", label, start=LATEST, spin=None, blocking=True)
            made = Subscription(handle, label, lambda heard, _: heard == system, self._answer)
            self._subscriptions.add(made)
        return made

    def _live_handle(self) -> _ring.BusHandle:
        handle = self._open_handle()
        if handle.closed:
            raise ClosedError(f"the bus {self._name!r} was shut down")
        return handle

    def _hearing(self, wanted: patterns.Pattern, wanted_kind: patterns.Pattern | None) -> Callable[[str, str], bool]:
        guard = self._guard

        def hears(system: str, kind: str) -> bool:
            matches = wanted.matches(system) and (wanted_kind is None or wanted_kind.matches(kind))
            return matches and (guard is None or guard.may_hear(system))

        return hears

    def wait_for_subscribers(self, count: int, system: str | None = None, timeout: float | None = None) -> bool:
        """Waits until at least ``count`` live subscriptions would hear ``system`` (any, if None).

        Returns:
            True when they are there, False when the time was up first.

        Raises:
            InvalidError: a bad count, system or timeout.
            ClosedError: the bus is closed.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidError(f"count must be an int of at least 0, not {count!r}", count=count)
        if system is not None:
            patterns.check_name(system, "system")
        deadline = deadline_after(timeout)
        while True:
            handle = self._open_handle()
            epoch = handle.roster_epoch()
            if sum(system is None or _would_hear(one.system, system) for one in handle.occupants()) >= count:
                return True
            status = handle.roster_wait(epoch, deadline)
            if status == _ring.NOTHING:
                return False
            if status != _ring.CLOSED:
                _ring.checked(status, handle.what)

    # --- the whole bus ---

    @property
    def name(self) -> str:
        """The bus's name."""
        return self._name

    @property
    def attached(self) -> bool:
        """Whether this object is still open here."""
        return self._handle is not None

    @property
    def closed(self) -> bool:
        """Whether it is closed here, or shut down for everybody."""
        handle = self._handle
        return handle is None or handle.closed

    def stats(self) -> BusStats:
        """One frozen snapshot of the bus.

        Raises:
            ClosedError: the bus is closed here.
        """
        return read_stats(self._name, self._open_handle())

    def shutdown(self) -> None:
        """Closes the bus for all processes: subscribers drain what is left, then see the end."""
        handle = self._open_handle()
        if not handle.writable:
            raise InvalidError(f"the bus {self._name!r} was opened with role='subscriber', which cannot shut it down")
        handle.shutdown()

    def close(self) -> None:
        """Leaves the bus and closes this object's subscriptions; the last process out removes the segments."""
        self._leave(True)

    def process_ends(self) -> None:
        """Called by ``lifetime``. What a member has in hand then is given back: nobody said that it was done."""
        self._leave(False)

    def _leave(self, handled: bool) -> None:
        with lifetime.lock:
            handle = self._handle
            if handle is None:
                return
            self._forget()
            lifetime.closed(self)
            handle.interrupt()
            for one in list(self._subscriptions):
                one.leave(handled)
            segment.leave_bus(self._name, handle)

    def fork_prepare(self) -> int:
        """Called by ``lifetime`` before a fork."""
        return -1 if self._handle is None else self._handle.fork_prepare()

    def fork_child(self, descriptor: int) -> None:
        """Called by ``lifetime`` in the child: the bus goes on through its own descriptor, its subscriptions do not."""
        for one in list(self._subscriptions):
            one.disown()
        self._subscriptions.clear()
        if descriptor >= 0 and self._handle is not None:
            self._handle.fork_child(descriptor)
        else:
            self._forget()

    def _forget(self) -> None:
        """From here on every call finds the bus closed; a sender that is in C still holds the pointer."""
        self._topics = {}
        self._handle = self._pointer = None

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._leave(error is None)

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

    def _open_handle(self) -> _ring.BusHandle:
        handle = self._handle
        if handle is None:
            raise ClosedError(f"the bus {self._name!r} is closed; open it again with eventbus.open()")
        return handle


def _check_names(system: str, kind: str, path: str) -> None:
    patterns.check_name(system, "system")
    patterns.check_name(kind, "kind")
    check_path(path)


def _row(topic: int, system: str, kind: str, path: str, data: Any) -> tuple[tuple[int, ...], bytes]:
    names = (system.encode(), kind.encode()) if topic == _ring.INLINE else (b"", b"")
    if isinstance(data, (bytes, bytearray, memoryview)):
        raw_path, body = path.encode(), bytes(data)
    else:
        raw_path, body = b"", encode(path, data)
    parts = (*names, raw_path, body)
    return (topic, *map(len, parts)), b"".join(parts)


def _reopen(name: str, options: dict[str, Any]) -> Bus:
    return Bus(name, **options)


@functools.lru_cache(maxsize=1024)
def _would_hear(pattern: str, system: str) -> bool:
    """Whether a pattern found in the roster hears the system; text that is no pattern any more hears nothing."""
    try:
        return patterns.compile(pattern).matches(system)
    except InvalidError:
        return False
