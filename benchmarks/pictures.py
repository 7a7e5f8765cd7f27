"""Pictures of one run, drawn from its results.json: each as SVG and as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from hdrh.histogram import HdrHistogram
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

_COLOURS = {
    "eventbus": "#d62728",
    "zmq PUB/SUB": "#1f4e9c",
    "zmq PUB/SUB, 1 frame": "#4f8fdc",
    "zmq PUSH/PULL": "#17a2b8",
    "SEQPACKET": "#2e7d32",
    "mp.Queue": "#8d6e63",
    "faster-fifo": "#9c7a00",
    "iceoryx2": "#7b1fa2",
    "redis pub/sub": "#555555",
    "redis streams": "#a0a0a0",
}
_MARKERS = dict(zip(_COLOURS, "osDv^<>PXd", strict=True))
_STYLE: Any = {
    "font.size": 10,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 130,
    # The same run draws the same bytes.
    "svg.hashsalt": "eventbus",
}
_PLACES = ("pingpong free", "oneway 1,000/s", "oneway 10,000/s")
_TITLES = {"pingpong": "round trip, CPUs", "oneway": "one way,"}
_RANKS = (50.0, 90.0, 99.0, 99.9)

_UNITS = {"events/s": "events/s, end to end (log)", "CPU s/M": "CPU µs per delivery, all processes (log)"}

Rows = list[dict[str, Any]]


def draw(run: dict[str, Any], directory: Path) -> list[str]:
    """Draw what the run has figures for.

    Args:
        run: as `report.document` makes it.
        directory: where the pictures go.

    Returns:
        The file names of the PNGs.
    """
    found = {benchmark["name"]: benchmark["rows"] for benchmark in run["benchmarks"]}
    with mpl.rc_context(_STYLE):
        return [_save(picture, name, directory) for name, picture in _pictures(found)]


def _pictures(found: dict[str, Rows]) -> Iterator[tuple[str, Canvas]]:
    if "fanout" in found:
        yield "throughput", _by_subscribers(found["fanout"], "events/s", "Events per second, by subscribers")
        yield "cpu", _by_subscribers(found["fanout"], "CPU s/M", "CPU per delivery, by subscribers")
    if "pingpong" in found and "oneway" in found:
        yield "latency", _latencies(found)
    if "scaling" in found:
        yield "sizes", _by_size(found["scaling"])
    if "growth" in found:
        yield "growth", _growth(found["growth"])


def _by_subscribers(rows: Rows, figure: str, title: str) -> Canvas:
    canvas, axes = _canvas(title)
    _lines(axes, rows, figure, lambda case: int(case.rpartition(" ")[2]))
    counts = sorted({int(row["case"].rpartition(" ")[2]) for row in rows})
    _log_axes(axes, counts, [str(count) for count in counts])
    axes.set_xlabel("subscribers, each hearing every event")
    axes.set_ylabel(_UNITS[figure])
    _legend(canvas, axes)
    return canvas


def _by_size(rows: Rows) -> Canvas:
    canvas, axes = _canvas("Events per second, by event size (1 → 1, JSON)")
    _lines(axes, rows, "events/s", lambda case: int(case.split()[0]))
    sizes = sorted({int(row["case"].split()[0]) for row in rows})
    _log_axes(axes, sizes, [_bytes(size) for size in sizes])
    axes.set_xlabel("size of an encoded event (log)")
    axes.set_ylabel("events/s, end to end (log)")
    _legend(canvas, axes)
    return canvas


def _lines(axes: Any, rows: Rows, figure: str, place: Callable[[str], int]) -> None:
    for peer, shown in _by_peer(rows, figure):
        figures = [row["figures"][figure] for row in shown]
        middle = [one["median"] for one in figures]
        spread = [[one["median"] - one["min"] for one in figures], [one["max"] - one["median"] for one in figures]]
        axes.errorbar([place(row["case"]) for row in shown], middle, spread, capsize=2, elinewidth=1, **_look(peer))


def _latencies(found: dict[str, Rows]) -> Canvas:
    canvas = Canvas(figsize=(12, 5.2), layout="constrained")
    panels = canvas.subplots(1, len(_PLACES), sharey=True)
    canvas.suptitle("Latency distribution to p99.9")
    for axes, place in zip(panels, _PLACES, strict=True):
        name, _, case = place.partition(" ")
        _distribution(axes, [row for row in found[name] if row["case"] == case])
        axes.set_title(f"{_TITLES[name]} {case}", fontsize=10)
        axes.set_xlabel("percentile")
    panels[0].set_ylabel("µs (log)")
    _legend(canvas, panels[0])
    return canvas


def _distribution(axes: Any, rows: Rows) -> None:
    # Percentiles at even steps of 1 / (1 - p): the tail gets as much room as what is usual.
    ranks = [100 * (1 - 10 ** (-step / 40)) for step in range(121)]
    for row in rows:
        if row["histogram"] is not None:
            histogram = HdrHistogram.decode(row["histogram"])
            values = [histogram.get_value_at_percentile(rank) / 1e3 for rank in ranks]
            axes.plot([100 / (100 - rank) for rank in ranks], values, **_look(row["peer"]) | {"marker": ""})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([100 / (100 - rank) for rank in _RANKS]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"p{100 - 100 / share:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _growth(rows: Rows) -> Canvas:
    names = list(dict.fromkeys(row["case"] for row in rows))
    canvas = Canvas(figsize=(12, 5.8), layout="constrained")
    panels = list(canvas.subplots(2, 3).flat)
    canvas.suptitle("How the cost of eventbus grows: CPU µs per delivery, all processes")
    for axes, name in zip(panels, names, strict=False):
        _growth_panel(axes, name, [row for row in rows if row["case"] == name])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return canvas


def _growth_panel(axes: Any, name: str, rows: Rows) -> None:
    figures = [row["figures"]["CPU s/M"] for row in rows]
    places = range(len(rows))
    middle = [one["median"] for one in figures]
    spread = [[one["median"] - one["min"] for one in figures], [one["max"] - one["median"] for one in figures]]
    axes.errorbar(places, middle, spread, capsize=2, **_look("eventbus"))
    axes.set_xticks(places, [_short(row["peer"]) for row in rows], rotation=40, ha="right", fontsize=8)
    axes.set_title(name, fontsize=10)
    if max(middle) > 20 * min(middle):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        axes.set_ylim(0, 1.15 * max(one["max"] for one in figures))


def _by_peer(rows: Rows, figure: str) -> Iterator[tuple[str, Rows]]:
    for peer in _COLOURS:
        shown = [row for row in rows if row["peer"] == peer and figure in row["figures"]]
        if shown:
            yield peer, shown


def _look(peer: str) -> dict[str, Any]:
    subject = peer == "eventbus"
    return {
        "label": peer,
        "color": _COLOURS[peer],
        "marker": _MARKERS[peer],
        "markersize": 6 if subject else 5,
        "linewidth": 2.6 if subject else 1.4,
        "zorder": 3 if subject else 2,
    }


def _canvas(title: str) -> tuple[Canvas, Any]:
    canvas = Canvas(figsize=(9, 5.2), layout="constrained")
    axes = canvas.subplots()
    axes.set_title(title)
    return canvas, axes


def _log_axes(axes: Any, places: list[int], labels: list[str]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, labels)
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))


def _legend(canvas: Canvas, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right upper")


def _short(point: str) -> str:
    """Leave out what the panel's title says already: "8 subscribers" is "8", "ring 64 KiB" is "64 KiB"."""
    return " ".join(word for word in point.split() if not word.isalpha() or word in ("B", "KiB", "MiB"))


def _bytes(size: int) -> str:
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def _save(canvas: Canvas, name: str, directory: Path) -> str:
    canvas.savefig(directory / f"{name}.svg", metadata={"Date": None})
    canvas.savefig(directory / f"{name}.png", metadata={"Software": None})
    return f"{name}.png"
