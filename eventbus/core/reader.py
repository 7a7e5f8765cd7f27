"""One subscriber slot, and the batches that C reads through it."""

from __future__ import annotations

from collections.abc import Callable

from eventbus.core.native import (
    INLINE,
    LOCK_SECONDS,
    BusHandle,
    checked,
    deadline_after,
    decode_names,
    ffi,
    lib,
    until_done,
)
from eventbus.errors import SubscribersFullError

LABEL_LIMIT: int = lib.EB_LABEL_LIMIT
BATCH_LIMIT: int = lib.EB_BATCH_LIMIT
LATEST: int = lib.EB_LATEST
OLDEST: int = lib.EB_OLDEST
ADAPTIVE: int = lib.EB_ADAPTIVE
UNDECIDED: int = lib.EB_UNDECIDED
LARGE: int = lib.EB_LARGE
EXHAUSTED: int = lib.EB_EXHAUSTED


_ROOM = 1 << 20  # bytes that a buffer has at most for more than one record


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
        self.address, self.batch_address = (int(ffi.cast("uintptr_t", it)) for it in (self.pointer, self.batch))

    def undecided(self) -> tuple[int, tuple[str, str]]:
        """The topic that C asks about, and its names."""
        batch = self.batch
        return batch.undecided, decode_names(ffi.buffer(batch.names), batch.system_length, batch.kind_length)

    def decide(self, topic: int, names: tuple[str, str], heard: bool, known: dict[int, tuple[str, str]]) -> None:
        """Answers it, for good, or, if no number is left for a topic past the table, for this one record.

        What is heard is ``known`` by its number. A loop takes that from C and stores it in one step: a signal handler
        that raises as a call returns would leave a topic that is heard and has no names.
        """
        for number in map(lib.eb_decide, (self.pointer,), (topic,), (heard,)):
            if heard and 0 <= number != INLINE:
                known[number] = names
        checked(number, self.bus.what)

    def reserve(self) -> None:
        """Makes the buffer as large as the next record needs, and a few more like it."""
        needed = int(self.batch.needed)
        checked(lib.eb_reserve(self.pointer, max(needed, min(4 * needed, _ROOM))), self.bus.what)

    def backlog(self, hears: Callable[[str, str], bool], known: dict[int, tuple[str, str]]) -> int:
        """How many events whose topic ``hears`` accepts wait in the ring; what is heard is ``known`` from then on."""
        walk = ffi.new("eb_walk *")
        while (status := lib.eb_backlog(self.pointer, walk)) == UNDECIDED:
            names = decode_names(ffi.buffer(walk.names), walk.system_length, walk.kind_length)
            heard = hears(*names)
            if walk.undecided == INLINE:
                walk.count += heard
            else:
                self.decide(walk.undecided, names, heard, known)
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
