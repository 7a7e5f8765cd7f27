"""The command ``eventbus top``: a bus as it goes, on a terminal."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from eventbus.cli.options import Json
from eventbus.cli.rates import SORTS, Look, look, view
from eventbus.cli.screen import Screen
from eventbus.cli.tables import existing
from eventbus.errors import InvalidError


def top(
    name: Annotated[
        str | None, typer.Argument(metavar="[BUS]", help="one bus; all of this host if left out", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="look for one interval, write it, and end")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="S", help="seconds from look to look")] = 1.0,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help=f"sort by {', '.join(SORTS)}")] = None,
    part: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="only rows with this in a name or a pattern")
    ] = "",
    as_json: Json = False,
) -> None:
    """Watch a bus as it goes.

    Its topics, who has how much to receive, what groups have in hand, and who holds the ring back. Rates are per
    second, of the last interval. "kept" is how much of the ring is kept for somebody: at seven eighths publishers wait.
    Nothing is attached to, and nobody is held up.

    On a terminal, q ends it, s sorts by the next column, / asks for a filter, and space looks at once. With --json it
    writes one JSON object per line and interval, with --once a single one.
    """
    if sort is not None and sort not in SORTS:
        raise typer.BadParameter(f"{sort!r} is none of {', '.join(SORTS)}", param_hint="--sort")
    if name is not None:
        existing(name)
    if as_json:
        _write(name, interval, once, sort, part)
        return
    screen = Screen(name, sort, part)
    if once:
        screen.print(*_looks(name, interval))
    elif screen.is_terminal:
        screen.run(interval)
    else:
        raise InvalidError("there is no terminal to show it on: add --once or --json")


def _looks(name: str | None, interval: float) -> tuple[dict[str, Look], dict[str, Look]]:
    before = look(name)
    time.sleep(interval)
    return look(name), before


def _write(name: str | None, interval: float, once: bool, sort: str | None, part: str) -> None:
    before = look(name)
    while True:
        time.sleep(interval)
        now = look(name)
        print(json.dumps(view(name, now, before, sort, part)), flush=True)
        if once:
            return
        before = now
