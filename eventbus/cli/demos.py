"""The command ``eventbus demo``: a real job on one bus, or on those of many hosts, or a chat in a browser."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from eventbus.cli import demo, hosts, web
from eventbus.cli.console import make_console
from eventbus.errors import InvalidError


def run_demo(
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, metavar="DIR", help="index DIR, not the standard library"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes that work; one per CPU, 2 to 8, if left out")
    ] = None,
    many: Annotated[
        int, typer.Option("--hosts", min=1, max=9, metavar="N", help="on so many buses, as if each were a host's")
    ] = 1,
    chat: Annotated[bool, typer.Option("--web", help="serve a chat by the workers of a web server instead")] = False,
) -> None:
    """Index Python's standard library over a bus.

    A scanner, a group of workers and a collector, each a process of its own. One worker is killed half-way, and another
    gets its file. With --hosts, each has a bus, workers and a bridge to a nats-server of the demo's own; a bridge and
    all workers of a host are killed. Exits with 1 unless every file was counted exactly once.

    With --web, the workers of a web server share a chat by one bus, until Ctrl-C or SIGTERM. Open it in two
    windows.
    """
    crew = workers or min(8, max(2, len(os.sched_getaffinity(0))))
    files, console = root or Path(sysconfig.get_path("stdlib")), make_console()
    if chat:
        if root is not None or many > 1:
            raise InvalidError("--web indexes nothing: leave --root and --hosts out")
        web.run(crew, console)
    once = demo.run(files, crew, console) if many == 1 else hosts.run(files, many, workers or 2, console)
    if not once:
        raise typer.Exit(1)
