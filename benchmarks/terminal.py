"""Figures and progress for people: a rich table where rich is installed, aligned text where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.report import Figure, Report, Row
from benchmarks.session import Progress

try:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.table import Table
except ImportError:
    RICH = False
else:
    RICH = True


def show_machine(facts: dict[str, Any]) -> None:
    """Print the machine's facts."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    print(f"{facts['processor']}, {facts['cpus']} CPUs, {facts['memory_mib']} MiB, load {facts['load']}")
    kernel = " ".join([facts["kernel"], *facts["scheduler"]])
    print(f"Linux {kernel}, {facts['libc']}, {facts['python']}; {versions}; commit {facts['commit']}")


def show(report: Report) -> None:
    """Print one report: the median of each figure, with its spread where there is one."""
    columns = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    head = ["case", "peer", *columns]
    lines = [_line(row, columns) for row in report.rows]
    title = f"{report.name}: {report.note}"
    if RICH:
        _show_rich(title, head, lines)
    else:
        _show_plain(title, head, lines)
    for peer, reason in {row.peer: row.absent for row in report.rows if row.absent}.items():
        print(f"absent: {peer} ({reason})")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far the run is on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield _log
    elif RICH:
        # Without its refresh thread: the harness forks, so it must have one thread.
        with Bar(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
            yield _on_bar(bar)
    else:
        yield _log


def _on_bar(bar: Bar) -> Progress:
    task = bar.add_task("")

    def advance(step: str, done: int, total: int) -> None:
        bar.update(task, description=step, completed=done, total=total, refresh=True)

    return advance


def _log(step: str, done: int, total: int) -> None:
    print(f"[{done + 1}/{total}] {step}", file=sys.stderr)


def _line(row: Row, columns: list[str]) -> list[str]:
    if row.absent is not None:
        return [row.case, row.peer, "absent", *[""] * (len(columns) - 1)]
    return [row.case, row.peer, *(_cell(row.figures.get(name)) for name in columns)]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if min(figure.values) == max(figure.values):
        return _number(figure.median)
    return f"{_number(figure.median)} ({_number(min(figure.values))}..{_number(max(figure.values))})"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _show_rich(title: str, head: list[str], lines: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < 2 else "right")
    for number, line in enumerate(lines):
        last = number + 1 == len(lines) or lines[number + 1][0] != line[0]
        table.add_row(*line, end_section=last)
    # A table in a file or a pipe is not cut to the eighty columns that rich assumes there.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _show_plain(title: str, head: list[str], lines: list[list[str]]) -> None:
    widths = [max(len(line[place]) for line in [head, *lines]) for place in range(len(head))]
    print(f"\n{title}")
    for line in [head, *lines]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
