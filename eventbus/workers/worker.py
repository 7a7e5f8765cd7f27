"""Worker: handlers of events, each run by several processes that are started again when they die."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from eventbus import patterns
from eventbus.bus import Bus
from eventbus.errors import InvalidError
from eventbus.event import Event
from eventbus.group import MAX_DELIVERIES
from eventbus.patterns import Wanted
from eventbus.workers.crew import Crew
from eventbus.workers.handling import Handling

Function = TypeVar("Function", bound=Callable[[Event], Any])

log = logging.getLogger("eventbus.worker")


class Handler(NamedTuple):
    """A function and what it handles."""

    function: Callable[[Event], Any]
    name: str
    system: tuple[str, ...]
    kind: tuple[str, ...] | None


class Worker:
    """Handlers of events, and the processes that run them.

    Example::

        worker = Worker("shop", group="billing")

        @worker.on("orders.*", kind="order.created")
        def charge(event): ...

        worker.run(processes=4)

    Each handler has a group of its own, so each gets every event that it hears, once: the worker's group if it is the
    only handler, else that group's name and the function's, ``billing.charge``. Each has its own processes, too.

    A handler that returns has done with the event; what it returns is the reply to a request. One that raises has the
    event delivered again, up to ``max_deliveries`` times in all; then the event is sent as ``eventbus.dead`` /
    ``exhausted``, with the traceback in its data, and a request fails where it was made. An ``async def`` handles one
    event at a time; all of a process run in one event loop.
    """

    def __init__(
        self,
        bus: str | Bus | None = None,
        *,
        group: str = "workers",
        prefetch: int = 1,
        max_deliveries: int = MAX_DELIVERIES,
        start: Literal["latest", "oldest"] | int = "latest",
    ) -> None:
        """Makes one without handlers.

        Args:
            bus: its name, or an open one; ``run`` may give it instead.
            group: the group that the processes are members of.
            prefetch: how many events a process claims at once.
            max_deliveries: how often an event is tried; left out, a group that there is already keeps its number.
            start: where the group begins, when this worker makes it.
        """
        self.bus = bus
        self.group = group
        self.prefetch = prefetch
        self.max_deliveries = max_deliveries
        self.start = start
        self.handlers: list[Handler] = []

    def on(self, system: Wanted, kind: Wanted | None = None) -> Callable[[Function], Function]:
        """Makes the function below it the handler of the events that match.

        Raises:
            InvalidError: a bad pattern, or a second handler of the same name.
        """
        systems = patterns.compile_any(system, "system").texts
        kinds = None if kind is None else patterns.compile_any(kind, "kind").texts

        def register(function: Function) -> Function:
            name = getattr(function, "__name__", type(function).__name__)
            if any(one.name == name for one in self.handlers):
                raise InvalidError(f"there is a handler {name!r} already: give each function a name of its own")
            self.handlers.append(Handler(function, name, systems, kinds))
            return function

        return register

    def run(
        self,
        processes: int = 1,
        *,
        bus: str | Bus | None = None,
        group: str | None = None,
        prefetch: int | None = None,
        max_events: int | None = None,
    ) -> None:
        """Runs until SIGTERM, Ctrl-C or the end of the bus, and restarts the processes that die.

        A handler whose group is removed has no processes any more; without any, the worker ends. The first
        signal lets each process finish the event in hand; a second one ends them at once, and what they had in hand is
        delivered again. Only the main thread may call this.

        Args:
            processes: how many for each handler.
            bus, group, prefetch: instead of the worker's own.
            max_events: a process leaves after so many and another takes its place.

        Raises:
            InvalidError: a bad argument, no handler, or a group of that name with other patterns.
        """
        _check_count("processes", processes)
        _check_count("prefetch", self.prefetch if prefetch is None else prefetch)
        if max_events is not None:
            _check_count("max_events", max_events)
        if not self.handlers:
            raise InvalidError("the worker has no handler: decorate a function with @worker.on(...)")
        chosen = bus if bus is not None else self.bus
        if isinstance(chosen, Bus):
            self._run(chosen, processes, group or self.group, prefetch or self.prefetch, max_events)
        elif chosen is None:
            raise InvalidError("the worker has no bus: name one, Worker('shop') or run(bus='shop')")
        else:
            with Bus(chosen) as opened:
                self._run(opened, processes, group or self.group, prefetch or self.prefetch, max_events)

    def _run(self, bus: Bus, processes: int, group: str, prefetch: int, max_events: int | None) -> None:
        handlings = [Handling(bus, *one, self._group(group, one), prefetch, max_events) for one in self.handlers]
        for one in handlings:
            bus.group(one.group, one.system, one.kind, start=self.start, max_deliveries=self.max_deliveries)
        crew = Crew([one for one in handlings for _ in range(processes)])
        log.info("process %d works on the bus %r with %d processes", os.getpid(), bus.name, len(crew.posts))
        crew.run()

    def _group(self, group: str, handler: Handler) -> str:
        return group if len(self.handlers) == 1 else f"{group}.{handler.name}"


def _check_count(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidError(f"{what} must be an int of at least 1, not {value!r}", **{what: value})
