"""The benchmarks of the bridge by name: what each one measures, in which cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.bridge import measure
from benchmarks.growth import SUBJECT
from benchmarks.latency import Timing
from benchmarks.load import JsonLoad
from benchmarks.loops.measure import oneway as timed_oneway
from benchmarks.peer import Peer
from benchmarks.peers import peer_of
from benchmarks.report import Report
from benchmarks.session import Session

RELAY = "relay with publish_async"
CORE = "relay over core NATS"
NEAR, FAR = "burst", "burst, 50 ms away"

_MODULES = {SUBJECT: "medium", RELAY: "medium:connect_relay", CORE: "medium:connect_core"}
_BURST = 200_000
_BURST_SECONDS = 4.0
_AWAY = 0.05
_RATES = (100, 2_000, 10_000)
_FAR_RATES = (100, 2_000)
_FEWEST = 200


def entrants() -> list[Peer]:
    """Return the bridge and the relays; the absent ones with the reason."""
    return [peer_of(name, module, "benchmarks.bridge") for name, module in _MODULES.items()]


def burst(session: Session) -> Report:
    """From bus to bus over a nats-server at full speed, with 0 and 50 ms of round trip, beside relays by hand."""
    settings, load = session.settings, JsonLoad()
    events = settings.events or (500 if settings.quick else _BURST)

    def carried(peer: Peer) -> dict[str, float]:
        return measure.burst(peer, events, _BURST_SECONDS)

    note = f"{events:,} events of {load.size} bytes of JSON at once; fewer where that takes {_BURST_SECONDS:g} s"
    reports = [session.each("bridge", note, NEAR, carried)]
    if not settings.quick:
        reports.append(_away(session).each("bridge", note, FAR, carried))
    return Report("bridge", note, [row for report in reports for row in report.rows])


def oneway(session: Session) -> Report:
    """From before a send on one bus to the event at a subscriber of the other, at 100, 2,000 and 10,000 events/s."""
    settings = session.settings
    rates = _RATES[:1] if settings.quick else _RATES
    note = "one-way latency from bus to bus, publisher sleeps between events"

    def timed(peer: Peer, case: str) -> Timing:
        rate = int(case.partition("/")[0].replace(",", ""))
        events = settings.events or (20 if settings.quick else max(rate, _FEWEST))
        return timed_oneway(peer, max(events // 10, 1), events, rate, (None, None))

    reports = [session.latency("bridge-oneway", note, [f"{rate:,}/s" for rate in rates], timed)]
    if not settings.quick:
        far = [f"{rate:,}/s, 50 ms away" for rate in _FAR_RATES]
        reports.append(_away(session).latency("bridge-oneway", note, far, timed))
    return Report("bridge-oneway", note, [row for report in reports for row in report.rows])


def _away(session: Session) -> Session:
    """The same peers with a network in between, but for the one that only shows what the client costs."""
    peers = [peer for peer in session.peers if peer.name != CORE]
    far = [replace(peer, connect=partial(peer.connect, round_trip=_AWAY)) for peer in peers]
    return replace(session, peers=far)


BRIDGES: dict[str, Callable[[Session], Report]] = {"bridge": burst, "bridge-oneway": oneway}
