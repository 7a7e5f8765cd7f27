"""One run of the benchmarks: peers take turns, so that a drift of the machine meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from benchmarks import latency, throughput
from benchmarks.peer import Peer
from benchmarks.report import Figure, Report, Row, figures_of, histogram_of, merged, percentiles_of

_WARM_UP_EVENTS = 5_000
_WARM_UP_BYTES = 8 * 2**20

_Measured = TypeVar("_Measured")


@dataclass(frozen=True)
class Settings:
    """How long and how often to measure.

    Attributes:
        repetitions: how often each peer is measured in each case.
        events: events or round trips per repetition, or ``None`` for as many as fill ``seconds``.
        seconds: length of a repetition.
        quick: leave out what is not needed to see that all works.
        spread: keep each process on one CPU, in turn, instead of where the kernel likes.
    """

    repetitions: int
    events: int | None
    seconds: float
    quick: bool
    spread: bool


class Progress(Protocol):
    """Told of every repetition before it starts."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Session:
    """The peers of a run, its settings and who is told how far it is."""

    peers: list[Peer]
    settings: Settings
    progress: Progress

    def throughput(self, name: str, note: str, cases: list[throughput.Case]) -> Report:
        """Measure every case with every peer at full speed."""
        by_title = {case.title: case for case in cases}
        # What the first repetition chose for a peer, all its repetitions measure.
        chosen: dict[tuple[str, str], int] = {}

        def measure(peer: Peer, title: str) -> throughput.Outcome:
            case, key = by_title[title], (title, peer.name)
            warm_up = min(_WARM_UP_EVENTS, _WARM_UP_BYTES // case.load.size)
            events = self.settings.events or chosen.get(key)
            outcome = throughput.run(peer, case, warm_up, events, self.settings.seconds, self.settings.spread)
            chosen[key] = outcome.events
            return outcome

        found = self._alternate(name, by_title, measure)
        return Report(name, note, [_throughput_row(title, peer, outcomes) for title, peer, outcomes in found])

    def latency(
        self, name: str, note: str, cases: Iterable[str], measure: Callable[[Peer, str], latency.Timing]
    ) -> Report:
        """Measure the latency of every peer in every case."""
        found = self._alternate(name, cases, measure)
        return Report(name, note, [_latency_row(title, peer, timings) for title, peer, timings in found])

    def _alternate(
        self, name: str, cases: Iterable[str], measure: Callable[[Peer, str], _Measured]
    ) -> list[tuple[str, Peer, list[_Measured]]]:
        found: dict[tuple[str, str], list[_Measured]] = {
            (title, peer.name): [] for title in cases for peer in self.peers
        }
        steps = self._steps(cases)
        for done, (title, repetition, peer) in enumerate(steps):
            self.progress(f"{name} {title}: {peer.name}, repetition {repetition + 1}", done, len(steps))
            found[title, peer.name].append(measure(peer, title))
        return [(title, peer, found[title, peer.name]) for title in cases for peer in self.peers]

    def _steps(self, cases: Iterable[str]) -> list[tuple[str, int, Peer]]:
        present = [peer for peer in self.peers if peer.missing is None]
        return [
            (title, number, peer) for title in cases for number in range(self.settings.repetitions) for peer in present
        ]


def _throughput_row(title: str, peer: Peer, outcomes: list[throughput.Outcome]) -> Row:
    if not outcomes:
        return Row(title, peer.name, absent=peer.missing)
    samples = [
        {"events/s": o.rate, "CPU s/M": o.cpu_per_million, "CPUs busy": o.cpu / o.seconds, "events": float(o.events)}
        for o in outcomes
    ]
    return Row(title, peer.name, figures_of(samples))


def _latency_row(title: str, peer: Peer, timings: list[latency.Timing]) -> Row:
    if not timings:
        return Row(title, peer.name, absent=peer.missing)
    histograms = [histogram_of(timing.nanoseconds) for timing in timings]
    figures = figures_of(percentiles_of(histogram) for histogram in histograms)
    figures["CPU µs"] = Figure(tuple(timing.cpu / len(timing.nanoseconds) * 1e6 for timing in timings))
    return Row(title, peer.name, figures, histogram=merged(histograms))
