"""Queues as multiprocessing has them, which go on whoever of their users is killed."""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import pickle
import queue
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import eventbus
from eventbus import Event
from eventbus.integrations.ends import GETTERS, ITEMS, MOST_AT_ONCE, Ends
from eventbus.integrations.pickles import Broken, dumps, loaded, loaded_or_broken

T = TypeVar("T")

CAPACITY = 16 * 2**20
_ROOM = "room"
_FOREVER_MANY = 2**31 - 1  # deliveries: an item is never given up, however many die with it
_SUBSCRIBERS = 256
_LOOK_SECONDS = 0.2  # whoever waits for room looks by itself so often: who made some may have died before it said so


class Queue(Generic[T]):
    """A ``multiprocessing.Queue`` on a bus of its own: a killed user freezes nobody, and takes only what it had got.

    It goes through ``Process(args=...)`` however processes are started, and any other pickle, by name. Each item goes
    to one getter, in the order in which they were put; what a getter was being given as it died comes again, to another
    one. ``put`` pickles and sends by itself: no thread, and what cannot be pickled raises there.

    Args:
        maxsize: ``put`` waits while so many items are in the queue; with 0, while there is no room for more bytes.
            Several processes that put at the very same moment may exceed it by one each.
        name: of the bus; a new one if left out. Processes that give the same name have the same queue.
        capacity: bytes of all items together; one item may take a quarter of them.

    Raises:
        InvalidError: a bad name; a capacity that differs from that of the queue that has this name.
    """

    _joinable = False

    def __init__(self, maxsize: int = 0, *, name: str | None = None, capacity: int = CAPACITY) -> None:
        self._begin(maxsize, name or f"queue-{os.getpid()}-{uuid.uuid4().hex[:12]}", capacity)

    def _begin(self, maxsize: int, name: str, capacity: int, identity: str | None = None) -> None:
        self._maxsize = max(maxsize, 0)
        self._capacity = capacity
        self._closed = False
        self._here: Ends | None = None
        self._bus = eventbus.open(name, capacity=capacity, max_subscribers=_SUBSCRIBERS, send_timeout=None)
        self._leaving = weakref.finalize(self, self._bus.close)
        self._leaving.atexit = False  # at the end of a process the bus leaves by itself, as the last that it does
        if identity is not None and self._bus.identity != identity:
            self.close()
            raise eventbus.ClosedError(
                f"the queue {name!r} is gone: all who had it had closed it before this process opened it"
            )
        self._bus.group(GETTERS, ITEMS, start="oldest", max_deliveries=_FOREVER_MANY)

    @property
    def name(self) -> str:
        """That of its bus."""
        return self._bus.name

    @property
    def maxsize(self) -> int:
        """How many items it may have; 0 for as many as there is room for."""
        return self._maxsize

    # --- put ---

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Puts one item.

        Args:
            block: wait for room.
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            queue.Full: there was no room in time.
            ValueError: the queue is closed here; the item is larger than a quarter of ``capacity`` (an InvalidError).
        """
        self._check_open()
        data = dumps(obj)
        if self._maxsize:
            return self._put_bounded([data], block, timeout)
        try:
            if block and timeout is None:
                self._bus.send(ITEMS, "put", "-", data)
            else:
                self._bus.send(ITEMS, "put", "-", data, timeout=_seconds(block, timeout))
        except (eventbus.FullError, eventbus.InvalidError) as error:
            raise self._said(error) from error

    def put_nowait(self, obj: T) -> None:
        """``put`` that does not wait."""
        self.put(obj, False)

    def put_many(self, objs: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Puts several items at once: all of them, or none.

        Raises:
            queue.Full: there was no room for all in time, or they are more than ``maxsize``.
            ValueError: as ``put``; together they are larger than ``capacity``.
        """
        self._check_open()
        blobs = [dumps(obj) for obj in objs]
        if self._maxsize and blobs:
            self._put_bounded(blobs, block, timeout)
        elif blobs:
            self._send(blobs, _seconds(block, timeout))

    def _put_bounded(self, blobs: list[bytes], block: bool, timeout: float | None) -> None:
        """One thread of this process at a time: of those who find room, each finds what the one before has left."""
        if len(blobs) > self._maxsize:
            raise queue.Full
        deadline = _deadline(_seconds(block, timeout))
        here = self._ends()
        for mine in map(here.putting.acquire, (True,), (_left(deadline),)):  # owned in the step in which it is taken
            try:
                if mine and self._wait(lambda: self.qsize() + len(blobs) <= self._maxsize, deadline):
                    return self._send(blobs, _remaining(deadline))
            finally:
                if mine:
                    here.putting.release()
        raise queue.Full

    def _send(self, blobs: list[bytes], timeout: float | None) -> None:
        try:
            self._bus.send_many(((ITEMS, "put", "-", data) for data in blobs), timeout=timeout)
        except (eventbus.FullError, eventbus.InvalidError) as error:
            raise self._said(error) from error

    def _said(self, error: eventbus.EventBusError) -> Exception:
        """What the bus says, as a queue says it."""
        if isinstance(error, eventbus.FullError):
            return queue.Full()
        if "limit" not in error.details:
            return error
        return eventbus.InvalidError(
            f"{error.details['size']} bytes are too many for the queue {self.name!r}: one item may take"
            f" {error.details['limit']} bytes, a quarter of its capacity, and what is put together must fit into"
            " it; make the queue with a larger capacity=",
            **error.details,
        )

    # --- get ---

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """The next item. Once this has returned it is nobody else's; until then it comes again if this process dies.

        Args:
            block: wait for one.
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            queue.Empty: none came in time.
            ValueError: the queue is closed here.
            Exception: of an item that cannot be unpickled, whatever that raises; it is gone then.
        """
        seconds = _seconds(block, timeout)
        for (item,) in self._get(loaded_or_broken, 1, seconds):
            if item.__class__ is Broken:  # no call: where a signal handler raises as one returns, the item is lost
                raise item.__cause__ or item
            return item  # type: ignore[no-any-return]
        raise self._nothing(seconds)

    def get_nowait(self) -> T:
        """``get`` that does not wait."""
        return self.get(False)

    def get_many(self, limit: int, timeout: float | None = None) -> list[T]:
        """The next 1 to ``limit`` items, at most 256, without waiting for more than the first.

        Raises:
            Exception: as ``get``.
        """
        try:
            for items in self._get(loaded, min(limit, MOST_AT_ONCE), _seconds(True, timeout)):
                return items
        except Broken:  # alone it raises what it has to; those before it come one by one
            return [self.get(False)]
        raise self._nothing(timeout)

    def _get(self, read: Callable[[Event], Any], limit: int, seconds: float | None) -> Iterable[list[Any]]:
        here = self._ends()
        taking = here.member.take(read, limit, seconds)
        return self._telling(here, taking) if self._maxsize else taking

    def _telling(self, here: Ends, taking: Iterable[list[Any]]) -> Iterable[list[Any]]:
        """The same, each told to whoever waits for room, which a signal handler may keep from being handed out."""
        yield from here.again()
        for values in taking:
            try:
                self._tell()
            except BaseException:
                here.kept.extend(values)
                raise
            yield values

    def _nothing(self, seconds: float | None) -> Exception:
        """The time was up; nothing without a limit of time means the end."""
        if seconds is not None and not self._ends().member.closed:
            return queue.Empty()
        self._check_open()
        return eventbus.ClosedError(f"the queue {self.name!r} is gone: its bus was shut down or removed")

    # --- sizes ---

    def qsize(self) -> int:
        """How many items there are to get."""
        return int(self._ends().member.backlog)

    def empty(self) -> bool:
        """Whether there is nothing to get."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there are ``maxsize`` items."""
        return 0 < self._maxsize <= self.qsize()

    # --- the end ---

    def close(self) -> None:
        """This process is done with it. The last one who had it takes it along, with what is still in it."""
        self._closed = True
        here, self._here = self._here, None
        if here is not None and here.pid == os.getpid():
            here.member.leave(False)
        self._leaving()

    def join_thread(self) -> None:
        """Returns at once: there is no thread, what was put is in the queue."""
        if not self._closed:
            raise ValueError(f"{self!r} is not closed")

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread that the end of this process would wait for."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        popen: Any = multiprocessing.context.get_spawning_popen()
        if popen is not None:  # it is kept as long as this process knows the other, which has yet to open it
            popen.eventbus_queues = [*getattr(popen, "eventbus_queues", ()), pickle.loads(pickle.dumps(self._bus))]
        return _opened, (type(self), self._maxsize, self.name, self._capacity, self._bus.identity)

    # --- inside ---

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")

    def _ends(self) -> Ends:
        """This process's; one that was forked makes its own."""
        self._check_open()
        here = self._here
        if here is None or here.pid != os.getpid():
            made = Ends(self._bus, self._joinable)
            if self._here is not here:  # another thread was faster
                made.member.leave(False)
                return self._ends()
            here = self._here = made
        return here

    def _wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Waits until it is true of what is in the queue; whoever gets an item, or is done with one, says so."""
        if done():
            return True
        here = self._ends()
        if here.room is None:
            here.room = self._bus.subscribe(_ROOM, overflow="drop")
        while not done():
            left = _remaining(deadline)
            if left == 0:
                return False
            self._check_open()
            here.room.receive_many(MOST_AT_ONCE, _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS))
        return True

    def _tell(self) -> None:
        """Says that there may be room. It may find none in the ring: then nobody can have missed it."""
        with contextlib.suppress(eventbus.FullError):
            self._bus.send(_ROOM, "made", "-", timeout=0)


class JoinableQueue(Queue[T]):
    """A ``multiprocessing.JoinableQueue``: an item is its getter's until that says ``task_done``.

    One whose getter dies before that comes again, to another: ``join`` waits for what is done, and for nobody who is
    dead. A process may have 256 items that are not done.
    """

    _joinable = True

    def task_done(self) -> None:
        """The item that this process got first, of those that are not done, is done.

        Raises:
            ValueError: it got none that is not done.
        """
        self._check_open()
        here = self._ends()
        if not here.taken:
            raise ValueError("task_done() called too many times: it is called by the process that got the item")
        done = here.taken[0]
        with contextlib.suppress(eventbus.InvalidError):  # a signal handler raised after it was done: this is once more
            here.member.ack(done)
        here.coming[:] = [event for event in here.coming if event is not done]
        here.taken.popleft()
        self._tell()

    def join(self) -> None:
        """Waits until every item that was put is done."""
        self._check_open()
        self._wait(self._all_done, None)

    def _all_done(self) -> bool:
        (group,) = (one for one in self._bus.stats().groups if one.name == GETTERS)
        return group.backlog + group.in_hand + group.returned == 0

    def _get(self, read: Callable[[Event], Any], limit: int, seconds: float | None) -> Iterable[list[Any]]:
        here, deadline = self._ends(), _deadline(seconds)
        yield from here.again()
        items: list[Any] = []
        try:
            for mine in map(here.getting.acquire, (True,), (_left(deadline),)):  # owned in the step of its being taken
                try:
                    if mine:
                        items = self._take(here, read, limit, _remaining(deadline))
                finally:
                    if mine:
                        here.getting.release()
            if items and self._maxsize:
                self._tell()
        except BaseException:
            here.kept.extend(items)
            raise
        if items:
            yield items

    def _take(self, here: Ends, read: Callable[[Event], Any], limit: int, seconds: float | None) -> list[Any]:
        while here.coming:  # of a get that did not return
            if here.coming[-1] not in here.taken:
                with contextlib.suppress(eventbus.InvalidError):  # or was given back, before a signal handler raised
                    here.member.reject(here.coming[-1])
            here.coming.pop()
        here.member.claim_at_most(min(len(here.taken) + limit, MOST_AT_ONCE))
        here.coming.extend(here.member.receive_many(limit, seconds))
        items = [read(event) for event in here.coming]
        for _ in map(here.taken.extend, (tuple(here.coming),)):
            return items
        return []


def _opened(kind: type[Queue[Any]], maxsize: int, name: str, capacity: int, identity: str) -> Queue[Any]:
    """By pickle, in another process."""
    made = kind.__new__(kind)
    made._begin(maxsize, name, capacity, identity)
    return made


# --- time ---


def _seconds(block: bool, timeout: float | None) -> float | None:
    return (None if timeout is None else max(timeout, 0.0)) if block else 0.0


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _left(deadline: float | None) -> float:
    """As a lock has it."""
    return -1 if deadline is None else max(deadline - time.monotonic(), 0)


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
