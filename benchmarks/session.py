"""One run of the benchmarks: peers take turns, so that a drift of the machine meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from benchmarks import floor, latency, throughput
from benchmarks.peer import Peer
from benchmarks.report import Figure, Report, Row, figures_of, histogram_of, merged, percentiles_of
from benchmarks.throughput import Case, Outcome

_WARM_UP_EVENTS = 5_000
_WARM_UP_BYTES = 8 * 2**20

_Case = TypeVar("_Case", str, Case)
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

    def once(self) -> Session:
        """Return the same session with one repetition."""
        return replace(self, settings=replace(self.settings, repetitions=1))

    def throughput(self, name: str, note: str, cases: list[Case], *floors: Peer) -> Report:
        """Measure every case with every peer at full speed, and with the floors."""
        return Report(name, note, self.rows(name, [(case, peer) for case in cases for peer in [*self.peers, *floors]]))

    def rows(self, name: str, pairs: list[tuple[Case, Peer]]) -> list[Row]:
        """Measure cases at full speed, each with the peer beside it."""
        # What the first repetition chose for a peer, all its repetitions measure.
        chosen: dict[tuple[str, str], int] = {}

        def measure(peer: Peer, case: Case) -> Outcome:
            key = (case.title, peer.name)
            outcome = self._outcome(peer, case, self.settings.events or chosen.get(key))
            chosen[key] = outcome.events
            return outcome

        found = self._alternate(name, pairs, measure, lambda peer, case: peer.refuses(case.topology()))
        return [_throughput_row(case.title, peer, outcomes, refused) for case, peer, outcomes, refused in found]

    def _outcome(self, peer: Peer, case: Case, events: int | None) -> Outcome:
        if peer in floor.ALL:
            return floor.run(peer, case, events, self.settings.seconds, self.settings.spread)
        warm_up = min(_WARM_UP_EVENTS, _WARM_UP_BYTES // case.load.size)
        return throughput.run(peer, case, warm_up, events, self.settings.seconds, self.settings.spread)

    def latency(
        self, name: str, note: str, cases: Iterable[str], measure: Callable[[Peer, str], latency.Timing]
    ) -> Report:
        """Measure the latency of every peer in every case."""
        pairs = [(title, peer) for title in cases for peer in self.peers]
        found = self._alternate(name, pairs, measure)
        return Report(name, note, [_latency_row(title, peer, timings) for title, peer, timings, _ in found])

    def each(self, name: str, note: str, case: str, measure: Callable[[Peer], dict[str, float]]) -> Report:
        """Measure some quantities of every peer."""
        found = self._alternate(name, [(case, peer) for peer in self.peers], lambda peer, _: measure(peer))
        rows = [Row(case, peer.name, figures_of(samples), peer.missing) for _, peer, samples, _ in found]
        return Report(name, note, rows)

    def alone(
        self, name: str, note: str, measure: Callable[[], dict[tuple[str, str], float]], unit: str = "ns"
    ) -> Report:
        """Measure what concerns no peer: quantities of ``unit`` by case and step."""
        samples = []
        for repetition in range(self.settings.repetitions):
            self.progress(f"{name}, repetition {repetition + 1}", repetition, self.settings.repetitions)
            samples.append(measure())
        return Report(name, note, [Row(*step, {unit: figure}) for step, figure in figures_of(samples).items()], "step")

    def _alternate(
        self,
        name: str,
        pairs: list[tuple[_Case, Peer]],
        measure: Callable[[Peer, _Case], _Measured],
        refuses: Callable[[Peer, _Case], str | None] = lambda _peer, _case: None,
    ) -> list[tuple[_Case, Peer, list[_Measured], str | None]]:
        refused = [refuses(peer, case) for case, peer in pairs]
        found: list[list[_Measured]] = [[] for _ in pairs]
        served = [index for index, (_, peer) in enumerate(pairs) if not (peer.missing or refused[index])]
        steps = [(repetition, index) for repetition in range(self.settings.repetitions) for index in served]
        for done, (repetition, index) in enumerate(steps):
            case, peer = pairs[index]
            self.progress(f"{name} {case}: {peer.name}, repetition {repetition + 1}", done, len(steps))
            found[index].append(measure(peer, case))
        return [(case, peer, found[index], refused[index]) for index, (case, peer) in enumerate(pairs)]


def _throughput_row(title: str, peer: Peer, outcomes: list[Outcome], refused: str | None) -> Row:
    samples = [
        {"events/s": o.rate, "CPU s/M": o.cpu_per_million, "CPUs busy": o.cpu / o.seconds, "events": float(o.events)}
        for o in outcomes
    ]
    return Row(title, peer.name, figures_of(samples), peer.missing, refused)


def _latency_row(title: str, peer: Peer, timings: list[latency.Timing]) -> Row:
    if not timings:
        return Row(title, peer.name, absent=peer.missing)
    histograms = [histogram_of(timing.nanoseconds) for timing in timings]
    figures = figures_of(percentiles_of(histogram) for histogram in histograms)
    figures["CPU µs"] = Figure(tuple(timing.cpu / len(timing.nanoseconds) * 1e6 for timing in timings))
    return Row(title, peer.name, figures, histogram=merged(histograms))
