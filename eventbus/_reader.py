"""One subscriber slot, and the batches that C reads through it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from eventbus._ring import INLINE, LOCK_SECONDS, BusHandle, checked, deadline_after, decode_names, ffi, lib, until_done
from eventbus.errors import SegmentError, SubscribersFullError

LABEL_LIMIT: int = lib.EB_LABEL_LIMIT
BATCH_LIMIT: int = lib.EB_BATCH_LIMIT
LATEST: int = lib.EB_LATEST
OLDEST: int = lib.EB_OLDEST
ADAPTIVE: int = lib.EB_ADAPTIVE
UNDECIDED: int = lib.EB_UNDECIDED
LARGE: int = lib.EB_LARGE
EXHAUSTED: int = lib.EB_EXHAUSTED

receive_batch: Callable[[Any, int, int], int] = lib.eb_receive  # the hot paths' own names
acknowledge: Callable[[Any], int] = lib.eb_ack

_MUCH = 32_768  # bytes that are not copied twice
_ROOM = 1 << 20  # bytes that a buffer has at most for more than one record
_new_tuple = tuple.__new__  # what Head._make does, without a Python frame
_BESIDE = struct.Struct("=IIIIQQ")  # eb_beside


unpack_head: Callable[[memoryview], tuple[int, ...]] = struct.Struct("=4Q8Ii").unpack_from  # an eb_batch_head, as Head


class Head(NamedTuple):
    """What is to be known of a batch as a whole: an eb_batch_head."""

    json_length: int
    first_sequence: int
    last_sequence: int
    first_time: int
    json_count: int
    beside_count: int
    first_topic: int
    first_sender: int
    many_topics: int
    many_senders: int
    deliveries: int
    number: int
    status: int


class Beside(NamedTuple):
    """What stands beside the JSON array for one event of a batch."""

    event: int
    names: tuple[str, str] | None
    path: str
    data: bytes


def _column(column: Any, code: Literal["I", "Q"], count: int = 1) -> memoryview[int]:
    return memoryview(ffi.buffer(column, struct.calcsize(code) * count)).cast("B").cast(code)


class SubscriptionHandle:
    """One subscriber slot and the batch that is read through it."""

    def __init__(
        self,
        bus: BusHandle,
        system: str,
        kind: str,
        name: str,
        *,
        start: int,
        spin: float | None,
        blocking: bool,
        group: int = -1,
    ) -> None:
        """Joins; the cursor is fixed when this returns.

        Raises:
            SubscribersFullError: every slot is taken by a live subscription.
            UnavailableError: another process keeps the roster's lock.
        """
        texts = [ffi.new("char[]", text.encode()) for text in (system, kind, name)]
        spin_ns = ADAPTIVE if spin is None else int(spin * 1e9)
        terms = ffi.new("eb_terms *", (*texts, start, spin_ns, blocking, group + 1))
        status = ffi.new("int *")
        deadline = deadline_after(LOCK_SECONDS)

        def join() -> int:
            self.pointer = lib.eb_subscribe(bus.pointer, terms, deadline, status)
            return int(status[0])

        self.bus = bus
        if until_done(join) == lib.EB_NO_SLOT:
            limit = bus.stats().max_subscribers
            raise SubscribersFullError(
                f"all {limit} subscriber slots of {bus.what} are taken: close subscriptions that are not needed "
                "(one may be leaking), or make the bus with a larger max_subscribers",
                limit=limit,
            )
        checked(status[0], bus.what)
        self.pointer = ffi.gc(self.pointer, lib.eb_subscription_free)
        self.batch = lib.eb_batch_of(self.pointer)
        self._columns = (
            _column(self.batch.sequence, "Q", BATCH_LIMIT),
            _column(self.batch.time, "Q", BATCH_LIMIT),
            _column(self.batch.sender, "I", BATCH_LIMIT),
            _column(self.batch.topic, "I", BATCH_LIMIT),
        )
        self._rows = memoryview(ffi.buffer(self.batch.beside))
        self.head = memoryview(ffi.buffer(ffi.addressof(self.batch, "head")))  # of the batch read last: unpack_head
        self.number = _column(ffi.addressof(self.batch.head, "number"), "I")  # its only item: of the batch read last
        self._map_buffer()

    def _map_buffer(self) -> None:
        self.buffer = memoryview(ffi.buffer(self.batch.buffer, self.batch.size))

    def sequences(self, count: int) -> list[int]:
        """Of each event of the batch, like those below."""
        return self._columns[0][:count].tolist()

    def times(self, count: int) -> list[int]:
        """When each was sent."""
        return self._columns[1][:count].tolist()

    def senders(self, count: int) -> list[int]:
        """Who sent each."""
        return self._columns[2][:count].tolist()

    def topics(self, count: int) -> list[int]:
        """What each belongs to."""
        return self._columns[3][:count].tolist()

    def beside(self, count: int) -> list[Beside]:
        """The batch's events that do not, or not only, stand in the array; there are ``count`` of them."""
        rows = list(_BESIDE.iter_unpack(self._rows[: count * _BESIDE.size]))
        first = rows[-1][-1]  # each stands before the one before it
        beside: Any = self.buffer[first:]
        if len(beside) < _MUCH:  # slices of bytes cost half of what those of a memoryview do
            beside = bytes(beside)
        try:
            return [
                _new_tuple(
                    Beside,
                    (
                        index,
                        decode_names(beside[at - first :], system, kind) if system or kind else None,
                        bytes(beside[(start := at - first + system + kind) : (end := start + path)]).decode(),
                        bytes(beside[end : end + data]),
                    ),
                )
                for index, system, kind, path, data, at in rows
            ]
        except UnicodeDecodeError as error:
            raise SegmentError(f"a record's path is not UTF-8: {error}") from error

    def undecided(self) -> tuple[int, tuple[str, str]]:
        """The topic that C asks about, and its names."""
        batch = self.batch
        return batch.undecided, decode_names(ffi.buffer(batch.names), batch.system_length, batch.kind_length)

    def decide(self, topic: int, heard: bool) -> int:
        """Answers it, for good; its number, or INLINE if the answer is for this one record."""
        return checked(lib.eb_decide(self.pointer, topic, heard), self.bus.what)

    def reserve(self) -> None:
        """Makes the buffer as large as the next record needs, and a few more like it."""
        needed = int(self.batch.needed)
        checked(lib.eb_reserve(self.pointer, max(needed, min(4 * needed, _ROOM))), self.bus.what)
        self._map_buffer()

    def backlog(self, heard: Callable[[int, str, str], bool]) -> int:
        """How many events whose topic ``heard`` accepts wait in the ring."""
        walk = ffi.new("eb_walk *")
        while (status := lib.eb_backlog(self.pointer, walk)) == UNDECIDED:
            names = decode_names(ffi.buffer(walk.names), walk.system_length, walk.kind_length)
            verdict = heard(walk.undecided, *names)
            if walk.undecided == INLINE:
                walk.count += verdict
            else:
                self.decide(walk.undecided, verdict)
        checked(status, self.bus.what)
        return int(walk.count)

    def give_back(self, handed_out: bool) -> None:
        """All that it holds goes to whoever asks next; ``handed_out``: the first of it was seen by somebody."""
        lib.eb_return(self.pointer, handed_out)

    def count_dead(self) -> None:
        """A dead letter was sent for its group."""
        lib.eb_group_dead(self.pointer)

    @property
    def lost(self) -> int:
        """Events lost to lapping."""
        return int(lib.eb_lost(self.pointer))

    @property
    def slot(self) -> int:
        """The number of its slot."""
        return int(lib.eb_slot(self.pointer))

    def interrupt(self) -> None:
        """Whoever waits in it returns at once, now and later."""
        lib.eb_interrupt(self.pointer)

    def leave(self) -> None:
        """Gives the slot back."""
        lib.eb_unsubscribe(self.pointer)

    def abandon(self) -> None:
        """In a forked child: lets go without a trace in the parent's slot."""
        lib.eb_subscription_abandon(self.pointer)
