"""Traces in event loops and through workers: one trace over several processes, and none that mixes with another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, Worker
from harness import DEADLINE, Fork, take
from jobs import join
from pools import Gates, gated, running
from test_traces import current
from tracing import Spans


def hand_in(worker: Worker, name: str, spans: Spans) -> None:
    """Each process of the worker sends its spans when it leaves, on a bus that is not traced."""

    @worker.on_stop
    def leave() -> None:
        with eventbus.open(name) as bus:
            bus.send("spans", "span.ended", "/", spans.rows())


def test_one_trace_in_one_piece(traced: Bus, spans: Spans, fork: Fork, log: Path, name: str) -> None:
    """From a ``send`` through a worker, which asks another worker, to what that one sends: each the child of the one
    before, across processes."""
    worker = Worker(traced)
    hand_in(worker, name, spans)

    @worker.on("orders")
    def charge(event: Event) -> None:
        price = traced.request("prices", "price.of", event.path, timeout=DEADLINE)
        traced.send("done", "charged", event.path, price)

    @worker.on("prices")
    async def price(event: Event) -> int:
        await traced.asend("asked", "price", event.path)
        return 7

    with eventbus.open(name) as other, other.subscribe("done") as done, other.subscribe("spans") as ended:
        with running(fork, worker, log):
            assert traced.wait_for_subscribers(1, "prices", DEADLINE)
            traced.send("orders", "order.new", "/1")
            assert take(done).data == 7
        rows = spans.rows() + [row for _ in range(2) for row in take(ended).data]
    names = {row["span"]: row["name"] for row in rows}
    assert len({row["trace"] for row in rows}) == 1
    assert {row["name"]: names.get(row["parent"]) for row in rows} == {
        "send orders": None,
        "process orders": "send orders",
        "request prices": "process orders",
        "process prices": "request prices",
        "send asked": "process prices",
        "send done": "process orders",
    }
    assert len(rows) == 6


def test_a_handler_that_fails(traced: Bus, spans: Spans, fork: Fork, log: Path, name: str) -> None:
    """Its span says why; the next delivery is another one, of the same sender."""
    worker = Worker(traced, retry_delay=0, max_deliveries=2)
    hand_in(worker, name, spans)

    @worker.on("jobs")
    async def fail(event: Event) -> None:
        raise ValueError("no such customer")

    with eventbus.open(name) as other, other.subscribe(["spans", "eventbus.dead"]) as ended:
        with running(fork, worker, log):
            assert traced.wait_for_subscribers(1, "jobs", DEADLINE)
            traced.send("jobs", "job", "/")
            letter = take(ended)
        rows = take(ended).data
    (sent,) = spans.rows()
    assert letter.data["headers"].keys() == {"traceparent"}
    assert [row["parent"] for row in rows] == [sent["span"]] * 2
    assert [row["attributes"]["eventbus.deliveries"] for row in rows] == [1, 2]
    assert [(row["status"], row["attributes"]["error.type"]) for row in rows] == [("ERROR", "ValueError")] * 2


def test_handlers_abreast(traced: Bus, spans: Spans, fork: Fork, log: Path, name: str) -> None:
    """Several events under way at once in one process are several traces, and what each does is in its own."""
    worker = Worker(traced, concurrency=3)
    hand_in(worker, name, spans)
    gates: Gates = gated(traced, worker)
    with eventbus.open(name) as other, other.subscribe("done") as done, other.subscribe("spans") as ended:
        with running(fork, worker, log):
            assert traced.wait_for_subscribers(1, "jobs", DEADLINE)
            for number in range(3):
                traced.send("jobs", "job", f"/{number}", number)
            begun = [take(done) for _ in range(3)]
            assert {event.kind for event in begun} == {"begun"}
            for number in (2, 0, 1):
                gates.open(number)
                assert take(done).data == number
        rows = take(ended).data
    sent = {row["span"]: row for row in spans.rows() if row["name"] == "send jobs"}
    handled = {row["span"]: row for row in rows if row["name"] == "process jobs"}
    assert {row["parent"] for row in handled.values()} == sent.keys()
    assert len({row["trace"] for row in handled.values()}) == 3
    said = [row["parent"] for row in rows if row["name"] == "send done"]
    assert sorted(said) == sorted([*handled, *handled])


def test_event_loops(traced: Bus, spans: Spans) -> None:
    """What is awaited has the same spans, of each task its own."""
    handling: dict[str, str | None] = {}

    async def handle(sub: eventbus.Subscription, met: asyncio.Event, meets: asyncio.Event) -> None:
        event = await sub.areceive(DEADLINE)
        assert event is not None
        mine = handling[event.path] = current()
        met.set()
        await meets.wait()
        assert current() == mine
        assert await sub.areceive(0) is None
        assert current() is None

    async def main() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        async with traced.subscribe("a") as sub:
            tasks = [asyncio.create_task(handle(sub, one, two)), asyncio.create_task(handle(sub, two, one))]
            await traced.asend("a", "k", "/1")
            await traced.asend_many([("a", "k", "/2")])
            await asyncio.gather(*tasks)

    asyncio.run(main())
    rows = spans.rows()
    sent = [row["span"] for row in rows if row["name"] == "send a"]
    handled = {row["attributes"]["eventbus.path"]: row for row in rows if row["name"] == "process a"}
    assert {path: row["span"] for path, row in handled.items()} == handling
    assert [handled[path]["parent"] for path in ("/1", "/2")] == sent


@pytest.mark.parametrize("grouped", [False, True])
def test_async_for(traced: Bus, spans: Spans, grouped: bool) -> None:
    """Each event of a loop has its span, as long as its turn."""

    async def main() -> list[str | None]:
        sub = join(traced) if grouped else traced.subscribe("jobs")
        seen = []
        async with sub:
            await traced.asend_many([("jobs", "job", f"/{number}") for number in range(3)])
            async for event in sub:
                seen.append(current())
                if event.path == "/2":
                    traced.shutdown()  # which ends the loop
        assert current() is None
        return seen

    seen = asyncio.run(main())
    assert [row["span"] for row in spans.rows() if row["name"] == "process jobs"] == seen
    assert len(seen) == 3


def test_many_in_a_loop(traced: Bus, spans: Spans) -> None:
    """Several at once have one span there, too."""

    async def main() -> Any:
        async with traced.subscribe("a") as sub:
            await traced.asend_many([("a", "k", "/")] * 3)
            assert len(await sub.areceive_many(9)) == 3
            return current()

    seen = asyncio.run(main())
    _, handled = spans.rows()
    assert (handled["span"], handled["attributes"]["messaging.batch.message_count"]) == (seen, 3)


def test_arequest(traced: Bus, spans: Spans) -> None:
    """Who asks in a loop, and who answers there, are one trace."""

    async def answer(asked: eventbus.Subscription) -> None:
        async for event in asked:
            await event.areply(event.path)

    async def main() -> None:
        async with traced.subscribe("prices") as asked:
            answering = asyncio.create_task(answer(asked))
            paths = ["/1", "/2"]
            assert await asyncio.gather(*(traced.arequest("prices", "of", path) for path in paths)) == paths
            answering.cancel()

    asyncio.run(main())
    rows = spans.rows()
    asked = {row["span"]: row["attributes"]["eventbus.path"] for row in rows if row["name"] == "request prices"}
    answered = {row["parent"]: row["attributes"]["eventbus.path"] for row in rows if row["name"] == "process prices"}
    assert asked == answered
    assert len(asked) == 2
