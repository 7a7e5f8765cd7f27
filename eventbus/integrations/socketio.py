"""Socket.IO: client managers of python-socketio, by which servers in several processes share their clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import eventbus
from eventbus import Bus, ClosedError, Event, InvalidError, SegmentError, Subscription, UnavailableError

try:
    from socketio.async_pubsub_manager import AsyncPubSubManager
    from socketio.pubsub_manager import PubSubManager
except ModuleNotFoundError as error:
    raise UnavailableError("a client manager needs a library: pip install 'eventbus[socketio]'") from error

_KIND, _PATH = "message", "socketio"
_BATCH = 256
_PAUSE = 0.2  # seconds between two tries to open a bus that was shut down and that others have not left yet

_log = logging.getLogger("eventbus")


class EventbusManager(PubSubManager):  # type: ignore[misc]  # comes without types
    """``socketio.Server(client_manager=EventbusManager("shop"))``, for threads and for gevent.

    What one server emits the others emit to their clients, too; a process without a server emits with
    ``EventbusManager("shop", write_only=True).emit(...)``. A server that stands still for a whole ring of messages
    misses the oldest, and logs how many. The bus is opened when it is used first, and again where it has ended.

    Args:
        bus: the name of a bus, or a ``Bus``.
        channel: the system of the bus to which messages go; all servers need the same.
        write_only, logger, json: as of ``socketio.PubSubManager``.
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
        self._line = _Line(bus, channel)
        self._told: tuple[socket.socket, socket.socket] | None = None

    def initialize(self) -> None:
        """Hears what is sent from now on."""
        if not self.write_only:
            self._line.subscription()
            self._told = socket.socketpair()
        super().initialize()

    def close(self) -> None:
        """Ends the thread that listens, and leaves the bus unless it was given as a ``Bus``."""
        self._line.left = True
        told, self._told = self._told, None
        if told is not None:
            told[1].send(b"\0")
            self.thread.join()
            for end in told:
                end.close()
        self._line.close()

    def _publish(self, data: Any) -> None:
        self._line.bus().send(self.channel, _KIND, _PATH, self.json.dumps(data).encode())

    def _thread(self) -> None:
        with contextlib.suppress(_Left):
            super()._thread()

    def _listen(self) -> Iterator[Any]:
        while True:
            try:
                yield from self._heard(self._line.subscription())
            except ClosedError:  # others have yet to leave the bus that was shut down
                self.server.sleep(_PAUSE)

    def _heard(self, sub: Subscription) -> Iterator[Any]:
        """Waits by ``selectors``, which gevent puts its own in place of."""
        assert self._told is not None
        with selectors.DefaultSelector() as selector:
            selector.register(sub, selectors.EVENT_READ)
            selector.register(self._told[0], selectors.EVENT_READ)
            while True:
                events = self._line.taken(sub)
                yield from (event.data for event in events)
                if self._line.left:
                    raise _Left
                if not events and sub.closed:
                    return
                if not events and sub.arm():
                    selector.select()


class AsyncEventbusManager(AsyncPubSubManager):  # type: ignore[misc]  # comes without types
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
        """Hears what is sent from now on."""
        if not self.write_only:
            self._line.subscription()
        super().initialize()

    async def close(self) -> None:
        """Ends the task that listens, and leaves the bus unless it was given as a ``Bus``."""
        self._line.left = True
        task = getattr(self, "thread", None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._line.close()

    async def _publish(self, data: Any) -> None:
        await self._line.bus().asend(self.channel, _KIND, _PATH, self.json.dumps(data).encode())

    async def _listen(self) -> AsyncIterator[Any]:
        while True:
            try:
                async for data in self._heard(self._line.subscription()):
                    yield data
            except ClosedError:  # others have yet to leave the bus that was shut down
                await asyncio.sleep(_PAUSE)

    async def _heard(self, sub: Subscription) -> AsyncIterator[Any]:
        while (event := await sub.areceive()) is not None:
            yield event.data
            for more in self._line.taken(sub):
                yield more.data


class _Left(BaseException):
    """The manager was closed. No ``Exception``: those the listening thread logs, and goes on."""


class _Line:
    """The bus of a manager, and its subscription."""

    def __init__(self, bus: str | Bus, system: str) -> None:
        if not isinstance(bus, (str, Bus)):
            raise InvalidError(f"bus must be the name of a bus or a Bus, not {bus!r}", bus=bus)
        self.left = False
        self._given = bus
        self._system = system
        self._bus: Bus | None = bus if isinstance(bus, Bus) else None
        self._sub: Subscription | None = None
        self._lost = 0
        self._opening = threading.RLock()

    def bus(self) -> Bus:
        """One that is there.

        Raises:
            ClosedError: it was shut down, and somebody has it open still.
        """
        bus = self._bus
        if bus is not None and (bus is self._given or (bus.usable and not bus.closed)):
            return bus
        with self._opening:
            if self._bus is None or self._bus.closed or not self._bus.usable:
                if self._bus is not None and self._bus.usable:
                    self._bus.close()
                self._bus = eventbus.open(str(self._given))
            return self._bus

    def subscription(self) -> Subscription:
        """The one by which it listens; another one where it has ended."""
        with self._opening:
            bus = self.bus()
            if self._sub is None or self._sub.closed:
                self._sub, self._lost = bus.subscribe(self._system, _KIND, overflow="drop", name="socketio"), 0
            return self._sub

    def taken(self, sub: Subscription) -> list[Event]:
        """What there is; what cannot be read is logged and passed over."""
        try:
            events = sub.receive_many(_BATCH, 0)
        except SegmentError as error:
            if "sequence" not in error.details:
                raise
            _log.warning("passed over what is no message of Socket.IO: %s", error.message)
            return []
        if events and not sub.closed and (lost := sub.lost) != self._lost:
            _log.warning("%s events of the bus were lost: this server was a whole ring behind", lost - self._lost)
            self._lost = lost
        return events

    def close(self) -> None:
        """Leaves."""
        if self._sub is not None:
            self._sub.close()
        if self._bus is not None and self._bus is not self._given:
            self._bus.close()
