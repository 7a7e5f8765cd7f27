"""Reports as tables of text, for the terminal and for results.md."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.goals import Verdict
from benchmarks.report import Figure, Report, Row


@dataclass(frozen=True)
class Table:
    """Rows of text: the first ``words`` columns hold words, the others numbers; ``cases``: the first groups them."""

    title: str
    head: list[str]
    lines: list[list[str]]
    words: int = 2
    cases: bool = True
    notes: tuple[str, ...] = ()


def table_of(report: Report) -> Table:
    """Return the median of each figure, with its spread where there is one."""
    columns = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    lines = [_line(row, columns) for row in report.rows]
    return Table(f"{report.name}: {report.note}", ["case", report.second, *columns], lines, notes=_notes(report.rows))


def table_of_goals(verdicts: list[Verdict]) -> Table:
    """Return each goal with what was reached."""
    lines = [[v.goal.scenario, v.goal.wanted, v.against or "-", _cell(v.reached), v.said] for v in verdicts]
    title = "goals: ratios within one repetition, their median and spread"
    return Table(title, ["scenario", "goal", "measured against", "reached", ""], lines, words=3, cases=False)


def _notes(rows: list[Row]) -> tuple[str, ...]:
    absent = {f"absent: {row.peer} ({row.absent})" for row in rows if row.absent}
    refused = {f"-: {row.peer}: {row.refused}" for row in rows if row.refused}
    return (*sorted(absent), *sorted(refused))


def _line(row: Row, columns: list[str]) -> list[str]:
    if row.absent or row.refused:
        return [row.case, row.peer, "absent" if row.absent else "-", *[""] * (len(columns) - 1)]
    return [row.case, row.peer, *(_cell(row.figures.get(name)) for name in columns)]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if min(figure.values) == max(figure.values):
        return _number(figure.median)
    return f"{_number(figure.median)} ({_number(min(figure.values))}..{_number(max(figure.values))})"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
