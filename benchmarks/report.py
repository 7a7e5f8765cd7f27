"""What a benchmark found: figures with their spread, rows, and the JSON that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_LOWEST_NS = 1
_HIGHEST_NS = 60 * 10**9
_DIGITS = 3

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Figure:
    """One quantity, measured once per repetition."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def over(self, other: Figure) -> Figure:
        """Return the ratio in each repetition, that of a drift of the machine left out."""
        return Figure(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def as_dict(self) -> dict[str, Any]:
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": list(self.values),
        }


@dataclass(frozen=True)
class Row:
    """One peer in one case.

    Attributes:
        absent: why the peer is not on this machine.
        refused: why the peer cannot serve this case.
        histogram: the latencies of all repetitions, as HdrHistogram encodes them.
    """

    case: str
    peer: str
    figures: dict[str, Figure] = field(default_factory=dict)
    absent: str | None = None
    refused: str | None = None
    histogram: str | None = None

    def as_dict(self) -> dict[str, Any]:
        figures = {name: figure.as_dict() for name, figure in self.figures.items()}
        return {
            "case": self.case,
            "peer": self.peer,
            "absent": self.absent,
            "refused": self.refused,
            "figures": figures,
            "histogram": self.histogram,
        }


@dataclass(frozen=True)
class Report:
    """One benchmark: its name, what its rows mean, the rows, and what stands where others have peers."""

    name: str
    note: str
    rows: list[Row]
    second: str = "peer"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "note": self.note, "rows": [row.as_dict() for row in self.rows]}


def figures_of(samples: Iterable[dict[_Key, float]]) -> dict[_Key, Figure]:
    """Turn the quantities of each repetition into one figure per quantity."""
    kept = list(samples)
    return {name: Figure(tuple(sample[name] for sample in kept)) for name in (kept[0] if kept else ())}


def histogram_of(nanoseconds: Iterable[int]) -> HdrHistogram:
    """Return an HdrHistogram of latencies."""
    histogram = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS)
    for value in nanoseconds:
        histogram.record_value(max(value, _LOWEST_NS))
    return histogram


def percentiles_of(histogram: HdrHistogram) -> dict[str, float]:
    """Return microseconds at each of PERCENTILES, by the name of its column."""
    return {f"p{rank:g} µs": histogram.get_value_at_percentile(rank) / 1e3 for rank in PERCENTILES}


def merged(histograms: Iterable[HdrHistogram]) -> str:
    """Add histograms up and return the sum in HdrHistogram's own text form."""
    total = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS)
    for histogram in histograms:
        total.add(histogram)
    text: bytes = total.encode()
    return text.decode()


def document(machine: dict[str, Any], settings: dict[str, Any], reports: Iterable[Report]) -> dict[str, Any]:
    """Return one run as what JSON can hold."""
    return {"machine": machine, "settings": settings, "benchmarks": [report.as_dict() for report in reports]}


def write_json(path: Path, run: dict[str, Any]) -> None:
    """Write one run to ``path``."""
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
