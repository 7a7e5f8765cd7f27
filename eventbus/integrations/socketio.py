"""Socket.IO: client managers of python-socketio, by which servers in several processes share their clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import eventbus
from eventbus import Bus, ClosedError, Event, EventBusError, InvalidError, SegmentError, Subscription, UnavailableError

try:
    from socketio.async_pubsub_manager import AsyncPubSubManager
    from socketio.pubsub_manager import PubSubManager
except ModuleNotFoundError as error:
    raise UnavailableError("a client manager needs a library: pip install 'eventbus[socketio]'") from error

_KIND, _PATH = "message", "socketio"
_BATCH = 256
_PAUSE = 0.2  # seconds between two tries to hear, as where a bus was shut down and others have yet to leave it

_log = logging.getLogger("eventbus")
_starting = threading.RLock()
os.register_at_fork(after_in_child=_starting._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does it


class _Host:
    """What the managers of all processes know each other by: a forked child is another one than its parent, whose
    messages it would take for its own."""

    _drawn: tuple[int, str]  # by which process

    @property
    def host_id(self) -> str:
        pid, found = self._drawn
        if pid != os.getpid():
            with _starting:
                pid, found = self._drawn
                if pid != os.getpid():
                    self.host_id = found = uuid.uuid4().hex
        return found

    @host_id.setter
    def host_id(self, host_id: str) -> None:
        self._drawn = os.getpid(), host_id


class EventbusManager(_Host, PubSubManager):  # type: ignore[misc]  # comes without types
    """``socketio.Server(client_manager=EventbusManager("shop"))``, for threads and for gevent.

    What one server emits the others emit to their clients, too; a process without a server emits with
    ``EventbusManager("shop", write_only=True).emit(...)``. A server that stands still for a whole ring of messages
    misses the oldest, and logs how many. The bus is opened when it is used first, and again where it has ended; so a
    manager may be made before a fork.

    Args:
        bus: the name of a bus, or a ``Bus``.
        channel: the system of the bus to which messages go; all servers need the same.
        write_only, logger, json: as of ``socketio.PubSubManager``.

    Raises:
        InvalidError: no bus.
    """

    name = "eventbus"

    def __init__(
        self,
        bus: str | Bus = "socketio",
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)
        self._ear: _Ear | None = None
        self._line = _Line(bus, channel)

    def initialize(self) -> None:
        """Hears what is sent from now on.

        Raises:
            EventBusError, OSError: it cannot. Then the client is refused, and the next one tries again.
        """
        if not self.write_only:
            with _tried(self.server):
                self._line.subscription()
                self._ear = _Ear(self.server.async_mode)
                self._line.ear = self._ear
        super().initialize()

    def close(self) -> None:
        """Ends the thread that listens, and leaves the bus unless it was given as a ``Bus``."""
        self._line.left = True
        if self._ear is not None and self._ear.mine:
            self._ear.wake()
            self.thread.join()
            self._ear.close()
            self._ear = self._line.ear = None
        self._line.close()

    def _publish(self, data: Any) -> None:
        self._line.bus().send(self.channel, _KIND, _PATH, self.json.dumps(data).encode())

    def _thread(self) -> None:
        with contextlib.suppress(_Left):
            super()._thread()

    def _listen(self) -> Iterator[Any]:
        while not self._line.over:
            try:
                yield from self._heard(self._line.subscription())
            except (EventBusError, OSError) as error:
                self._check_left()
                self._line.tell(error)
                self.server.sleep(_PAUSE)

    def _heard(self, sub: Subscription) -> Iterator[Any]:
        assert self._ear is not None
        with self._ear.on(sub) as ear:
            while not sub.closed:
                try:
                    events = self._line.seen(sub, sub.receive_many(_BATCH, 0))
                except SegmentError as error:
                    events = self._line.passed_over(error)
                yield from (event.data for event in events)
                self._check_left()
                if not events and sub.arm():
                    ear.wait()

    def _check_left(self) -> None:
        if self._line.left:
            raise _Left


class AsyncEventbusManager(_Host, AsyncPubSubManager):  # type: ignore[misc]  # comes without types
    """``socketio.AsyncServer(client_manager=AsyncEventbusManager("shop"))``: as ``EventbusManager``, for asyncio."""

    name = "aioeventbus"

    def __init__(
        self,
        bus: str | Bus = "socketio",
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)
        self._line = _Line(bus, channel)

    def initialize(self) -> None:
        """Hears what is sent from now on.

        Raises:
            EventBusError, OSError: it cannot. Then the client is refused, and the next one tries again.
        """
        if not self.write_only:
            with _tried(self.server):
                self._line.subscription()
        super().initialize()

    async def close(self) -> None:
        """Ends the task that listens, and leaves the bus unless it was given as a ``Bus``."""
        self._line.left = True
        try:
            if (task := getattr(self, "thread", None)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        finally:
            await asyncio.to_thread(self._line.close)  # where somebody keeps a lock, the loop goes on

    async def _publish(self, data: Any) -> None:
        bus = await self._bus()
        await bus.asend(self.channel, _KIND, _PATH, self.json.dumps(data).encode())

    async def _bus(self) -> Bus:
        return await self._line.bus().__aenter__()  # where somebody keeps a lock, it is not yet open

    async def _listen(self) -> AsyncIterator[Any]:
        while not self._line.over:
            try:
                await self._bus()
                async for data in self._heard(self._line.subscription()):
                    yield data
            except (EventBusError, OSError) as error:
                self._line.tell(error)
                await asyncio.sleep(_PAUSE)

    async def _heard(self, sub: Subscription) -> AsyncIterator[Any]:
        while not sub.closed:
            try:
                events = self._line.seen(sub, await sub.areceive_many(_BATCH))
            except SegmentError as error:
                events = self._line.passed_over(error)
            for event in events:
                yield event.data


class _Left(BaseException):
    """The manager was closed. No ``Exception``: those the listening thread logs, and goes on."""


@contextlib.contextmanager
def _tried(server: Any) -> Iterator[None]:
    """What fails in it is tried again with the next client."""
    try:
        yield
    except BaseException:
        server.manager_initialized = False
        raise


class _Ear:
    """By what the listening thread waits, for a subscription or for another thread that wakes it.

    Raises:
        InvalidError: there is nothing by which a server of this mode could wait.
    """

    def __init__(self, mode: str) -> None:
        if mode == "eventlet":
            raise InvalidError("no client manager of eventbus waits in eventlet: use gevent or threading as async_mode")
        if mode in ("gevent", "gevent_uwsgi"):
            from gevent.selectors import DefaultSelector  # with or without its patches
        else:
            from selectors import DefaultSelector
        self._pid = os.getpid()
        self._ends = socket.socketpair()
        self._selector = DefaultSelector()
        self._selector.register(self._ends[0], selectors.EVENT_READ)
        self._ends[1].setblocking(False)

    @property
    def mine(self) -> bool:
        """Whether it is of this process, and not of the one that this was forked from."""
        return self._pid == os.getpid()

    @contextlib.contextmanager
    def on(self, sub: Subscription) -> Iterator[_Ear]:
        """It hears the subscription, too, which may be closed within."""
        watched = sub.fileno()
        self._selector.register(watched, selectors.EVENT_READ)
        try:
            yield self
        finally:
            self._selector.unregister(watched)

    def wait(self) -> None:
        """Waits for something."""
        if any(key.fileobj is self._ends[0] for key, _ in self._selector.select()):
            self._ends[0].recv(4096)

    def wake(self) -> None:
        """Whoever waits looks."""
        with contextlib.suppress(BlockingIOError):  # it was woken so often that it will look anyway
            self._ends[1].send(b"\0")

    def close(self) -> None:
        """Nobody waits any more."""
        self._selector.close()
        for end in self._ends:
            end.close()


class _Line:
    """The bus of a manager, and its subscription.

    Attributes:
        left: set by whoever wants no more of it.
        ear: of a thread that has to be told when another one closes its subscription.
    """

    def __init__(self, bus: str | Bus, system: str) -> None:
        if not isinstance(bus, (str, Bus)):
            raise InvalidError(f"bus must be the name of a bus or a Bus, not {bus!r}", bus=bus)
        self.left = False
        self.ear: _Ear | None = None
        self._given = bus
        self._system = system
        self._bus: Bus | None = bus if isinstance(bus, Bus) else None
        self._pid = os.getpid()  # which has opened the bus
        self._sub: Subscription | None = None
        self._lost = 0
        self._told: type[Exception] | None = None  # of what was logged last

    @property
    def over(self) -> bool:
        """Whether it has ended for good: a ``Bus`` that was given, and was closed or shut down."""
        return isinstance(self._given, Bus) and self._given.closed

    def bus(self) -> Bus:
        """One that is there.

        Raises:
            ClosedError: the manager was closed; or the bus was shut down, and somebody has it open still.
        """
        if (bus := self._bus) is not None and not self.left and self._is_there(bus):
            return bus
        with _starting:
            if self.left:
                raise ClosedError("this client manager was closed: make another one")
            if self._bus is None or not self._is_there(self._bus):
                self._leave()
                self._bus = self._opened(str(self._given))
            return self._bus

    def _opened(self, name: str) -> Bus:
        """Whoever keeps a bus that was shut down keeps all from making the next one, so it is left at once."""
        self._pid, self._bus = os.getpid(), eventbus.open(name)
        if self._bus.closed:
            self._leave()
            raise ClosedError(
                f"the bus {name!r} was shut down, and another process has it open still: wait until that has closed it,"
                " end it, or remove the name with eventbus.unlink()"
            )
        return self._bus

    def _is_there(self, bus: Bus) -> bool:
        return bus is self._given or (self._is_mine(bus) and not bus.closed)

    def _is_mine(self, bus: Bus) -> bool:
        """Not so after a fork by C; a child that Python forks has the bus of its parent, too."""
        return self._pid == os.getpid() or bus.usable

    def _leave(self) -> None:
        if self._bus is not None and self._bus is not self._given and self._is_mine(self._bus):
            self._bus.close()
            if self.ear is not None:
                self.ear.wake()

    def subscription(self) -> Subscription:
        """The one by which it listens; another one where it has ended."""
        with _starting:
            bus = self.bus()
            if self._sub is None or self._sub.closed:
                self._sub, self._lost = bus.subscribe(self._system, _KIND, overflow="drop", name="socketio"), 0
                self._told = None
            return self._sub

    def seen(self, sub: Subscription, events: list[Event]) -> list[Event]:
        """What was received; what was lost before it is logged."""
        if events and not sub.closed and (lost := sub.lost) != self._lost:
            _log.warning("%s events of the bus were lost: this server was a whole ring behind", lost - self._lost)
            self._lost = lost
        return events

    def passed_over(self, error: SegmentError) -> list[Event]:
        """Nothing, in place of what cannot be read."""
        if "sequence" not in error.details:
            raise error
        _log.warning("passed over what is no message of Socket.IO: %s", error.message)
        return []

    def tell(self, error: Exception) -> None:
        """Logs why nothing is heard, once for each kind of reason."""
        if self._told is not type(error):
            self._told = type(error)
            _log.warning("this server does not hear the others, and tries again: %s", error)

    def close(self) -> None:
        """Leaves for good."""
        with _starting:  # whoever opens it at this moment has done so then
            if self._sub is not None:
                self._sub.close()
            self._leave()
