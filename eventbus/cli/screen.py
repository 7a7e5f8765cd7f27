"""The screen of ``top``: tables that fit a terminal, and the keys that change them."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eventbus.cli.console import make_console
from eventbus.cli.rates import SORTS, TABLES, Look, look, view
from eventbus.cli.streams import printable
from eventbus.cli.tables import DELAYS, Row, byte_text, delay_text

COLUMNS = {
    "buses": ("name", "state", "attached", "subscribers", "rate", "bytes", "kept"),
    "subscribers": ("name", "pid", "system", "backlog", "kept", "lost", "rate", "delay_p50", "delay_p99"),
    "groups": ("name", "system", "kind", "members", "backlog", "in_hand", "held", "dead", "kept", "rate"),
    "topics": ("system", "kind", "sent", "rate"),
}
TEXTS = frozenset(("name", "state", "system", "kind"))
FULL = 0.75  # of the ring that is kept for somebody, from where on it is shown in red
KEYS = "q ends, s sorts, / filters, space looks"
ESCAPE, BACKSPACE = "\x1b", "\x7f\b"


class Screen:
    """What is shown: a bus, or all if ``name`` is None, sorted and filtered."""

    def __init__(self, name: str | None, sort: str | None, part: str) -> None:
        self._console = make_console()
        self._name = name
        self._sort = sort
        self._part = part
        self._typing = False

    @property
    def is_terminal(self) -> bool:
        """Whether there is somebody to press keys."""
        return self._console.is_terminal and sys.stdin is not None and sys.stdin.isatty()

    def print(self, now: dict[str, Look], before: dict[str, Look]) -> None:
        """Once, all of it."""
        self._console.print(self._picture(now, before, None))

    def run(self, interval: float) -> None:
        """Until q."""
        before = now = look(self._name)
        with keyboard() as keys, Live(console=self._console, screen=True, auto_refresh=False) as live:
            next_look = time.monotonic() + interval
            while True:
                live.update(self._picture(now, before, self._console.height), refresh=True)
                pressed = keys.wait(max(0.0, next_look - time.monotonic()))
                if not all(map(self._press, pressed)):
                    return
                if time.monotonic() >= next_look or " " in pressed:
                    before, now = now, look(self._name)
                    next_look = time.monotonic() + interval

    def _press(self, key: str) -> bool:
        """Whether to go on."""
        if self._typing:
            self._type(key)
        elif key == "s":
            self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS) if self._sort else 0]
        elif key == "/":
            self._typing, self._part = True, ""
        elif key == ESCAPE:
            self._part = ""
        return self._typing or key != "q"

    def _type(self, key: str) -> None:
        """A key of the filter, which ends with Enter; Escape forgets it."""
        if key in "\r\n" + ESCAPE:
            self._typing = False
        if key == ESCAPE:
            self._part = ""
        elif key in BACKSPACE:
            self._part = self._part[:-1]
        elif key.isprintable():
            self._part += key

    def _picture(self, now: dict[str, Look], before: dict[str, Look], height: int | None) -> Group:
        """``height``: the lines that there are; None for as many as it takes."""
        shown = view(self._name, now, before, self._sort, self._part)
        head = [] if self._name is None else _head(shown)
        tables = ["buses"] if self._name is None else [name for name in TABLES if shown[name]]
        foot = [] if height is None else [self._foot()]
        left = None if height is None else height - len(head) - len(foot)
        parts: list[Any] = [*head]
        for place, name in enumerate(tables):
            rows = None if left is None else max(2, left // (len(tables) - place) - 2)
            parts += [Text(), _table(name, shown[name], self._console.is_terminal, rows)]
            if left is not None and rows is not None:
                left -= min(rows, len(shown[name])) + 2
        return Group(*parts, *foot)

    def _foot(self) -> Text:
        if self._typing:
            return Text(f"filter: {printable(self._part)}_", style="reverse")
        filtered = f", filter {printable(self._part)!r}" if self._part else ""
        return Text(f"{KEYS}; sorted by {self._sort or 'what matters'}{filtered}", style="dim", no_wrap=True)


def _head(shown: Row) -> list[Text]:
    """The bus in three lines, and who holds it back."""
    about = f"{shown['name']}  {shown['state']}  attached {_cell('attached', shown['attached'])}"
    rate, size, sent = (_cell(column, shown[column]) for column in ("rate", "bytes", "sent"))
    share = shown["kept"] or 0.0
    who = shown["holding"] or "nobody holds the ring back"
    style = "bold red" if share >= FULL else ""
    return [
        Text(about, style="bold"),
        Text(f"{rate} events/s  {size}  {sent} sent"),
        Text(printable(f"{share:.0%} of the ring kept: {who}"), style=style),
    ]


def _table(name: str, rows: list[Row], fitting: bool, most: int | None) -> Table:
    """``fitting``: the texts share the width of the terminal; else nothing is cut."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=fitting)
    for column in COLUMNS[name]:
        is_text = column in TEXTS
        title = f"{name}: {len(rows)}" if column == COLUMNS[name][0] else column.replace("delay_", "").replace("_", " ")
        share = 1 if is_text and fitting else None
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis", ratio=share)
    for row in rows[:most]:
        style = "red" if row.get("kept") is not None and row["kept"] >= FULL else ""
        table.add_row(*(Text(_cell(column, row[column])) for column in COLUMNS[name]), style=style)
    return table


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column == "kept":
        return f"{value:.0%}"
    if column == "bytes":
        return f"{byte_text(int(value))}/s"
    if column in DELAYS:
        return delay_text(value)
    if column in ("rate", "held"):
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return printable(str(value))


class Keys:
    """The keys that were pressed on a terminal that hands out each by itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def wait(self, seconds: float) -> str:
        """Those pressed, at the latest after so many seconds; q when the terminal has gone."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return ""
        pressed = os.read(self._fd, 64).decode(errors="ignore")
        return ESCAPE if len(pressed) > 1 and pressed[0] == ESCAPE else pressed or "q"


@contextmanager
def keyboard() -> Iterator[Keys]:
    """Keys without Enter and without their echo; the terminal is as it was afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
