"""results.md: the machine, the goals and every table of one run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.tables import Table


def page(facts: list[str], tables: Iterable[Table], pictures: Iterable[str]) -> str:
    """Return the whole page.

    Args:
        facts: lines about the machine.
        tables: in their order.
        pictures: file names beside the page.
    """
    shown = [f"![{name}]({name})" for name in pictures]
    parts = ["# Benchmarks", "\n".join(f"- {fact}" for fact in facts), *shown, *map(_section, tables)]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    title, _, note = table.title.partition(": ")
    marks = ["---" if place < table.words else "---:" for place in range(len(table.head))]
    lines = "\n".join(_row(line) for line in [table.head, marks, *table.lines])
    return "\n\n".join([f"## {title}", f"{note}.", lines, *(f"- {note}" for note in table.notes)])


def _row(cells: list[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
