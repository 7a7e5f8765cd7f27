"""The benchmarks of event loops by name: what each one measures, in which cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.crew import places
from benchmarks.latency import Timing
from benchmarks.load import JsonLoad
from benchmarks.loops import crowd, measure, requests
from benchmarks.loops.registry import NOBODY, PINGPONG, asking, crowds, streaming
from benchmarks.peer import Peer
from benchmarks.report import Report
from benchmarks.session import Session

_BURST = 400_000
_BURST_SECONDS = 5.0


def burst(session: Session) -> Report:
    """A burst of 400,000 events from a process into an event loop, beside the blocking loop of the bus."""
    settings, load = session.settings, JsonLoad()
    events = settings.events or (2_000 if settings.quick else _BURST)

    def taken(peer: Peer) -> dict[str, float]:
        return measure.burst(peer, events, _BURST_SECONDS, settings.spread)

    note = f"1 → 1, {events:,} events of {load.size} bytes of JSON at once; fewer where that takes {_BURST_SECONDS:g} s"
    return session.each("async", note, "burst", taken)


def oneway(session: Session) -> Report:
    """From before a send to the event in an event loop, at 1,000 and at 10,000 events/s."""
    settings = session.settings
    events = settings.events or (100 if settings.quick else 2_000)
    cpus = places(2, settings.spread)
    rates = {f"{rate:,}/s": rate for rate in (1_000, 10_000)}

    def timed(peer: Peer, case: str) -> Timing:
        return measure.oneway(peer, max(events // 10, 1), events, rates[case], cpus)

    note = f"one-way latency into an event loop, {events:,} events a repetition, publisher sleeps between them"
    return session.latency("async-oneway", note, rates, timed)


def sends(session: Session) -> Report:
    """What a send costs while 50 subscriptions in the event loop of another process wait for it."""
    settings = session.settings
    listeners = 5 if settings.quick else 50
    cpus = places(2, settings.spread)
    rates = {f"{rate:,}/s": rate for rate in ((1_000,) if settings.quick else (1_000, 100))}

    def timed(peer: Peer, case: str) -> Timing:
        events = settings.events or (100 if settings.quick else max(rates[case], 300))
        return crowd.sends(peer, listeners, (max(events // 10, 1), events), rates[case], cpus)

    note = f"the call of send alone, which {listeners} subscriptions of one other process hear"
    return session.latency("async-send", note, rates, timed)


def idle(session: Session) -> Report:
    """CPU and descriptors of a process with 1,000 subscriptions in an event loop, while no event comes."""
    listeners, seconds = (20, 0.5) if session.settings.quick else (1_000, 10.0)

    def waited(peer: Peer) -> dict[str, float]:
        return crowd.idle(peer, listeners, seconds)

    note = f"{listeners:,} subscriptions that wait {seconds:g} s; sockets, pipes and eventfds beyond the loop's own"
    listening = replace(session.once(), peers=[peer for peer in session.peers if peer.name != NOBODY])
    return listening.each("async-idle", note, "idle", waited)


def one_by_one(session: Session) -> Report:
    """Requests to a server process and their answers, one at a time, beside a bare ping-pong of the bus."""
    settings = session.settings
    count = settings.events or (200 if settings.quick else 2_000)
    cpus = sorted(os.sched_getaffinity(0))
    cases: dict[str, Sequence[int | None]] = {"free": (None, None)}
    if len(cpus) > 1 and not settings.quick:
        cases["two CPUs"] = cpus[:2]

    def timed(peer: Peer, case: str) -> Timing:
        return requests.one_by_one(peer, max(count // 10, 1), count, cases[case])

    note = f"request and answer, one at a time, {count:,} a repetition"
    return session.latency("requests", note, cases, timed)


def together(session: Session) -> Report:
    """Requests of 64 tasks in one event loop at once, to one server process."""
    settings = session.settings
    asked = replace(session, peers=[peer for peer in session.peers if peer.name != PINGPONG])
    seconds = 0.1 if settings.quick else 1.0

    def answered(peer: Peer) -> dict[str, float]:
        return requests.together(peer, settings.events, seconds, settings.spread)

    return asked.each("requests-64", f"{requests.TASKS} at once, one server process", "64 at once", answered)


LOOPS: dict[str, Callable[[Session], Report]] = {
    "async": burst,
    "async-oneway": oneway,
    "async-send": sends,
    "async-idle": idle,
    "requests": one_by_one,
    "requests-64": together,
}
ENTRANTS: dict[str, Callable[[], list[Peer]]] = {
    "async": streaming,
    "async-oneway": streaming,
    "async-send": crowds,
    "async-idle": crowds,
    "requests": asking,
    "requests-64": asking,
}
"""Who takes part in which."""
