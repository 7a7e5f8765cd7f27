"""Figures and progress for people: a rich table where rich is installed, aligned text where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.session import Progress
from benchmarks.tables import Table

try:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.table import Table as RichTable
except ImportError:
    RICH = False
else:
    RICH = True


def show(table: Table) -> None:
    """Print one table and its notes."""
    if RICH:
        _show_rich(table)
    else:
        _show_plain(table)
    for note in table.notes:
        print(note)


@contextmanager
def progress(stage: str) -> Iterator[Progress]:
    """Show how far ``stage`` of the run is: a bar on standard error if that is a terminal, lines if not."""
    if not sys.stderr.isatty():
        yield _log(stage)
    elif RICH:
        # Without its refresh thread: the harness forks, so it must have one thread.
        with Bar(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
            yield _on_bar(bar, stage)
    else:
        yield _log(stage)


def _on_bar(bar: Bar, stage: str) -> Progress:
    task = bar.add_task("")

    def advance(step: str, done: int, total: int) -> None:
        bar.update(task, description=f"{stage}: {step}", completed=done, total=total, refresh=True)

    return advance


def _log(stage: str) -> Progress:
    def advance(step: str, done: int, total: int) -> None:
        print(f"[{stage}, {done + 1}/{total}] {step}", file=sys.stderr)

    return advance


def _show_rich(table: Table) -> None:
    shown = RichTable(title=table.title, title_justify="left")
    for place, name in enumerate(table.head):
        shown.add_column(name, justify="left" if place < table.words else "right")
    for number, line in enumerate(table.lines):
        following = table.lines[number + 1 : number + 2]
        shown.add_row(*line, end_section=table.cases and any(other[0] != line[0] for other in following))
    # A table in a file or a pipe is not cut to the eighty columns that rich assumes there.
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _show_plain(table: Table) -> None:
    lines = [table.head, *table.lines]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    print(f"\n{table.title}")
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
