"""What this process has of a bus: one attachment, which C opens, forks and leaves."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from eventbus import _fast
from eventbus.core import native
from eventbus.core.figures import Received, received
from eventbus.core.native import INLINE, TABLE_FULL, checked, deadline_after, decode_names, ffi, lib, until_done
from eventbus.errors import InvalidError

_OPENED = native.address_of("eb_bus_opened")

# In C, so that no signal can part them, and no other hook's exception skip them.
os.register_at_fork(before=lib.eb_fork_begins, after_in_parent=lib.eb_fork_ends, after_in_child=lib.eb_fork_ends)


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
    lost: int
    system: str
    kind: str
    blocking: bool
    sleeping: bool
    group: int | None  # its number, of a member
    exclusive: bool
    received: Received


class Claim(NamedTuple):
    """One event that a member of a group has in hand: ``slot`` is None for what was given back."""

    slot: int | None
    sequence: int
    deliveries: int
    held: float  # seconds since it was taken
    due: float  # seconds until it may be delivered again
    parked: bool  # it has left the ring
    bytes: int  # of its record


class Group(NamedTuple):
    """A group as its entry in the roster shows it."""

    number: int
    name: str
    system: str
    kind: str
    slot: int
    max_deliveries: int
    redelivered: int
    dead: int
    next: int  # what comes before this sequence was claimed, or passed over: without a claim it is done
    claims: tuple[Claim, ...]


class Route(bytes):
    """Where the events of one topic go, as an eb_route. It keeps the handle that it points to."""

    handle: Attachment
    topic: int


class Attachment:
    """A bus as this process has it; made empty, so that whatever is taken for it is owned from the first moment on.

    Dropped, it leaves the bus. A child that Python forks goes on with an attachment of its own.
    """

    def __init__(self, name: str) -> None:
        self.what = f"the bus {name!r}"
        self.writable = False
        self.pointer = native.owned(lib.eb_bus_new, name.encode(), lib.eb_bus_free)

    # --- opening ---

    def opening(self) -> _fast.Scope:
        """What opens it stands within: at the end the door is open, and where that failed nothing is left of it."""
        return _fast.Scope(_OPENED, int(ffi.cast("uintptr_t", self.pointer)), self.pointer)

    def take_roster(self, created: bool) -> Callable[[int], int]:
        """What takes a descriptor of the roster: a call that is one step."""
        return functools.partial(lib.eb_bus_take_roster, self.pointer, created)

    def take_ring(self, created: bool) -> Callable[[int], int]:
        """What takes a descriptor of the ring."""
        return functools.partial(lib.eb_bus_take_ring, self.pointer, created)

    @property
    def roster_fd(self) -> int:
        """The descriptor that carries this attachment's locks; -1 for none."""
        return int(lib.eb_bus_roster_fd(self.pointer))

    @property
    def ring_fd(self) -> int:
        """The ring's descriptor, while it is being opened."""
        return int(lib.eb_bus_ring_fd(self.pointer))

    def enter(self) -> bool:
        """Waits to be the only opener or leaver; False when the name means another segment by now.

        Raises:
            UnavailableError: somebody stayed at the door for ten seconds.
        """
        deadline = native.lock_deadline()
        status = until_done(lambda: int(lib.eb_bus_enter(self.pointer, deadline)))
        return status != native.NOTHING and checked(status, self.what) == 0

    @property
    def behind(self) -> bool:
        """Whether this process has the door: a child that is forked in the middle of opening has not."""
        return bool(lib.eb_bus_behind(self.pointer))

    def is_signed(self) -> bool:
        """Whether the creator of this bus finished it.

        Raises:
            SegmentError: it is signed, but not by this version and build, or damaged.
        """
        return checked(lib.eb_signed(self.roster_fd), self.what) == 1

    def persists(self) -> bool:
        """Whether this bus outlives its last process."""
        return checked(lib.eb_persists(self.roster_fd), self.what) == 1

    def alone(self) -> bool:
        """Whether nobody else is attached, or in the middle of a send."""
        return bool(lib.eb_bus_alone(self.pointer))

    def format(self, capacity: int, max_subscribers: int) -> None:
        """Writes both headers into fresh segments; the roster's signature comes last and vouches for both."""
        identity = [int.from_bytes(os.urandom(8), "little") for _ in range(2)]
        sizes = (capacity, max_subscribers)
        checked(lib.eb_format(self.ring_fd, self.roster_fd, *sizes, *identity), "a new bus")

    def repair(self) -> None:
        """Makes whole what the last process left; only while nobody else is there."""
        checked(lib.eb_repair(self.ring_fd, self.roster_fd), self.what)

    def remove(self) -> None:
        """Removes both names."""
        checked(lib.eb_bus_remove(self.pointer), self.what)

    def look(self) -> None:
        """Maps both segments, to read from, without being attached."""
        checked(lib.eb_bus_look(self.pointer), self.what)

    def attach(self, writable: bool) -> None:
        """Maps both segments and is counted from now on.

        Raises:
            SegmentError: they are of another version or damaged.
            OSError: they cannot be mapped.
        """
        self.writable = writable
        checked(lib.eb_bus_attach(self.pointer, writable), self.what)

    # --- what it is ---

    def check(self) -> None:
        """Raises what is wrong with it: closed, not this process's, its descriptors closed underneath."""
        status = lib.eb_bus_check(self.pointer)
        if status < 0:
            self.refuse(status)

    @property
    def usable(self) -> bool:
        """Whether nothing is wrong with it."""
        return int(lib.eb_bus_check(self.pointer)) == 0

    def refuse(self, status: int) -> NoReturn:
        """Raises the error that a negative status means."""
        number = lib.eb_bus_error(self.pointer) if status == native.ORPHAN else 0
        native.fail(status, self.what, number)

    def checked(self, status: int) -> int:
        """The status if it is no error."""
        return status if status >= 0 else self.refuse(status)

    @property
    def event_limit(self) -> int:
        """The largest record, in bytes."""
        return int(lib.eb_event_limit(self.pointer))

    @property
    def closed(self) -> bool:
        """Whether the bus was shut down."""
        return bool(lib.eb_closed(self.pointer))

    @property
    def named(self) -> bool:
        """Whether its name still means it."""
        return bool(lib.eb_bus_named(self.pointer))

    @property
    def identity(self) -> str:
        """32 hexadecimal digits, drawn when the bus was made."""
        words = ffi.new("uint64_t[2]")
        lib.eb_bus_identity(self.pointer, words)
        return f"{words[0]:016x}{words[1]:016x}"

    @property
    def others(self) -> int:
        """Attachments of others."""
        return int(lib.eb_bus_others(self.pointer))

    def persist(self) -> None:
        """From now on the bus outlives its last process."""
        lib.eb_bus_persist(self.pointer)

    def leave(self) -> int:
        """Leaves the bus; the last process out removes the segments, unless the bus persists. Nothing if it has left.

        Returns:
            0, or the status of what was in the way: it is left all the same.
        """
        deadline = deadline_after(native.LOCK_SECONDS)
        return until_done(lambda: int(lib.eb_bus_leave(self.pointer, deadline)))

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

    def send_batch(
        self, rows: Any, count: int, blob: bytes, deadline: int, note: tuple[bytes, bytes] | None = None
    ) -> int:
        """Sends ``count`` events, all or none; ``rows`` has six uint32 each, as eb_outgoing. The status.

        A note, which is a name and bytes, holds from the moment on in which they can be seen.
        """
        events, kept = ffi.from_buffer("eb_outgoing[]", rows), ffi.NULL if note is None else _note(*note)
        return until_done(lambda: int(lib.eb_send_noted(self.pointer, kept, events, count, blob, len(blob), deadline)))

    def try_send(self, rows: Any, count: int, blob: bytes, again: bool, note: tuple[bytes, bytes] | None = None) -> int:
        """As ``send_batch``, but waits for nothing: the sequence of the first event; else a status, BUSY or FULL, then
        with its turn kept if it will try ``again``."""
        first = ffi.new("uint64_t *")
        events, kept = ffi.from_buffer("eb_outgoing[]", rows), ffi.NULL if note is None else _note(*note)
        status = int(lib.eb_try_send(self.pointer, kept, events, count, blob, len(blob), again, first))
        return status or int(first[0])

    def note(self, name: bytes, deadline: int) -> bytes | None:
        """The last note of the name; None if there is none."""
        found = _note(name, b"")
        status = until_done(lambda: int(lib.eb_note_read(self.pointer, found, deadline)))
        return None if status == native.NOTHING else ffi.buffer(found.bytes)[: self.checked(status) + found.length]

    def shutdown(self) -> None:
        """Closes the bus for everybody."""
        deadline = deadline_after(native.LOCK_SECONDS)
        checked(until_done(lambda: int(lib.eb_shutdown(self.pointer, deadline))), self.what)

    def lock_holder(self) -> int:
        """The pid that took the publish lock last."""
        return int(lib.eb_lock_holder(self.pointer))

    @property
    def publishing(self) -> bool:
        """Whether somebody has the publish lock."""
        return bool(lib.eb_is_publishing(self.pointer))

    def slowest(self) -> Occupant | Group | None:
        """The subscription or group that holds the gate back."""
        slot = int(lib.eb_slowest(self.pointer))
        if slot < 0:
            return None
        return self.occupant(slot) or next((group for group in self.groups() if group.slot == slot), None)

    def stats(self) -> Stats:
        """Counters and positions."""
        out = ffi.new("eb_stats *")
        self.checked(lib.eb_stats_read(self.pointer, out))
        counts = (out.capacity, out.used, out.committed, out.sent, out.inline_sent, out.topics, out.max_subscribers)
        return Stats(*counts, bool(out.closed), bool(out.persist))

    def occupant(self, slot: int) -> Occupant | None:
        """Who lives in a slot, if somebody does."""
        out = ffi.new("eb_subscriber_info *")
        if not lib.eb_subscriber(self.pointer, slot, out):
            return None
        name, system, kind = (ffi.string(text).decode(errors="replace") for text in (out.name, out.system, out.kind))
        flags = (bool(out.gated), bool(out.sleeping), None if out.group < 0 else int(out.group), bool(out.exclusive))
        return Occupant(slot, name, out.pid, out.lost, system, kind, *flags, received(out.received))

    def waiting(self, one: Occupant | Group) -> int:
        """How many events it hears and has yet to take; of a member, none: they wait for its group."""
        if isinstance(one, Occupant) and one.group is not None:
            return 0
        return self.checked(int(lib.eb_waiting(self.pointer, one.slot)))

    def occupants(self) -> Iterator[Occupant]:
        """Every live subscription."""
        for slot in range(native.SUBSCRIBERS_LIMIT):
            if (found := self.occupant(slot)) is not None:
                yield found

    def group_create(self, name: str, system: str, kind: str, start: int, max_deliveries: int) -> int:
        """The group's number, made if there is none of the name; CONFLICT or another status. A ``max_deliveries`` of 0
        leaves what there is."""
        texts = [ffi.new("char[]", text.encode()) for text in (name, system, kind)]
        terms = ffi.new("eb_group_terms *", (*texts, start, max_deliveries))
        deadline = native.lock_deadline()
        return until_done(lambda: int(lib.eb_group_create(self.pointer, terms, deadline)))

    def group_remove(self, name: str) -> int:
        """Removes the group; NOTHING when there is none, or another status."""
        deadline = deadline_after(native.LOCK_SECONDS)
        return until_done(lambda: int(lib.eb_group_remove(self.pointer, name.encode(), deadline)))

    def has_group(self, name: str) -> bool:
        """Whether there is a group of this name."""
        return int(lib.eb_group_find(self.pointer, name.encode())) >= 0

    def max_deliveries(self, name: str) -> int | None:
        """How often the group of this name hands an event out; None if there is none. What its members have in hand,
        which may be thousands of events, is not looked at."""
        out = ffi.new("eb_group_info *")
        number = lib.eb_group_find(self.pointer, name.encode())
        if number < 0 or checked(lib.eb_group_read(self.pointer, number, out), self.what) == 0:
            return None
        return int(out.max_deliveries)

    def groups(self) -> Iterator[Group]:
        """Every group."""
        out = ffi.new("eb_group_info *")
        for number in range(lib.EB_GROUPS):
            if checked(lib.eb_group_read(self.pointer, number, out), self.what) == 0:
                continue
            texts = (ffi.string(text).decode(errors="replace") for text in (out.name, out.system, out.kind))
            name, system, kind = texts
            counts = (out.slot, out.max_deliveries, out.redelivered, out.dead, out.next)
            yield Group(number, name, system, kind, *counts, tuple(self._claims(number)))

    def _claims(self, group: int) -> Iterator[Claim]:
        out, number = ffi.new("eb_claim_info *"), -1
        while (number := lib.eb_claim_read(self.pointer, group, number + 1, out)) >= 0:
            slot = None if out.slot == 0xFFFFFFFF else out.slot
            times = (out.held_ns / 1e9, out.due_ns / 1e9)
            yield Claim(slot, out.sequence, out.deliveries, *times, bool(out.parked), out.bytes)

    def roster_epoch(self) -> int:
        """A number that the next coming or going of a subscription changes."""
        return int(lib.eb_roster_epoch(self.pointer))

    def roster_wait(self, epoch: int, deadline: int) -> int:
        """Waits for such a change; the status."""
        return until_done(lambda: int(lib.eb_roster_wait(self.pointer, epoch, deadline)))


def _note(name: bytes, text: bytes) -> Any:
    if not 1 <= len(name) <= lib.EB_NOTE_NAME_LIMIT or len(text) > lib.EB_NOTE_LIMIT:
        raise InvalidError(
            f"a note has a name of 1 to {lib.EB_NOTE_NAME_LIMIT} bytes and at most {lib.EB_NOTE_LIMIT} bytes", name=name
        )
    return ffi.new("eb_note *", (len(name), len(text), name, text))
