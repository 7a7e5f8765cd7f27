"""The benchmarks by name: what each one measures, in which cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from benchmarks import codec as codec_steps
from benchmarks import latency
from benchmarks.crew import places
from benchmarks.load import SYSTEM, BytesLoad, JsonLoad, Load
from benchmarks.peer import Peer
from benchmarks.report import Report, Row, figures_of
from benchmarks.session import Session
from benchmarks.throughput import Case

Scenario = Callable[[Session], Report]


def fanout(session: Session) -> Report:
    """1 publisher, 1 to 8 subscribers that all hear everything."""
    load = JsonLoad()
    counts = (1, 2) if session.settings.quick else (1, 2, 4, 8)
    cases = [Case(f"1 → {count}", load, 1, (SYSTEM,) * count) for count in counts]
    return session.throughput("fanout", f"events of {load.size} bytes of JSON; every subscriber hears all", cases)


def selective(session: Session) -> Report:
    """1 publisher, 8 subscribers of one system each, events round robin over the systems."""
    load = JsonLoad()
    case = Case("1 → 1 of 8", load, 1, tuple(f"{SYSTEM}.{index}" for index in range(8)))
    return session.throughput("selective", "8 subscribers of one system each, events round robin", [case])


def publishers(session: Session) -> Report:
    """4 publishers, 1 subscriber."""
    case = Case("4 → 1", JsonLoad(), 4, (SYSTEM,))
    return session.throughput("publishers", "events/s of all publishers together", [case])


def sizes(session: Session) -> Report:
    """1 publisher, 1 subscriber, events of 1 KiB and 64 KiB as JSON and as bytes."""
    loads: list[tuple[str, Load]] = []
    for size in (2**10, 2**16):
        loads += [(f"{size >> 10} KiB JSON", JsonLoad(size)), (f"{size >> 10} KiB bytes", BytesLoad(size))]
    cases = [Case(title, load, 1, (SYSTEM,)) for title, load in loads]
    return session.throughput("sizes", "1 → 1; JSON is filled up with one long string", cases)


def pingpong(session: Session) -> Report:
    """Round trips between two processes, placed by the kernel, on one CPU and on two."""
    trips = session.settings.events or (1_000 if session.settings.quick else 10_000)
    cpus = sorted(os.sched_getaffinity(0))
    cases: dict[str, Sequence[int | None]] = {"free": (None, None)}
    if not session.settings.quick:
        cases["one CPU"] = (cpus[0], cpus[0])
    if not session.settings.quick and len(cpus) > 1:
        cases["two CPUs"] = cpus[:2]

    def measure(peer: Peer, place: str) -> latency.Timing:
        return latency.pingpong(peer, max(trips // 10, 1), trips, cases[place])

    return session.latency("pingpong", f"round trip, {trips} a repetition", cases, measure)


def oneway(session: Session) -> Report:
    """From before send to after receive, at 1,000 and at 10,000 events/s."""
    cpus = places(2, session.settings.spread)
    rates = {f"{rate:,}/s": rate for rate in (1_000, 10_000)}

    def measure(peer: Peer, title: str) -> latency.Timing:
        events = session.settings.events or int(rates[title] * session.settings.seconds)
        return latency.oneway(peer, max(events // 10, 1), events, rates[title], cpus)

    return session.latency("oneway", "one-way latency, publisher sleeps between events", rates, measure)


def codec(session: Session) -> Report:
    """orjson alone, then a send and a receive of the bus, in one process."""
    events = session.settings.events or (10_000 if session.settings.quick else 40_000)
    with_bus = any(peer.name == "eventbus" and peer.missing is None for peer in session.peers)
    samples = []
    for repetition in range(session.settings.repetitions):
        session.progress("codec", repetition, session.settings.repetitions)
        samples.append(codec_steps.run(events, with_bus))
    rows = [Row("one process", step, {"ns": figure}) for step, figure in figures_of(samples).items()]
    return Report("codec", f"CPU nanoseconds per event of {JsonLoad().size} bytes", rows)


SCENARIOS: dict[str, Scenario] = {
    "fanout": fanout,
    "selective": selective,
    "publishers": publishers,
    "sizes": sizes,
    "pingpong": pingpong,
    "oneway": oneway,
    "codec": codec,
}
