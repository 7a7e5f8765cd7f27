"""The door to C: handles, deadlines, and status codes into errors. The only importer of the compiled module."""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from eventbus.errors import ClosedError, InvalidError, SegmentError, UnavailableError

if not sys.platform.startswith("linux"):
    raise ImportError("eventbus needs Linux: its liveness stands on open-file-description locks")

from eventbus._eventbus import ffi as ffi
from eventbus._eventbus import lib as lib

SUBSCRIBERS_LIMIT: int = lib.EB_SUBSCRIBERS_LIMIT
INLINE: int = lib.EB_INLINE
POLL: int = lib.EB_POLL
FOREVER: int = lib.EB_FOREVER

NOTHING: int = lib.EB_NOTHING
FULL: int = lib.EB_FULL
CLOSED: int = lib.EB_CLOSED
INTERRUPTED: int = lib.EB_INTERRUPTED
TOO_LARGE: int = lib.EB_TOO_LARGE
TABLE_FULL: int = lib.EB_TABLE_FULL
NO_SLOT: int = lib.EB_NO_SLOT
CONFLICT: int = lib.EB_CONFLICT
GROUPS: int = lib.EB_GROUPS
BUSY: int = lib.EB_BUSY

LONGEST = 1e9  # seconds; a longer wait is for ever
LOCK_SECONDS = 10.0  # what a lock that is held for microseconds may take before somebody must be stuck in it


def address_of(function: str) -> int:
    """Of a function of the core, for ``_fast``."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))


def deadline_after(timeout: float | None) -> int:
    """The absolute deadline of a call: FOREVER for None, POLL for 0, else nanoseconds on the monotonic clock."""
    if timeout is None:
        return FOREVER
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or math.isnan(timeout) or timeout < 0:
        raise InvalidError(f"timeout must be None, 0 or a number of seconds, not {timeout!r}", timeout=timeout)
    if timeout == 0:
        return POLL
    return FOREVER if timeout > LONGEST else time.monotonic_ns() + int(timeout * 1e9)


def seconds_left(deadline: int) -> float:
    """For a threading lock: -1 for ever, else the seconds until the deadline, at least 0."""
    if deadline == FOREVER:
        return -1
    return max(0.0, (deadline - time.monotonic_ns()) / 1e9) if deadline != POLL else 0.0


def until_done(call: Callable[[], int]) -> int:
    """Calls again as long as C was interrupted: in between, Python runs its signal handlers."""
    while (status := call()) == lib.EB_INTERRUPTED:
        pass
    return status


def fail(status: int, what: str) -> NoReturn:
    """Raises the error that a negative status means; ``what`` is the subject of the sentence."""
    if status == lib.EB_SYSTEM:
        number = ffi.errno
        remedy = "; is /proc mounted?" if number == errno.ENOENT else ""  # the one place that C opens by name
        raise OSError(number, f"{what}: {os.strerror(number)}{remedy}")
    if status in (lib.EB_DAMAGED, lib.EB_VERSION):
        detail = ffi.string(lib.eb_detail()).decode()
        raise SegmentError(
            f"{what} cannot be used: {detail}; remove it with eventbus.unlink() once nobody needs it",
            detail=detail,
            version=status == lib.EB_VERSION,
        )
    if status == lib.EB_CLOSED:
        raise ClosedError(f"{what} is closed")
    if status == lib.EB_BUSY:
        raise UnavailableError(f"{what}: another process keeps a lock, it may be stopped in a debugger; try again")
    raise SegmentError(f"{what}: {ffi.string(lib.eb_strerror(status)).decode()}", status=status)


def checked(status: int, what: str) -> int:
    """The status if it is no error."""
    return status if status >= 0 else fail(status, what)


# --- segments, before there is a bus: descriptors and their locks ---


def ring_bytes(capacity: int) -> int:
    """The size of the ring's segment; negative when no ring can have this capacity."""
    return int(lib.eb_ring_bytes(capacity))


def roster_bytes(max_subscribers: int) -> int:
    """The size of the roster's segment."""
    return int(lib.eb_roster_bytes(max_subscribers))


def format_segments(ring_fd: int, roster_fd: int, capacity: int, max_subscribers: int) -> None:
    """Writes both headers into fresh segments; the roster's signature comes last and vouches for both."""
    identity = [int.from_bytes(os.urandom(8), "little") for _ in range(2)]
    checked(lib.eb_format(ring_fd, roster_fd, capacity, max_subscribers, *identity), "a new bus")


def enter_door(roster_fd: int, what: str) -> None:
    """Waits to be the only opener or leaver of this roster.

    Raises:
        UnavailableError: somebody stayed in it for ten seconds.
    """
    deadline = deadline_after(LOCK_SECONDS)
    checked(until_done(lambda: int(lib.eb_door_enter(roster_fd, deadline))), what)


def detach(roster_fd: int) -> None:
    """Gives back all locks that were taken through this descriptor: the attachment and the door."""
    checked(lib.eb_detach(roster_fd), "the roster")


def leave_door(roster_fd: int) -> None:
    """Lets the next one in."""
    checked(lib.eb_door_leave(roster_fd), "the door")


def attach(roster_fd: int) -> None:
    """Counts this descriptor in until it is closed or its process dies."""
    checked(lib.eb_attach(roster_fd), "the roster")


def attached(roster_fd: int) -> int:
    """How many attachments there are through other descriptors."""
    return int(lib.eb_attached(roster_fd))


def is_signed(roster_fd: int, what: str) -> bool:
    """Whether the creator of this bus finished it.

    Raises:
        SegmentError: it is signed, but not by this version and build, or damaged.
    """
    return checked(lib.eb_signed(roster_fd), what) == 1


def persists(roster_fd: int) -> bool:
    """Whether this bus outlives its last process."""
    return checked(lib.eb_persists(roster_fd), "the roster") == 1


def repair(ring_fd: int, roster_fd: int, what: str) -> None:
    """Makes whole what the last process left; only while nobody else is attached."""
    checked(lib.eb_repair(ring_fd, roster_fd), what)


class Stats(NamedTuple):
    """What C knows of a bus at one moment."""

    capacity: int
    used: int
    committed: int
    sent: int
    inline_sent: int
    topics: int
    max_subscribers: int
    closed: bool
    persist: bool


class Occupant(NamedTuple):
    """A live subscription as its slot shows it."""

    slot: int
    name: str
    pid: int
    backlog: int
    lost: int
    system: str
    kind: str
    blocking: bool
    sleeping: bool
    group: int | None  # its number, of a member


class Claim(NamedTuple):
    """What one member of a group holds: ``slot`` is None for what was given back."""

    slot: int | None
    events: int
    deliveries: int
    held: float


class Group(NamedTuple):
    """A group as its entry in the roster shows it."""

    number: int
    name: str
    system: str
    kind: str
    slot: int
    max_deliveries: int
    backlog: int
    redelivered: int
    dead: int
    claims: tuple[Claim, ...]


class Route(bytes):
    """Where the events of one topic go, as an eb_route. It keeps the handle that it points to."""

    handle: BusHandle
    topic: int


class BusHandle:
    """One attachment to a bus. Dropped, it unmaps and closes; it never unlinks."""

    def __init__(self, ring_fd: int, roster_fd: int, writable: bool, what: str) -> None:
        """Maps both segments and duplicates the roster's descriptor, whose locks it shares from here on.

        Raises:
            SegmentError: they are of another version or damaged.
            OSError: they cannot be mapped.
        """
        status = ffi.new("int *")
        pointer = lib.eb_bus_open(ring_fd, roster_fd, writable, status)
        checked(status[0], what)
        self.pointer = ffi.gc(pointer, lib.eb_bus_free)
        self.what = what
        self.writable = writable

    @property
    def roster_fd(self) -> int:
        """The descriptor that carries this attachment's locks."""
        return int(lib.eb_bus_roster_fd(self.pointer))

    @property
    def event_limit(self) -> int:
        """The largest record, in bytes."""
        return int(lib.eb_event_limit(self.pointer))

    @property
    def closed(self) -> bool:
        """Whether the bus was shut down."""
        return bool(lib.eb_closed(self.pointer))

    def persist(self) -> None:
        """From now on the bus outlives its last process."""
        lib.eb_bus_persist(self.pointer)

    def interrupt(self) -> None:
        """Whoever waits in this handle for room or for subscribers returns at once, now and later."""
        lib.eb_bus_interrupt(self.pointer)

    def detach(self) -> None:
        """Gives the attachment and the door back, without waiting for the collector."""
        checked(lib.eb_detach(self.roster_fd), self.what)

    def fork_prepare(self) -> int:
        """A descriptor for the child of a fork that is about to happen; negative if there is none to be had."""
        return int(lib.eb_fork_prepare(self.pointer))

    def fork_child(self, roster_fd: int) -> None:
        """In the child: lives on through its own descriptor; without one, lets go of its parent's."""
        lib.eb_fork_child(self.pointer, roster_fd)

    def topic(self, system: bytes, kind: bytes, deadline: int) -> int:
        """The topic's number, INLINE when the table is full, or a status."""
        names = system + kind
        found = until_done(lambda: int(lib.eb_topic(self.pointer, names, len(system), len(kind), deadline)))
        return INLINE if found == TABLE_FULL else found

    def route(self, topic: int, system: bytes, kind: bytes) -> Route:
        """What ``eb_send`` and ``eb_send_raw`` take; the names are those of INLINE, else empty."""
        fixed = ffi.new("eb_route *", (self.pointer, topic, len(system), len(kind)))
        made = Route(bytes(ffi.buffer(fixed)) + system + kind)
        made.handle, made.topic = self, topic
        return made

    def topic_names(self, topic: int) -> tuple[str, str]:
        """System and kind of a topic."""
        names, lengths = ffi.new("char[512]"), ffi.new("uint32_t[2]")
        checked(lib.eb_topic_names(self.pointer, topic, names, lengths), self.what)
        return decode_names(ffi.buffer(names), lengths[0], lengths[1])

    def topic_count(self, topic: int) -> int:
        """How many events of it were sent."""
        return int(lib.eb_topic_count(self.pointer, topic))

    def send_batch(self, rows: Any, count: int, blob: bytes, deadline: int) -> int:
        """Sends ``count`` events, all or none; ``rows`` has five uint32 each, as eb_outgoing. The status."""
        events = ffi.from_buffer("eb_outgoing[]", rows)
        return until_done(lambda: int(lib.eb_send_batch(self.pointer, events, count, blob, len(blob), deadline)))

    def shutdown(self) -> None:
        """Closes the bus for everybody."""
        deadline = deadline_after(LOCK_SECONDS)
        checked(until_done(lambda: int(lib.eb_shutdown(self.pointer, deadline))), self.what)

    def lock_holder(self) -> int:
        """The pid that took the publish lock last."""
        return int(lib.eb_lock_holder(self.pointer))

    def slowest(self) -> Occupant | Group | None:
        """The subscription or group that holds the gate back."""
        slot = int(lib.eb_slowest(self.pointer))
        if slot < 0:
            return None
        return self.occupant(slot) or next((group for group in self.groups() if group.slot == slot), None)

    def stats(self) -> Stats:
        """Counters and positions."""
        out = ffi.new("eb_stats *")
        checked(lib.eb_stats_read(self.pointer, out), self.what)
        counts = (out.capacity, out.used, out.committed, out.sent, out.inline_sent, out.topics, out.max_subscribers)
        return Stats(*counts, bool(out.closed), bool(out.persist))

    def occupant(self, slot: int) -> Occupant | None:
        """Who lives in a slot, if somebody does."""
        out = ffi.new("eb_subscriber_info *")
        if not lib.eb_subscriber(self.pointer, slot, out):
            return None
        name, system, kind = (ffi.string(text).decode(errors="replace") for text in (out.name, out.system, out.kind))
        flags = (bool(out.gated), bool(out.sleeping), None if out.group < 0 else int(out.group))
        return Occupant(slot, name, out.pid, out.backlog, out.lost, system, kind, *flags)

    def occupants(self) -> Iterator[Occupant]:
        """Every live subscription."""
        for slot in range(SUBSCRIBERS_LIMIT):
            if (found := self.occupant(slot)) is not None:
                yield found

    def group_create(self, name: str, system: str, kind: str, start: int, max_deliveries: int) -> int:
        """The group's number, made if there is none of the name; CONFLICT or another status."""
        texts = [ffi.new("char[]", text.encode()) for text in (name, system, kind)]
        terms = ffi.new("eb_group_terms *", (*texts, start, max_deliveries))
        deadline = deadline_after(LOCK_SECONDS)
        return until_done(lambda: int(lib.eb_group_create(self.pointer, terms, deadline)))

    def has_group(self, name: str) -> bool:
        """Whether there is a group of this name."""
        return int(lib.eb_group_find(self.pointer, name.encode())) >= 0

    def groups(self) -> Iterator[Group]:
        """Every group."""
        out = ffi.new("eb_group_info *")
        for number in range(lib.EB_GROUPS):
            if checked(lib.eb_group_read(self.pointer, number, out), self.what) == 0:
                continue
            name, system, kind = (
                ffi.string(text).decode(errors="replace") for text in (out.name, out.system, out.kind)
            )
            counts = (out.slot, out.max_deliveries, out.backlog, out.redelivered, out.dead)
            yield Group(number, name, system, kind, *counts, tuple(self._claims(number)))

    def _claims(self, group: int) -> Iterator[Claim]:
        out = ffi.new("eb_claim_info *")
        for number in range(lib.EB_CLAIMS):
            if lib.eb_claim_read(self.pointer, group, number, out):
                slot = None if out.slot == 0xFFFFFFFF else out.slot
                yield Claim(slot, out.events, out.deliveries, out.held_ns / 1e9)

    def roster_epoch(self) -> int:
        """A number that the next coming or going of a subscription changes."""
        return int(lib.eb_roster_epoch(self.pointer))

    def roster_wait(self, epoch: int, deadline: int) -> int:
        """Waits for such a change; the status."""
        return until_done(lambda: int(lib.eb_roster_wait(self.pointer, epoch, deadline)))


def decode_names(names: Any, system_length: int, kind_length: int) -> tuple[str, str]:
    """System and kind, which lie one after the other at the beginning of ``names``."""
    try:
        system = bytes(names[0:system_length]).decode()
        return system, bytes(names[system_length : system_length + kind_length]).decode()
    except UnicodeDecodeError as error:
        raise SegmentError(f"a topic's name is not UTF-8: {error}") from error


def no_space(error: OSError) -> bool:
    """Whether shared memory, or the limit on it, is used up."""
    return error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT)
