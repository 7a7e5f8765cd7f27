"""The command ``eventbus work``: runs the worker that a module defines."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Annotated

import typer

from eventbus.bus import Bus
from eventbus.errors import EventBusError, InvalidError
from eventbus.settings import size
from eventbus.workers.renewal import FINE, Renewal
from eventbus.workers.worker import Worker

CHECK = "import sys; from eventbus.cli.work import check; check(*sys.argv[1:])"


def work(
    name: Annotated[str, typer.Argument(metavar="BUS", help="the name of the bus", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="MODULE:WORKER", help="where the worker is", show_default=False)],
    processes: Annotated[int, typer.Option(min=1, metavar="N", help="processes for each handler")] = 1,
    group: Annotated[
        str | None, typer.Option(metavar="G", help="what the names of its groups begin with, if not the worker's own")
    ] = None,
    prefetch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="events that a process claims at once")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="events that an async def handles at once in each process")
    ] = None,
    max_events: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="replace a process after N events, for code that leaks")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="replace a process with more memory of its own after an event; K, M, G"),
    ] = None,
    persist: Annotated[
        bool, typer.Option("--persist", help="keep the bus, and what waits there, when nobody has it open")
    ] = False,
) -> None:
    """Handle events with the worker of a module.

    The module is looked for in the current directory first. Processes that die are started again. Ctrl-C and SIGTERM
    let each finish what is under way; a second one ends them at once, and what they had in hand is delivered again.
    SIGHUP loads the module anew, and replaces them one by one.
    """
    limit = None if max_memory is None else size(max_memory)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    worker = load(target)
    worker.renewal = Renewal([sys.executable, "-c", CHECK, name, target, group or "", str(concurrency or "")])
    with Bus(name, persist=persist) as bus:
        worker.run(
            processes,
            bus=bus,
            group=group,
            prefetch=prefetch,
            concurrency=concurrency,
            max_events=max_events,
            max_memory=limit,
        )


def check(name: str, target: str, group: str = "", concurrency: str = "") -> None:
    """Says whether the worker could run on the bus: in a process of its own, before the program begins anew."""
    try:
        with Bus(name) as bus:
            load(target).prepare(bus, group or None, int(concurrency) if concurrency else None)
        print(FINE)
    except EventBusError as error:
        print(error.message)


def load(target: str) -> Worker:
    """The worker that ``module:name`` names.

    Raises:
        InvalidError: there is no such module, or no worker in it.
    """
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise InvalidError(f"{target!r} does not name a worker: write module:worker")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InvalidError(f"there is no module {module!r} in {os.getcwd()} or on Python's path") from error
    if not isinstance(found, Worker):
        raise InvalidError(f"the module {module!r} has no eventbus.Worker named {attribute!r}")
    return found
