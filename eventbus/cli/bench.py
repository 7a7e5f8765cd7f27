"""The command ``eventbus bench``: what this host reaches, in a few seconds and without anything beside the bus.

Three figures: a fan-out, how long an event takes to and fro, and a pool. Each in processes of its own, over a bus of
its own. The benchmarks of the repository measure more, longer, and beside others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from eventbus.bus import Bus
from eventbus.cli.options import Json
from eventbus.errors import ClosedError, EventBusError

BATCH = 100
DATA = {"order_id": "1234567890", "customer": "Zoë", "total": 99.99, "items": [1, 2, 3], "paid": True}
WARM_UP = 0.2  # of the seconds are not counted

Figures = dict[str, Any]
Job = Callable[[Bus, Any], None]


def bench(
    seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="how long each figure takes")] = 2.0,
    subscribers: Annotated[int, typer.Option(min=1, metavar="N", help="of the fan-out")] = 2,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="of the pool")] = 2,
    as_json: Json = False,
) -> None:
    """Measure what this host reaches.

    A fan-out of small events to some subscribers, encoding and decoding included; how long a request takes until its
    answer is there; events handled by a pool that does nothing with them. What else runs on the host counts.
    """
    figures: Figures = {"host": host()}
    measures: dict[str, Callable[[], Figures]] = {
        "fanout": lambda: fan_out(seconds, subscribers),
        "latency": lambda: latency(seconds),
        "pool": lambda: pool(seconds, workers),
    }
    for name, measure in measures.items():
        figures[name] = measure()
        if not as_json:
            print(TEXTS[name].format(**figures[name]), flush=True)
    if as_json:
        print(json.dumps(figures, indent=2))


TEXTS = {
    "fanout": "fan-out   {rate:,} events/s sent, each to {subscribers} subscribers, {deliveries:,} deliveries/s",
    "latency": "latency   {p50} µs for a request and its answer, p99 {p99} µs, longest {longest} µs, of {count:,}",
    "pool": "pool      {rate:,} events/s handled by {workers} members, one at a time each",
}


def host() -> Figures:
    """What the figures depend on."""
    return {"cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(), "python": platform.python_version()}


def fan_out(seconds: float, subscribers: int) -> Figures:
    """How many events per second one process sends and all subscribers receive, none lost."""
    with _crew([_listen] * subscribers) as (bus, pipes):
        bus.wait_for_subscribers(subscribers)
        sent, heard, took = _send_for(bus, pipes, seconds)
    if any(count != sent for count in heard):
        raise EventBusError(f"{sent} events were sent, and {heard} were received")
    rate = round(sent / took)
    return {"rate": rate, "subscribers": subscribers, "deliveries": rate * subscribers, "events": sent}


def _send_for(bus: Bus, pipes: list[Any], seconds: float) -> tuple[int, list[int], float]:
    """How many were sent, how many each got, and the seconds until the last one had them."""
    events = [("bench.eu", "order.created", f"/orders/{number}", DATA) for number in range(BATCH)]
    sent, begin = 0, time.perf_counter()
    while sent == 0 or time.perf_counter() - begin < seconds:
        sent += bus.send_many(events, timeout=None)
    bus.shutdown()
    return sent, [*map(_result, pipes)], time.perf_counter() - begin


def _result(pipe: Any) -> int:
    try:
        return int(pipe.recv())
    except EOFError as error:
        raise EventBusError("a process of the benchmark died: its figure is none") from error


def _listen(bus: Bus, pipe: Any) -> None:
    with bus.subscribe("bench.*") as heard:
        pipe.send(sum(1 for _ in heard))


def latency(seconds: float) -> Figures:
    """Microseconds from a request until its answer is there."""
    times: list[float] = []
    with _crew([_answer]) as (bus, _):
        bus.wait_for_subscribers(1, "bench")
        begin = time.perf_counter()
        while (now := time.perf_counter()) - begin < seconds or not times:
            bus.request("bench", "ping", "/", timeout=60)
            times.append(time.perf_counter() - now)
        bus.shutdown()
    counted = sorted(times[int(len(times) * WARM_UP) :])
    p50, p99, longest = (counted[int((len(counted) - 1) * share)] for share in (0.5, 0.99, 1.0))
    in_microseconds = {"p50": p50, "p99": p99, "longest": longest}
    return {**{name: round(value * 1e6, 1) for name, value in in_microseconds.items()}, "count": len(counted)}


def _answer(bus: Bus, _: Any) -> None:
    with bus.subscribe("bench") as asked:
        for event in asked:
            event.reply(None)


def pool(seconds: float, workers: int) -> Figures:
    """How many events per second the members of a group take and finish, none twice."""
    with _crew([_work] * workers) as (bus, pipes):
        bus.wait_for_subscribers(workers, "bench.eu")
        sent, handled, took = _send_for(bus, pipes, seconds)
    if sum(handled) != sent:
        raise EventBusError(f"{sent} events were sent, and {sum(handled)} were handled")
    return {"rate": round(sent / took), "workers": workers, "events": sent}


def _work(bus: Bus, pipe: Any) -> None:
    with bus.subscribe("bench.*", group="bench") as jobs:
        pipe.send(sum(1 for _ in jobs))


@contextmanager
def _crew(jobs: list[Job]) -> Iterator[tuple[Bus, list[Any]]]:
    """Each job in a process of its own, over a bus of its own; whatever happens, none is left."""
    fork = multiprocessing.get_context("fork")
    with Bus(f"bench-{os.getpid()}-{os.urandom(4).hex()}") as bus:
        lines = [fork.Pipe(duplex=False) for _ in jobs]
        pairs = zip(jobs, lines, strict=True)
        processes = [fork.Process(target=_run, args=(job, bus, line[1]), daemon=True) for job, line in pairs]
        try:
            for process, line in zip(processes, lines, strict=True):
                process.start()
                line[1].close()  # it has its own: when it dies, there is no other
            yield bus, [line[0] for line in lines]
        except BaseException:
            for process in processes:
                if process.pid is not None:
                    process.terminate()
            raise
        finally:
            for process in processes:
                if process.pid is not None:
                    process.join()
            for line in lines:
                line[0].close()
                line[1].close()


def _run(job: Job, bus: Bus, pipe: Any) -> None:
    with suppress(ClosedError, KeyboardInterrupt):  # whoever measures has gone
        job(bus, pipe)
