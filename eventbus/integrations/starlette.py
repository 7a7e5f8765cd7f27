"""Starlette, and FastAPI: what is sent on a bus, for the pages that the workers of a prefork server have open."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import signal
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Any, Final, NamedTuple

import eventbus
from eventbus import ClosedError, InvalidError, SegmentError, UnavailableError

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.types import Send
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ModuleNotFoundError as error:
    raise UnavailableError("web servers need a library: pip install 'eventbus[web]'") from error

BATCH: Final = 256
RETRY: Final = (250, 750)
"""Milliseconds after which a page connects anew, drawn for each one: those of a dead worker do not all come at once."""

_RESTARTING: Final = 1012  # why a web socket is closed: the service restarts, and the page is to connect anew
_ENDING: Final[tuple[int, ...]] = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the latter tells nginx not to keep it back
_LINES: Final = re.compile("\r\n|\r|\n")  # where server-sent events have ends of lines, and nowhere else

Wanted = str | list[str]


class Lost(NamedTuple):
    """Stands where something is missing.

    Attributes:
        most: how many events that may be; None where nobody knows, because what the page had is of another bus.
    """

    most: int | None


class _Missed(NamedTuple):
    """What a page is told first, and the number of the last event that is in it."""

    told: list[eventbus.Event | Lost]
    last: int


class Broadcast:
    """What is sent on a bus, for any number of pages: by server-sent events and by web sockets.

    Each worker of the server has one. It takes a subscriber slot while pages are connected, and another one for the
    moment in which a page that connects catches up. A page that comes anew gets the last events that the ring has kept;
    one that comes again, to whichever worker, gets all since the last one that it had.
    """

    def __init__(
        self,
        bus: str | eventbus.Bus,
        system: Wanted,
        kind: Wanted | None = None,
        *,
        history: int = 100,
        limit: int = 1000,
        beat: float = 15.0,
        text: Callable[[eventbus.Event, str], str] | None = None,
    ) -> None:
        """Opens nothing yet, so it may be made before the server forks.

        Args:
            bus: its name: each worker opens it when it starts, and leaves it when it ends. Or a bus, which is used as
                it is, also in workers that are forked later.
            system, kind: as in ``Bus.subscribe``.
            history: how many past events a page gets that comes anew.
            limit: how many events wait for one page. One for which more come is cut off; when it comes again it gets
                what it missed.
            beat: seconds without events after which a comment keeps a connection alive.
            text: what makes the text of an event and its id; ``as_json`` if left out.

        Raises:
            InvalidError: ``history`` or ``beat`` is none.
        """
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise InvalidError(f"history must be a number of events from 0, not {history!r}", history=history)
        if isinstance(beat, bool) or not isinstance(beat, (int, float)) or not beat > 0:
            raise InvalidError(f"beat must be seconds above 0, not {beat!r}", beat=beat)
        self._given = bus
        self._wanted = (system, kind)
        self._history = history
        self._limit = limit
        self._beat = beat
        self._text = text or as_json
        self._identity = ""  # of the bus, known also to pages that get their last events while the worker ends
        self._bus: eventbus.Bus | None = None
        self._fanout: eventbus.Fanout | None = None

    @property
    def bus(self) -> eventbus.Bus:
        """The bus of this worker, to send with.

        Raises:
            ClosedError: the worker has not started, or has ended.
        """
        return self._running()[0]

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """The life of a worker: ``Starlette(lifespan=broadcast.lifespan)``, or inside of a lifespan of one's own.

        When the server tells the worker to end, pages are sent away at once, to connect to another one: a server that
        waits for its connections would wait for them, for they never end by themselves.
        """
        async with AsyncExitStack() as held:
            bus = self._given
            if not isinstance(bus, eventbus.Bus):
                bus = await held.enter_async_context(eventbus.open(bus))
            fanout = held.enter_context(eventbus.Fanout(bus, *self._wanted, limit=self._limit, overflow="close"))
            self._bus, self._fanout, self._identity = bus, fanout, bus.identity
            held.enter_context(_before_the_end(fanout.close))
            try:
                yield
            finally:
                self._bus = self._fanout = None

    async def hear(self, after: str | None = None) -> AsyncGenerator[eventbus.Event | Lost, None]:
        """What a page is to be told: first what it has missed, then what is sent, without a gap between the two.

        Args:
            after: the id of the last event that the page had, as of ``id_of``; None for a page that comes anew.

        Yields:
            Events; a ``Lost`` in front of them, where some that the page would have had are gone. The end comes when
            the bus is shut down, the worker ends, or the page is too slow.
        """
        bus, fanout = self._running()
        try:
            listener = fanout.listen()
        except ClosedError:  # the worker is about to end
            return
        async with listener as events:
            missed = await self._missed(bus, after)
            for one in missed.told:
                yield one
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except SegmentError as error:
                    if _number(error) > missed.last:
                        yield Lost(1)
                else:
                    if event.sequence > missed.last:
                        yield event

    def id_of(self, event: eventbus.Event) -> str:
        """The name of an event for pages: of which bus, and which one."""
        return f"{self._identity or self.bus.identity}-{event.sequence}"

    async def events(self, request: Request) -> Response:
        """The endpoint of server-sent events: ``Route("/events", broadcast.events)``.

        A browser that comes again says what it had last in ``Last-Event-ID``; ``?after=`` does the same.
        """
        return _Stream(self._texts(_after(request)), self._beat)

    async def socket(self, socket: WebSocket, said: Callable[[str], Awaitable[object]] | None = None) -> None:
        """The endpoint of web sockets: ``WebSocketRoute("/socket", broadcast.socket)``.

        Args:
            socket: it is accepted here. ``?after=`` is the id of the last event that the page had.
            said: called with each text that the page sends.
        """
        await socket.accept()
        await _until_one_ends(self._tell(socket), _listen(socket, said))

    def _running(self) -> tuple[eventbus.Bus, eventbus.Fanout]:
        if self._bus is None or self._fanout is None:
            raise ClosedError("this worker has not started: give the application lifespan=broadcast.lifespan")
        return self._bus, self._fanout

    async def _missed(self, bus: eventbus.Bus, after: str | None) -> _Missed:
        start = _start(bus, after)
        anew = start is None
        told: deque[eventbus.Event | Lost] = deque(maxlen=self._history if anew else None)
        last = 0
        async with bus.subscribe(*self._wanted, start=start or "oldest", overflow="drop", name="catching up") as past:
            while True:
                try:
                    events = await past.areceive_many(BATCH, timeout=0)
                except SegmentError as error:
                    last = _number(error)
                    told.append(Lost(1))
                    continue
                if not events:
                    break
                last = events[-1].sequence
                told.extend(events)
            lost = past.lost
        gap = [] if after is None else [Lost(None)] if anew else [Lost(lost)] if lost else []
        return _Missed([*gap, *told], last)

    async def _texts(self, after: str | None) -> AsyncGenerator[str, None]:
        yield f"retry: {random.randint(*RETRY)}\n\n"
        async with aclosing(self.hear(after)) as heard:
            async for one in heard:
                yield self._framed(one)

    def _framed(self, one: eventbus.Event | Lost) -> str:
        if isinstance(one, Lost):
            return f"event: lost\ndata: {json.dumps(one.most)}\n\n"
        name = self.id_of(one)
        lines = "".join(f"data: {line}\n" for line in _LINES.split(self._text(one, name)))
        return f"id: {name}\n{lines}\n"

    async def _tell(self, socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):  # when the page is gone
            async with aclosing(self.hear(_after(socket))) as heard:
                async for one in heard:
                    if isinstance(one, Lost):
                        await socket.send_text(json.dumps({"lost": one.most}))
                    else:
                        await socket.send_text(self._text(one, self.id_of(one)))
            await socket.close(_RESTARTING)


class _Stream(StreamingResponse):
    """Server-sent events, and a comment whenever there were none for a while.

    A timer of the whole stream tells when: one for each event would cost more than the event.
    """

    def __init__(self, texts: AsyncGenerator[str, None], beat: float) -> None:
        super().__init__(texts, headers=_HEADERS, media_type="text/event-stream")
        self._texts, self._beat, self._told = texts, beat, 0.0

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _until_one_ends(self._tell(send), self._keep_alive(send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        async with aclosing(self._texts) as texts:
            async for text in texts:
                self._told = now()
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def _keep_alive(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        self._told = now()
        while True:
            await asyncio.sleep(self._told + self._beat - now())
            if now() >= self._told + self._beat:
                self._told = now()
                await send({"type": "http.response.body", "body": b": nothing new\n\n", "more_body": True})


async def _until_one_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Does all at once until one of them ends, then ends the others; raises what that one raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _listen(socket: WebSocket, said: Callable[[str], Awaitable[object]] | None) -> None:
    async for text in socket.iter_text():
        if said is not None:
            await said(text)


def as_json(event: eventbus.Event, name: str) -> str:
    """The event as a JSON object, with its id; raw bytes are its ``base64`` instead of its ``data``."""
    fields = {"id": name, "system": event.system, "kind": event.kind, "path": event.path}
    raw = isinstance(event.data, bytes)
    content = {"base64": base64.b64encode(event.data).decode()} if raw else {"data": event.data}
    return json.dumps({**fields, **content, "time": event.time, "sender": event.sender}, ensure_ascii=False)


def _after(connection: HTTPConnection) -> str | None:
    return connection.headers.get("last-event-id") or connection.query_params.get("after") or None


def _start(bus: eventbus.Bus, after: str | None) -> int | None:
    """The number of the event that follows the named one; None where that is not one of this bus."""
    identity, _, number = (after or "").rpartition("-")
    if identity != bus.identity or not (number.isascii() and number.isdigit()):
        return None
    return int(number) + 1 if int(number) <= bus.stats().sent else None


def _number(error: SegmentError) -> int:
    """Of the event that cannot be read; raises the error where it is of more than one event."""
    if "sequence" not in error.details:
        raise error
    return int(error.details["sequence"])


@contextmanager
def _before_the_end(do: Callable[[], object]) -> Iterator[None]:
    """Calls it in the event loop when a signal tells the server to end, beside what the server does then.

    No server tells an application before all of its connections have ended. Where the server has no handler of a
    signal, or runs in another thread, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    known = {number: signal.getsignal(number) for number in _ENDING}
    servers = {number: handler for number, handler in known.items() if callable(handler)}

    def told(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(do)
        servers[number](number, frame)

    for number in servers:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in servers.items():
            if signal.getsignal(number) is told:
                signal.signal(number, handler)
