"""The command ``eventbus work``: runs the worker that a module defines."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Annotated

import typer

from eventbus.errors import InvalidError
from eventbus.workers.worker import Worker


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
    max_events: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="replace a process after N events, for code that leaks")
    ] = None,
) -> None:
    """Handle events with the worker of a module.

    The module is looked for in the current directory first. Processes that die are started again. Ctrl-C and SIGTERM
    let each finish the event in hand; a second one ends them at once, and what they had in hand is delivered again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    load(target).run(processes, bus=name, group=group, prefetch=prefetch, max_events=max_events)


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
