"""Asks: requests to systems that programs of another host answer, over the servers' own requests; nothing is stored.

**A host that asks** hears what is requested here and puts it to the hosts that serve, of whom one gets it. While none
of them has anybody who would hear it, it is put again, until the asker has no time left: then that gets the error which
a request without subscribers gets. What is answered with an error is one for the asker, a ``RemoteError``; so is the
end of the connection, as nobody knows then whether it was handled.

**A host that serves** makes the request on its own bus, and gives it the time that the asker has left. Its own
requests stay at home.

A host's user at the servers may, to ask, publish to ``eba.<domain>.<origin>.>`` and subscribe to
``_INBOX.<domain>.<origin>.>``; to serve, subscribe to ``eba.<domain>.*.>`` and publish to ``_INBOX.>``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from nats.aio.subscription import Subscription as Remote

from eventbus.audience import would_hear
from eventbus.bridge import messages, subjects
from eventbus.bridge.config import Config
from eventbus.bridge.filters import filters, overlap
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.link import Arrived, Link, LinkError, fields
from eventbus.bridge.messages import Stamp
from eventbus.bridge.names import group_of
from eventbus.bridge.queues import label_of
from eventbus.bridge.source import is_own
from eventbus.bridge.waiting import cancel
from eventbus.bus import Bus
from eventbus.core.attachment import Occupant
from eventbus.errors import EventBusError, InvalidError, RemoteError, SegmentError, UnavailableError
from eventbus.event import OPTIONS, Brought, Event, dumps, loads
from eventbus.patterns import compile_any, compile_joined
from eventbus.request import INBOXES, Request
from eventbus.subscription import Subscription

ANSWER: Final = "Eb-Answer"
LEFT: Final = "Eb-Left"
"""Headers: what kind of answer it is, and how many seconds the asker has left, "inf" for ever."""

JSON, BYTES, FAILED, NOBODY = "j", "b", "error", "nobody"

MOST: Final = 1024
"""Requests that a bridge has under way at once, each way."""

LOOK: Final = 0.25
"""Seconds between two looks at who is on the bus of a host that serves."""

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.5
"""Seconds between two tries while nobody is there who would hear a request."""

_NAME: Final = "bridge ask"
_PREFIX: Final = "eba"
_ONE_OF_ALL: Final = "eventbus"  # the queue group of all that serve


class Asks(Flow):
    """The requests of one bus to others, and of others to it."""

    way = "ask"

    def __init__(self, bus: Bus, config: Config, states: States, stamp: Stamp) -> None:
        super().__init__(bus, config, states)
        self._stamp = stamp
        self._asked = [system for ask in config.asks if not ask.serve for system in ask.systems]
        self._served = [system for ask in config.asks if ask.serve for system in ask.systems]
        self._serves = compile_any(self._served) if self._served else None
        self._own = {_NAME, group_of(config.origin), *(label_of(queue.name) for queue in config.queues)}
        self._tasks: set[asyncio.Task[None]] = set()

    async def _carry(self, link: Link) -> None:
        try:
            if self._served:
                self._begin(self._serve(link))
            if self._asked:
                await self._ask_all(link)
            self._running()
            await link.ended
            link.check()
        finally:
            await cancel([*self._tasks])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- a host that asks ---

    async def _ask_all(self, link: Link) -> None:
        """Puts what is requested here to others, until the connection is gone."""
        overflow: Any = self._config.when_full
        with self._bus.subscribe(self._asked, overflow=overflow, name=_NAME, _local=True) as sub:
            self._running()
            while True:
                for event in await self._next(sub, link):
                    self._ask_soon(event, link)

    async def _next(self, sub: Subscription, link: Link) -> list[Event]:
        """The next events, or LinkError when the connection is gone."""
        waiting = asyncio.ensure_future(sub.areceive_many(self._config.window))
        try:
            await asyncio.wait((waiting, link.ended), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                link.check()
            return waiting.result()
        except SegmentError:  # of one that cannot be read; whoever asked finds nobody
            return []
        finally:
            waiting.cancel()

    def _ask_soon(self, event: Event, link: Link) -> None:
        at_home = self._serves is not None and self._serves.matches(event.system)
        if not isinstance(event, Request) or is_own(event.system) or at_home:
            return
        if len(self._tasks) >= MOST:
            self._fail(event, f"the bridge has {MOST} requests under way: ask again later")
        else:
            self._begin(self._ask(event, link))

    async def _ask(self, request: Request, link: Link) -> None:
        """Puts one request to the hosts that serve, and gives the answer to the asker."""
        try:
            answer = await self._answer_to(request, link)
            if answer is not None:
                await self._give(request, answer)
        except LinkError as error:
            self._fail(request, f"nobody knows whether it was handled: {error.message}")
        except asyncio.CancelledError:
            self._fail(request, "nobody knows whether it was handled: the bridge has lost the servers, or ends")
            raise
        except EventBusError as error:  # of a bus that is full or gone: the asker finds that out
            self._health.say("ask", f"a request could not be answered: {error.message}")

    async def _answer_to(self, request: Request, link: Link) -> Arrived | None:
        """The answer; None when the asker has no time left."""
        config, pause = self._config, FIRST_PAUSE
        subject = subjects.subject(config.domain, config.origin, request.system, request.kind)
        headers, payload = messages.headers_of(request, self._stamp), messages.payload_of(request)
        while (left := _left(request)) > 0:
            headers[LEFT] = f"{left:.6f}"
            if not link.fits(headers, payload):
                self._fail(
                    request, f"it is larger than the {link.max_payload} bytes that the servers take", "InvalidError"
                )
                return None
            reply, answer = link.expect()
            await link.publish(_moved(subject, subjects.PREFIX, _PREFIX), payload, headers, reply)
            seconds = None if left == math.inf else left
            await asyncio.wait((answer, link.ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            link.check()
            if not answer.done():
                answer.cancel()
                return None
            if not _is_nobody(answer.result()):
                return answer.result()
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    async def _give(self, request: Request, answer: Arrived) -> None:
        form = fields(answer.headers).get(ANSWER)
        try:
            data: Any = answer.payload if form == BYTES else loads(answer.payload)
            if form in (JSON, BYTES):
                await request.areply(data)
            elif form == FAILED:
                await request.afail(str(data["type"]), str(data["message"]))
            else:
                raise ValueError(f"it is an answer of the kind {form!r}")
        except (ValueError, TypeError, KeyError, InvalidError) as error:
            self._fail(request, f"the answer cannot be read: {error}", "SegmentError")

    def _fail(self, request: Request, why: str, kind: str = "UnavailableError") -> None:
        with contextlib.suppress(EventBusError):  # the asker finds nobody, then
            request.fail(kind, why, patient=False)

    # --- a host that serves ---

    async def _serve(self, link: Link) -> None:
        """Listens at the servers for as long as there is somebody here who would hear."""
        wanted = filters(self._config.domain, "*", self._served)
        listening: list[Remote] = []
        with contextlib.suppress(LinkError):  # which all see
            while not link.ended.done():
                if not self._has_audience(wanted):
                    while listening:
                        await link.call(listening.pop().unsubscribe())
                elif not listening:
                    for subject in wanted:
                        asked = _moved(subject, subjects.PREFIX, _PREFIX)
                        listening.append(await link.listen(asked, self._answerer(link), _ONE_OF_ALL))
                await asyncio.wait((link.ended,), timeout=LOOK)

    def _has_audience(self, wanted: Sequence[str]) -> bool:
        theirs = [compile_joined(one.system).texts for one in self._others()]
        heard = filters(self._config.domain, "*", [text for texts in theirs for text in texts]) if theirs else ()
        return any(overlap(one, other) for one in wanted for other in heard)

    def _others(self) -> list[Occupant]:
        """Who is on the bus, but for bridges and those who wait for answers."""
        occupants = self._bus._open_handle().occupants()
        return [one for one in occupants if one.name not in self._own and not one.system.startswith(INBOXES)]

    def _answerer(self, link: Link) -> Any:
        """What is called with each request of another host."""

        def came(raw: Arrived) -> None:
            full = len(self._tasks) >= MOST
            self._begin(self._say(link, raw, NOBODY, b"") if full else self._answer(link, raw))

        return came

    async def _answer(self, link: Link, raw: Arrived) -> None:
        """Makes the request here, and tells the other host what came of it."""
        try:
            form, payload = await self._asked_here(raw)
        except UnavailableError as error:
            if type(error) is UnavailableError:  # nobody answered in time, and nobody waits any more
                return
            form, payload = _failed(type(error).__name__, error.message)
        except RemoteError as error:
            form, payload = _failed(error.details["type"], error.details["text"])
        except EventBusError as error:
            form, payload = _failed(type(error).__name__, error.message)
        if not link.fits({ANSWER: form}, payload):
            size = len(payload)
            form, payload = _failed("InvalidError", f"the answer has {size} bytes, more than the servers take")
        await self._say(link, raw, form, payload)

    async def _asked_here(self, raw: Arrived) -> tuple[str, bytes]:
        """What kind of answer there is, and the answer."""
        headers = fields(raw.headers)
        event = messages.read(_moved(raw.subject, _PREFIX, subjects.PREFIX), headers, raw.payload).event
        if not self._is_heard(event):
            return NOBODY, b""
        seconds = _seconds(headers.get(LEFT, ""))
        answer = await self._bus.arequest(*event[:4], timeout=seconds, headers=event.headers or None)
        return (BYTES, answer) if type(answer) is bytes else (JSON, dumps(answer, None, OPTIONS))

    def _is_heard(self, event: Brought) -> bool:
        """Whether it is for this host, and anybody hears it."""
        mine = self._serves is not None and self._serves.matches(event.system)
        return mine and any(would_hear(one.system, event.system) for one in self._others())

    async def _say(self, link: Link, raw: Arrived, form: str, payload: bytes) -> None:
        with contextlib.suppress(LinkError):  # then the other host knows it, too
            await link.publish(raw.reply, payload, {ANSWER: form})


def _moved(subject: str, old: str, new: str) -> str:
    return new + subject.removeprefix(old)


def _is_nobody(answer: Arrived) -> bool:
    said = fields(answer.headers)
    return said.get("Status") == "503" or said.get(ANSWER) == NOBODY


def _left(request: Request) -> float:
    """Seconds that the asker has left."""
    return math.inf if request.deadline is None else request.deadline - time.monotonic()


def _seconds(left: str) -> float | None:
    """The timeout that a header says."""
    try:
        seconds = float(left)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds) or seconds < 0:
        raise InvalidError(f"its header {LEFT!r} is {left[:40]!r}", reason="foreign")
    return None if seconds == math.inf else seconds


def _failed(kind: str, message: str) -> tuple[str, bytes]:
    return FAILED, dumps({"type": kind, "message": message}, None, OPTIONS)
