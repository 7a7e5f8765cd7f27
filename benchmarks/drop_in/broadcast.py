"""A broadcast from one web worker to all: to their coroutines, to pages by way of uvicorn, and past a `kill -9`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from functools import partial
from typing import Any

import orjson

from benchmarks.crew import Control, Crew, cpu_seconds
from benchmarks.latency import Timing
from benchmarks.load import PROBE, SYSTEM, JsonLoad, wrong
from benchmarks.peer import Peer, Topology
from benchmarks.peers import peer_of
from benchmarks.report import Report
from benchmarks.session import Session

Measure = Callable[[Peer, int, int], Timing]
"""Of a peer, so many events, at so many a second."""

REDIS = "redis pub/sub"
WORKERS = 4
"""Of the server: one whose handler sends, and those that hear."""

_MODULES = {"eventbus": "broadcast_bus", REDIS: "broadcast_redis"}
_RATES = (100, 1_000)
_AGAIN = 0.01  # seconds after which what has not begun is tried again
_KILLED_RATE = 1_000


def entrants() -> list[Peer]:
    """Return eventbus and redis; the absent one with the reason."""
    return [peer_of(name, module, "benchmarks.drop_in") for name, module in _MODULES.items()]


def to_workers(session: Session) -> Report:
    """From before a handler's send in one web worker to the coroutines of the three others, at 100 and 1,000/s."""
    note = f"from before the send in one worker's event loop to a coroutine in each of {WORKERS - 1} others"
    return _timed(session, "broadcast", note, in_workers)


def to_pages(session: Session) -> Report:
    """From before a handler's send in one web worker to pages of three uvicorns, by server-sent events."""
    note = f"from before the send in one worker to pages of {WORKERS - 1} others, by server-sent events of uvicorn"
    return _timed(session, "broadcast-pages", note, in_pages)


def killed(session: Session) -> Report:
    """What becomes of a broadcast when a web worker dies by `kill -9`, and its page goes to another one at once."""
    settings = session.settings
    events = settings.events or (200 if settings.quick else 2_000)
    note = f"{events:,} events at {_KILLED_RATE:,}/s; the page of a killed worker connects to another at once"
    return session.each("broadcast-killed", note, "kill -9", partial(past_a_kill, events=events))


def _timed(session: Session, name: str, note: str, measure: Measure) -> Report:
    settings = session.settings
    rates = {f"{rate:,}/s": rate for rate in (_RATES[:1] if settings.quick else _RATES)}

    def timed(peer: Peer, case: str) -> Timing:
        events = settings.events or (20 if settings.quick else max(rates[case], 300))
        return measure(peer, events, rates[case])

    return session.latency(name, note, rates, timed)


def in_workers(peer: Peer, events: int, rate: int) -> Timing:
    """Measure the way into the coroutine of each other worker, of so many events at ``rate`` a second."""
    with peer.connect(_topology()) as medium, Crew() as crew:
        crew.start(f"{peer.name} handler", _tell, medium, events, rate)
        for _ in range(1, WORKERS):
            crew.start(f"{peer.name} worker", _run, _take_in_worker, medium, events)
        return _led(crew, medium)


def in_pages(peer: Peer, events: int, rate: int) -> Timing:
    """Measure the way into pages, one of each other worker, which one process has."""
    with peer.connect(_topology()) as medium, Crew() as crew:
        for index in range(1, WORKERS):
            crew.start(f"{peer.name} worker", _run, _serve_until_told, medium, index)
        crew.start(f"{peer.name} handler", _tell, medium, events, rate)
        crew.start(f"{peer.name} pages", _run, _take_in_pages, medium, events)
        return _led(crew, medium)


def past_a_kill(peer: Peer, events: int) -> dict[str, float]:
    """Kill the worker of a page amid so many events; count what the page missed, and what it got twice."""
    with peer.connect(_topology()) as medium, _alone(medium, 1) as victim, Crew() as crew:
        crew.start(f"{peer.name} worker", _run, _serve_until_told, medium, 2)
        crew.start(f"{peer.name} handler", _tell, medium, events, _KILLED_RATE)
        crew.start(f"{peer.name} page", _run, _move, medium, events, victim)
        crew.meet("begun")
        crew.meet("complete")
        crew.gather("spent")
        *_, (seen, longest) = crew.results()
    return {"sent": events, "missed": events - len(set(seen)), "twice": len(seen) - len(set(seen)), "gap ms": longest}


def _topology() -> Topology:
    return Topology(1, (SYSTEM,), JsonLoad().size)


def _led(crew: Crew, medium: Any) -> Timing:
    """Lead a crew from "begun" to its end; those of its bodies that hear return their times."""
    crew.meet("begun")
    server = medium.server_seconds()
    crew.meet("complete")
    cpu = medium.server_seconds() - server + sum(crew.gather("spent"))
    times = array("q")
    for result in crew.results():
        times.extend(result or ())
    return Timing(times, cpu)


def _run(control: Control, body: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    return asyncio.run(body(control, *arguments))


async def _ended(control: Control, before: float) -> None:
    """Ends the measurement, while the loop runs on for those who are not at its end."""
    await asyncio.to_thread(control.meet, "complete")
    control.post("spent", cpu_seconds() - before)


# --- the workers ---


def _tell(control: Control, medium: Any, events: int, rate: int) -> None:
    asyncio.run(_told(control, medium.hub(), events, 1 / rate))


async def _told(control: Control, hub: Any, events: int, every: float) -> None:
    load = JsonLoad()
    async with hub.running():
        control.post("begun")
        while not control.answered(0):  # until all have heard one
            for data in load.events(0, [PROBE]):
                await hub.send(data)
            await asyncio.sleep(_AGAIN)
        control.answer()
        before, start = cpu_seconds(), time.monotonic()
        for number, data in enumerate(load.events(0, range(events))):
            await asyncio.sleep(start + number * every - time.monotonic())
            data["sent"] = time.monotonic_ns()
            await hub.send(data)
        await _ended(control, before)


async def _take_in_worker(control: Control, medium: Any, events: int) -> array[int]:
    hub = medium.hub()
    async with hub.running(), aclosing(hub.hear()) as messages:
        await anext(messages)
        control.meet("begun")
        before = cpu_seconds()
        times = await _arrivals(messages, events)
        await _ended(control, before)
    return times


async def _arrivals(messages: AsyncIterator[Any], events: int) -> array[int]:
    times, now = array("q"), time.monotonic_ns
    async for data in messages:
        if data["number"] == PROBE:
            continue
        times.append(now() - data["sent"])
        if data["number"] != len(times) - 1:
            raise wrong(len(times) - 1, data["number"])
        if len(times) == events:
            break
    return times


async def _serve_until_told(control: Control, medium: Any, index: int) -> None:
    server, serving = _served(medium, index)
    await asyncio.to_thread(control.meet, "begun")
    before = cpu_seconds()
    await _ended(control, before)
    server.should_exit = True
    await serving


def _served(medium: Any, index: int) -> tuple[Any, asyncio.Task[None]]:
    import uvicorn

    config = uvicorn.Config(medium.hub().app(), uds=_address(medium, index), log_level="error", access_log=False)
    server = uvicorn.Server(config)
    return server, asyncio.ensure_future(server.serve())


def _address(medium: Any, index: int) -> str:
    return f"{medium.files}/worker-{index}"


@contextmanager
def _alone(medium: Any, index: int) -> Iterator[int]:
    """The pid of a worker that no crew misses when it is killed."""
    process = multiprocessing.get_context("fork").Process(target=_serve_for_ever, args=(medium, index), daemon=True)
    with ExitStack() as held:
        process.start()
        held.callback(process.join)
        held.callback(process.kill)
        yield process.pid or 0


def _serve_for_ever(medium: Any, index: int) -> None:
    async def served() -> None:
        await _served(medium, index)[1]

    asyncio.run(served())


# --- the pages ---


async def _page(medium: Any, index: int, after: str = "") -> AsyncGenerator[tuple[str, Any], None]:
    """What the page of a worker hears, with the id of each; it ends when the worker does."""
    reader, writer = await _connected(medium, index)
    writer.write(f"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {after}\r\n\r\n".encode())
    name = ""
    try:
        with suppress(ConnectionResetError):
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    name = line[4:].decode().strip()
                elif line.startswith(b"data: {"):
                    yield name, orjson.loads(line[6:])
    finally:
        writer.close()


async def _connected(medium: Any, index: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_unix_connection(_address(medium, index))
        except (FileNotFoundError, ConnectionRefusedError):  # the worker is about to start
            await asyncio.sleep(_AGAIN)


async def _data(page: AsyncIterator[tuple[str, Any]]) -> AsyncGenerator[Any, None]:
    async for _, data in page:
        yield data


async def _take_in_pages(control: Control, medium: Any, events: int) -> array[int]:
    pages = [_page(medium, index) for index in range(1, WORKERS)]
    await asyncio.gather(*map(anext, pages))
    await asyncio.to_thread(control.meet, "begun")
    before, times = cpu_seconds(), array("q")
    for arrived in await asyncio.gather(*(_arrivals(_data(page), events) for page in pages)):
        times.extend(arrived)
    await _ended(control, before)
    await asyncio.gather(*(page.aclose() for page in pages))
    return times


async def _move(control: Control, medium: Any, events: int, victim: int) -> tuple[list[int], float]:
    """Hears at worker 1, kills it half-way, and goes on at worker 2; the numbers, and the longest gap in ms."""
    page = _page(medium, 1)
    await anext(page)
    await asyncio.to_thread(control.meet, "begun")
    before = cpu_seconds()
    seen: list[int] = []
    last, longest, heard_at = "", 0.0, time.monotonic()

    async def heard(page: AsyncIterator[tuple[str, Any]], until: int) -> None:
        nonlocal last, longest, heard_at
        async for name, data in page:
            last = name
            if data["number"] == PROBE:
                continue
            now = time.monotonic()
            longest, heard_at = max(longest, now - heard_at) if seen else 0.0, now
            seen.append(data["number"])
            if data["number"] >= until:
                return

    await heard(page, events // 2)
    os.kill(victim, signal.SIGKILL)
    await heard(page, events)
    await page.aclose()
    page = _page(medium, 2, last)
    await heard(page, events - 1)
    await _ended(control, before)
    await page.aclose()
    return seen, longest * 1e3


SCENARIOS: dict[str, Callable[[Session], Report]] = {
    "broadcast": to_workers,
    "broadcast-pages": to_pages,
    "broadcast-killed": killed,
}
