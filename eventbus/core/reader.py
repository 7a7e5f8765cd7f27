"""One subscriber slot, and the batches that C reads through it."""

from __future__ import annotations

from collections.abc import Callable

from eventbus import _fast
from eventbus.core import native
from eventbus.core.attachment import Attachment
from eventbus.core.native import INLINE, decode_names, ffi, lib, until_done
from eventbus.errors import InvalidError, SubscribersFullError

LABEL_LIMIT: int = lib.EB_LABEL_LIMIT
BATCH_LIMIT: int = lib.EB_BATCH_LIMIT
LATEST: int = lib.EB_LATEST
OLDEST: int = lib.EB_OLDEST
ADAPTIVE: int = lib.EB_ADAPTIVE
UNDECIDED: int = lib.EB_UNDECIDED
LARGE: int = lib.EB_LARGE
EXHAUSTED: int = lib.EB_EXHAUSTED


_NOT_ADMITTED = (native.NOTHING, native.CONFLICT, native.EXCLUDED)
_SUBSCRIBED = native.address_of("eb_subscribed")
_ROOM = 1 << 20  # bytes that a buffer has at most for more than one record


class SubscriptionHandle:
    """One subscriber slot and the batch that is read through it."""

    def __init__(self, bus: Attachment, local: bool = False) -> None:
        self.bus = bus
        self._local = local  # does not hear what a bridge brought
        self.pointer = native.owned(lib.eb_subscription_new, bus.pointer, lib.eb_subscription_free)
        self.batch = lib.eb_batch_of(self.pointer)
        self._until = ffi.new("int64_t *")
        self.address, self.batch_address = (int(ffi.cast("uintptr_t", it)) for it in (self.pointer, self.batch))

    def joining(self) -> _fast.Scope:
        """What follows ``join`` stands within: where that failed it has left again."""
        return _fast.Scope(_SUBSCRIBED, self.address, self.pointer)

    def join(
        self,
        system: str,
        kind: str,
        name: str,
        *,
        start: int,
        spin: float | None,
        blocking: bool,
        group: str | None = None,
        exclusive: bool = False,
        manual: bool = False,
        views: bool = False,
    ) -> int:
        """The cursor is fixed when this returns.

        Returns:
            0; of a group, NOTHING when there is none of that name, CONFLICT when it has other patterns, EXCLUDED when a
            member that lives and this one exclude each other.

        Raises:
            InvalidError: ``start`` comes after the next sequence.
            SubscribersFullError: every slot is taken by a live subscription.
            UnavailableError: another process keeps the roster's lock.
        """
        texts = [ffi.new("char[]", text.encode()) for text in (system, kind, name)]
        spin_ns = ADAPTIVE if spin is None else int(spin * 1e9)
        of = ffi.NULL if group is None else ffi.new("char[]", group.encode())
        terms = ffi.new(
            "eb_terms *",
            (*texts, start, spin_ns, blocking, self._local, of, manual, group is not None, exclusive, views),
        )
        deadline = native.lock_deadline()
        status = until_done(lambda: int(lib.eb_subscribe(self.pointer, terms, deadline)))
        if status == native.NO_SLOT:
            limit = self.bus.stats().max_subscribers
            raise SubscribersFullError(
                f"all {limit} subscriber slots of {self.bus.what} are taken: close subscriptions that are not needed "
                "(one may be leaking), or make the bus with a larger max_subscribers",
                limit=limit,
            )
        if status == native.AHEAD:
            raise ahead(self.bus, start)
        return status if status in _NOT_ADMITTED else self.bus.checked(status)

    def undecided(self) -> tuple[int, tuple[str, str]]:
        """The topic that C asks about, and its names."""
        batch = self.batch
        return batch.undecided, decode_names(ffi.buffer(batch.names), batch.system_length, batch.kind_length)

    def decide(self, topic: int, names: tuple[str, ...], heard: bool, known: dict[int, tuple[str, ...]]) -> None:
        """Answers it, for good, or, if no number is left for a topic past the table, for this one record.

        What is heard is ``known`` by its number: before C hears of it, or, where C gives the number, in the same step.
        What is raised in between, by a signal handler or for want of memory, would leave a topic that is heard and has
        no names.
        """
        if heard and topic != INLINE:
            known[topic] = names
        for number in map(lib.eb_decide, (self.pointer,), (topic,), (heard,)):
            if heard and 0 <= number != INLINE:
                known[number] = names
        if number != native.CLOSED:  # by another thread; whoever asked will find out
            self.checked(number)

    def reserve(self) -> None:
        """Makes the buffer as large as the next record needs, and a few more like it."""
        needed = int(self.batch.needed)
        self.checked(lib.eb_reserve(self.pointer, max(needed, min(4 * needed, _ROOM))))

    def backlog(self, hears: Callable[[str, str], tuple[str, ...] | None], known: dict[int, tuple[str, ...]]) -> int:
        """How many events wait in the ring whose topic ``hears`` has names for; these are ``known`` from then on."""
        walk = ffi.new("eb_walk *")
        while (status := lib.eb_backlog(self.pointer, walk)) == UNDECIDED:
            names = decode_names(ffi.buffer(walk.names), walk.system_length, walk.kind_length)
            heard = hears(*names)
            if walk.undecided == INLINE:
                walk.count += heard is not None
            else:
                self.decide(walk.undecided, heard or names, heard is not None, known)
        self.checked(status)
        return int(walk.count)

    def peek(self, limit: int) -> int:
        """Reads the next events of a bus that is only looked at into the batch; how many, 0 at the end."""
        while (status := int(lib.eb_peek(self.pointer, limit))) == LARGE:
            self.reserve()
        return 0 if status == native.NOTHING else self.bus.checked(status)

    def ack_event(self, sequence: int) -> int:
        """The event is done with; NOTHING when it is not in hand, CLOSED when its group is gone."""
        return int(lib.eb_ack_event(self.pointer, sequence))

    def reject_event(self, sequence: int, delay: int) -> int:
        """It is given back, for ``delay`` ns later; as ``ack_event``."""
        return int(lib.eb_reject_event(self.pointer, sequence, delay))

    @property
    def group_gone(self) -> bool:
        """Whether the group whose member it is was removed."""
        return bool(lib.eb_group_gone(self.pointer))

    @property
    def keeper(self) -> int:
        """The pid of whoever has the lock of the group whose member it is; 0 for nobody."""
        return int(lib.eb_group_keeper(self.pointer))

    @property
    def inherited(self) -> bool:
        """Whether it belongs to the process that this one was forked from."""
        return int(lib.eb_subscription_check(self.pointer)) in (native.INHERITED, native.FORKED)

    def check(self, what: str) -> None:
        """Raises what is wrong with it: inherited, its descriptors closed underneath; nothing when it was closed."""
        status = lib.eb_subscription_check(self.pointer)
        if status < 0 and status != native.CLOSED:
            native.fail(status, what)

    def checked(self, status: int) -> int:
        """The status if it is no error."""
        return status if status >= 0 else native.fail(status, self.bus.what)

    @property
    def lost(self) -> int:
        """Events lost to lapping."""
        return int(lib.eb_lost(self.pointer))

    @property
    def slot(self) -> int:
        """The number of its slot."""
        return int(lib.eb_slot(self.pointer))

    def arm(self, apart: bool = False) -> int | None:
        """The next event is told by the doorbell of the process, or by ``fileno``: ns on the monotonic clock, when to
        receive in any case. None when there may be something already.

        Raises:
            OSError: no descriptor is left, or no thread can be made where one is needed.
        """
        status = lib.eb_arm(self.pointer, apart, self._until)
        return int(self._until[0]) if status == 0 else self._not_armed(status)

    def _not_armed(self, status: int) -> int | None:
        if status not in (native.NOTHING, native.CLOSED, native.BUSY):  # BUSY: another thread receives
            self.checked(status)
        return None

    def disarm(self) -> None:
        """Nobody waits any more."""
        lib.eb_disarm(self.pointer)

    def fileno(self) -> int:
        """A descriptor for this subscription alone."""
        return self.checked(int(lib.eb_fileno(self.pointer)))

    def interrupt(self) -> None:
        """Whoever waits in it returns at once, now and later."""
        lib.eb_interrupt(self.pointer)

    def leave(self) -> None:
        """Gives the slot back."""
        lib.eb_unsubscribe(self.pointer)


def ahead(bus: Attachment, start: int) -> InvalidError:
    """That nobody can say yet what will be at the sequence ``start``."""
    last = bus.stats().sent
    return InvalidError(
        f"start must be at most one past the last sequence of {bus.what}, which is {last}, not {start}: is it of "
        "another bus that had this name?",
        last=last,
        start=start,
    )
