"""The benchmarks by name: what each one measures, in which cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Any

from benchmarks import codec as codec_steps
from benchmarks import cores as model
from benchmarks import growth, latency
from benchmarks import idle as idling
from benchmarks import layers as layer_steps
from benchmarks import leftover as leftovers
from benchmarks import startup as startup_steps
from benchmarks import workers as working
from benchmarks.bridge import scenarios as bridges
from benchmarks.crew import places
from benchmarks.drop_in import scenarios as drop_ins
from benchmarks.floor import CODEC, COPY, FLOORS
from benchmarks.frameworks import measure as frameworks
from benchmarks.frameworks.registry import frameworks as known_frameworks
from benchmarks.load import SYSTEM, BytesLoad, JsonLoad, Load
from benchmarks.loops import scenarios as loops
from benchmarks.peer import Peer
from benchmarks.peers import large, sharing
from benchmarks.peers import peers as known_peers
from benchmarks.peers.pools import POOLS
from benchmarks.report import Report, Row
from benchmarks.session import Session
from benchmarks.throughput import Case

Scenario = Callable[[Session], Report]

FRAMEWORKS = ("jobs", "jobs-paced", "jobs-killed")
"""The benchmarks that measure frameworks for jobs, beside a `Worker`."""


def fanout(session: Session) -> Report:
    """1 publisher, 1 to 8 subscribers that all hear everything."""
    load = JsonLoad()
    counts = (1, 2) if session.settings.quick else (1, 2, 4, 8)
    cases = [Case(f"1 → {count}", load, 1, (SYSTEM,) * count) for count in counts]
    return session.throughput(
        "fanout", f"events of {load.size} bytes of JSON; every subscriber hears all", cases, CODEC
    )


def selective(session: Session) -> Report:
    """1 publisher, 8 subscribers of one system each, events round robin over the systems."""
    load = JsonLoad()
    case = Case("1 → 1 of 8", load, 1, tuple(f"{SYSTEM}.{index}" for index in range(8)))
    return session.throughput("selective", "8 subscribers of one system each, events round robin", [case], CODEC)


def publishers(session: Session) -> Report:
    """4 publishers, 1 subscriber."""
    case = Case("4 → 1", JsonLoad(), 4, (SYSTEM,))
    return session.throughput("publishers", "events/s of all publishers together", [case], CODEC)


def sizes(session: Session) -> Report:
    """1 publisher, 1 subscriber, events of 1 KiB and 64 KiB as JSON and as bytes."""
    loads: list[tuple[str, Load]] = []
    for size in (2**10, 2**16):
        loads += [(f"{size >> 10} KiB JSON", JsonLoad(size)), (f"{size >> 10} KiB bytes", BytesLoad(size))]
    cases = [Case(title, load, 1, (SYSTEM,)) for title, load in loads]
    return session.throughput("sizes", "1 → 1; JSON is filled up with one long string", cases, *FLOORS)


def views(session: Session) -> Report:
    """1 publisher, 1 subscriber, raw data of 64 KiB, 1 MiB and 8 MiB, looked at where they lie or copied."""
    sizes = {"64 KiB": 2**16, "1 MiB": 2**20, "8 MiB": 2**23}
    if session.settings.quick:
        del sizes["8 MiB"]
    cases = [Case(title, BytesLoad(size), 1, (SYSTEM,)) for title, size in sizes.items()]
    return session.throughput("views", "1 → 1, raw data; the reader looks at their first bytes", cases, COPY)


def scaling(session: Session) -> Report:
    """1 publisher, 1 subscriber, events of 128 B to 1 MiB of JSON, measured once."""
    powers = (7, 10) if session.settings.quick else (7, 10, 13, 16, 18, 20)
    loads = [JsonLoad(2**power) for power in powers]
    cases = [Case(f"{load.size} B", load, 1, (SYSTEM,)) for load in loads]
    return session.once().throughput("scaling", "1 → 1; JSON filled up with one long string", cases)


def pingpong(session: Session) -> Report:
    """Round trips between two processes, placed by the kernel, on one CPU and on two."""
    trips = session.settings.events or (1_000 if session.settings.quick else 4_000)
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
    fewest = 100 if session.settings.quick else 1_000
    rates = {f"{rate:,}/s": rate for rate in (1_000, 10_000)}

    def measure(peer: Peer, title: str) -> latency.Timing:
        rate = rates[title]
        # Percentiles need events, not seconds.
        events = session.settings.events or max(int(rate * session.settings.seconds), fewest)
        return latency.oneway(peer, max(events // 10, 1), events, rate, cpus)

    return session.latency("oneway", "one-way latency, publisher sleeps between events", rates, measure)


def workers(session: Session) -> Report:
    """1 publisher, 4 workers that share its events, fetching 1 or up to 64 at once; pools take them in such chunks.

    Who acknowledges each event by itself, and how a long job is borne, is told of those peers that hand out one by one.
    """
    load, settings, rows = JsonLoad(), session.settings, list[Row]()
    how: dict[str, Any] = {"events": settings.events, "seconds": settings.seconds, "spread": settings.spread}
    names = {peer.name for peer in session.peers}
    sharers = [peer for peer in sharing() if peer.name in names]
    for work in working.WORKS:
        # Python's pools are measured with its queue.
        pools = POOLS if "mp.Queue" in names and not (work.manual or work.long) else []
        refused = {peer.name: peer.refuses(working.topology(load, work)) for peer in sharers + pools}
        served = replace(session, peers=[peer for peer in sharers + pools if not refused[peer.name]])
        measure = partial(working.measure, load=load, work=work, **how)
        rows += served.each("workers", "", work.name, measure).rows
        rows += [Row(work.name, name, refused=why) for name, why in refused.items() if why]
    return Report("workers", f"1 → {working.WORKERS}, each event of {load.size} bytes of JSON to one worker", rows)


def redelivery(session: Session) -> Report:
    """From the SIGKILL of a worker with an event in hand until another worker has that event."""
    kills = 10 if session.settings.quick else 100
    peer = subject(session.peers)
    alone = replace(session, peers=[peer] if peer else [])

    def measure(_peer: Peer, place: str) -> latency.Timing:
        return working.redelivery(kills, working.PLACES[place])

    return alone.latency("redelivery", f"to a worker that waits, or is busy; {kills} kills", working.PLACES, measure)


def jobs(session: Session) -> Report:
    """1 producer, 2 processes of `Worker`, Celery, RQ, Dramatiq or Huey: empty jobs that wait, and as they are sent."""
    seconds = 0.2 if session.settings.quick else 1.5

    def measure(peer: Peer) -> dict[str, float]:
        return frameworks.rate(peer, session.settings.events, seconds)

    return session.each("jobs", "1 → 2 processes, empty jobs that all wait, and as they are sent", "empty", measure)


def jobs_paced(session: Session) -> Report:
    """From before a send to the beginning of the job, at 100 jobs/s, of the same."""
    count = 20 if session.settings.quick else 300

    def measure(peer: Peer, _rate: str) -> latency.Timing:
        return frameworks.latency(peer, count)

    note = f"1 → 2 processes, from send to the beginning of the job, {count} a repetition"
    return session.latency("jobs-paced", note, [f"{frameworks.RATE}/s"], measure)


def jobs_killed(session: Session) -> Report:
    """From the SIGKILL of a process amid a job until that job runs again, of the same."""
    kills = 1 if session.settings.quick else 5

    def measure(peer: Peer) -> dict[str, float]:
        return frameworks.redeliveries(peer, kills)

    note = f"from the SIGKILL of one of 2 processes until its job runs again; {kills} kills"
    report = session.once().each("jobs-killed", note, "kill -9", measure)
    return replace(report, rows=[_waited(row) for row in report.rows])


def _waited(row: Row) -> Row:
    longest = row.figures.get("longest ms")
    if longest is None or longest.median != inf:
        return row
    return Row(row.case, row.peer, refused=f"not again within {frameworks.DEADLINE_SECONDS:g} s")


def idle(session: Session) -> Report:
    """CPU of one subscriber, and of its server if there is one, while no event comes."""
    seconds = 0.5 if session.settings.quick else 3.0
    note = f"one subscriber that waits {seconds:g} s; CPU microseconds per second"

    def measure(peer: Peer) -> dict[str, float]:
        return {"CPU µs/s": idling.run(peer, seconds) / seconds * 1e6}

    return session.once().each("idle", note, "idle", measure)


def codec(session: Session) -> Report:
    """orjson alone, then a send and a receive of the bus, in one process."""
    events = max(session.settings.events or (10_000 if session.settings.quick else 40_000), codec_steps.BATCH)
    with_bus = subject(session.peers) is not None
    note = f"CPU nanoseconds per event of {JsonLoad().size} bytes"
    return session.alone("codec", note, lambda: _in("one process", codec_steps.run(events, with_bus)))


def startup(session: Session) -> Report:
    """How long a process takes to import the library, to open a bus, and to run a command."""
    note = "milliseconds of wall time, each in a process of its own"
    if subject(session.peers) is None:
        return Report("startup", note, [], "step")
    return session.alone("startup", note, lambda: _in("one process", startup_steps.run()), "ms")


def leftover(session: Session) -> Report:
    """What one event of 100 MB leaves behind in the memory of its sender and of its receiver."""
    size = 10**7 if session.settings.quick else 10**8
    note = f"megabytes more than before, once an event of {size // 10**6} MB is dropped"
    if subject(session.peers) is None:
        return Report("leftover", note, [], "in")
    report = session.alone("leftover", note, lambda: _in(f"{size // 10**6} MB", leftovers.run(size)), "MB")
    return replace(report, second="in")


def layers(session: Session) -> Report:
    """Where the time of a send and of a delivery goes, inside the library."""
    events = max(session.settings.events or (5_000 if session.settings.quick else 40_000), layer_steps.BATCH)
    wakes = 50 if session.settings.quick else 500
    note = f"CPU nanoseconds per event of {JsonLoad().size} bytes, in the thread that sends or receives"
    if subject(session.peers) is None:
        return Report("layers", note, [], "step")
    return session.alone("layers", note, lambda: layer_steps.run(events, wakes))


def cores(session: Session) -> Report:
    """What a model of more CPUs says, from costs that are measured here; beside it what is measured here."""
    events, note = (
        session.settings.events or (10_000 if session.settings.quick else 200_000),
        "events of all publishers",
    )
    peer = subject(session.peers)
    if peer is None:
        return Report("cores", note, [], "what bounds it")
    sent = session.alone("cores", note, lambda: model.sending(peer, events)).rows
    measured = session.rows("cores", [(case, peer) for case in model.cases()])
    costs = model.costs_of(sent, measured)
    told = ", ".join(f"{name} {spent:,.0f} ns" for name, spent in vars(costs).items())
    return Report("cores", f"{note}; an event costs: {told}", [*model.beside(costs, measured)], "what bounds it")


def growing(session: Session) -> Report:
    """How the cost of eventbus grows with subscribers, topics, publishers, event size and ring size."""
    note = f"1 → 1 where not said otherwise; '{growth.STEP}': CPU per delivery against the row above"
    peer = subject(session.peers)
    rows: list[tuple[str, Row]] = []
    points = growth.points(peer, session.settings.quick) if peer else ()
    for axis, group in groupby(points, attrgetter("axis")):
        pairs = [(point.case, point.peer) for point in group]
        rows += [(axis, row) for row in session.rows(axis, pairs)]
    return Report("growth", note, growth.stepped(rows), "place")


def entrants(name: str) -> list[Peer]:
    """Return everybody whom the benchmark of this name measures, the absent ones with the reason."""
    if name in loops.ENTRANTS:
        return loops.ENTRANTS[name]()
    if name in bridges.BRIDGES:
        return bridges.entrants()
    if name in drop_ins.DROP_INS:
        return drop_ins.entrants(name)
    if name == "views":
        return large()
    return known_frameworks() if name in FRAMEWORKS else known_peers()


def subject(peers: list[Peer]) -> Peer | None:
    """Return eventbus, if it is among the peers and can be measured."""
    return next((peer for peer in peers if peer.name == growth.SUBJECT and peer.missing is None), None)


def _in(case: str, times: dict[str, float]) -> dict[tuple[str, str], float]:
    return {(case, step): spent for step, spent in times.items()}


SCENARIOS: dict[str, Scenario] = {
    "fanout": fanout,
    "selective": selective,
    "publishers": publishers,
    "sizes": sizes,
    "views": views,
    "scaling": scaling,
    "pingpong": pingpong,
    "oneway": oneway,
    "workers": workers,
    "redelivery": redelivery,
    "jobs": jobs,
    "jobs-paced": jobs_paced,
    "jobs-killed": jobs_killed,
    "idle": idle,
    "codec": codec,
    "startup": startup,
    "leftover": leftover,
    "layers": layers,
    "cores": cores,
    "growth": growing,
    **loops.LOOPS,
    **bridges.BRIDGES,
    **drop_ins.DROP_INS,
}
