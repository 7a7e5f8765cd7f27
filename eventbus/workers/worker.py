"""Worker: handlers of events, each run by several processes that are started again when they die."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from eventbus import patterns
from eventbus.bus import Bus
from eventbus.delays import checked_delay
from eventbus.errors import InvalidError
from eventbus.group import MAX_DELIVERIES
from eventbus.patterns import Wanted
from eventbus.workers.crew import Crew
from eventbus.workers.failures import Failures
from eventbus.workers.handler import Handler, check_count, check_terms, name_of, with_event
from eventbus.workers.handling import Handling, Hook, Hooks, Limits
from eventbus.workers.outcomes import Outcomes
from eventbus.workers.renewal import Renewal
from eventbus.workers.schedule import parse
from eventbus.workers.ticks import TICK_SYSTEM, check_group

Function = TypeVar("Function", bound=Callable[..., Any])
AnyHook = TypeVar("AnyHook", bound=Hook)

RETRY_DELAY = 1.0  # seconds
SHUTDOWN_TIMEOUT = 60.0  # seconds

log = logging.getLogger("eventbus.worker")


class _Terms(NamedTuple):
    """What all handlers of a worker have in common, as it is run."""

    group: str
    prefetch: int
    concurrency: int
    limits: Limits


class Worker:
    """Handlers of events, and the processes that run them.

    Example::

        worker = Worker("shop", group="billing")

        @worker.on("orders.*", kind="order.created")
        def charge(event): ...

        worker.run(processes=4)

    Each handler has a group of its own, so each gets every event that it hears, once: the worker's name for it and the
    function's, ``billing.charge``, unless ``on`` names another. Each has its own processes, too.

    A handler that returns has done with the event; what it returns is the reply to a request. One that raises has the
    event delivered again after a pause, up to ``max_deliveries`` times in all; then the event is sent as
    ``eventbus.dead`` / ``exhausted``, with the traceback in its data, and a request fails where it was made. It may
    raise ``Retry`` to say when, and ``Discard`` where no further delivery would help.

    An ``async def`` handles up to ``concurrency`` events at once in each process, in an event loop that runs all the
    time: each event in a task of its own, with a context of its own, and done with by itself.

    What a process registers with ``atexit`` runs at its end, as in any program; so does what the program had registered
    before it forked the process.
    """

    def __init__(
        self,
        bus: str | Bus | None = None,
        *,
        group: str = "workers",
        prefetch: int = 1,
        max_deliveries: int = MAX_DELIVERIES,
        retry_delay: float = RETRY_DELAY,
        concurrency: int = 1,
        shutdown_timeout: float | None = SHUTDOWN_TIMEOUT,
        start: Literal["latest", "oldest"] | int = "latest",
    ) -> None:
        """Makes one without handlers.

        Args:
            bus: its name, or an open one; ``run`` may give it instead.
            group: what the names of the groups begin with whose members the processes are.
            prefetch: how many events a process claims at once.
            max_deliveries: how often an event is tried; left out, a group that there is already keeps its number.
            retry_delay: seconds before an event that failed is tried again, twice as many with each further try, up to
                a minute, a tenth more or less by chance; 0 tries at once.
            concurrency: how many events of an ``async def`` are under way at once in each process, up to 256; they are
                claimed at once, as ``prefetch`` is.
            shutdown_timeout: seconds for what is under way in an ``async def`` when its process leaves; what is not
                done then is cancelled, and delivered again, counted. None for ever.
            start: where the group begins, when this worker makes it.

        Raises:
            InvalidError: no such delay or number.
        """
        checked_delay(retry_delay, "retry_delay")
        check_terms(concurrency=concurrency)
        if shutdown_timeout is not None:
            checked_delay(shutdown_timeout, "shutdown_timeout")
        self.bus = bus
        self.group = group
        self.prefetch = prefetch
        self.max_deliveries = max_deliveries
        self.retry_delay = retry_delay
        self.concurrency = concurrency
        self.shutdown_timeout = shutdown_timeout
        self.start = start
        self.handlers: list[Handler] = []
        self.hooks = Hooks((), ())
        self.renewal: Renewal | None = None

    def on(
        self,
        system: Wanted,
        kind: Wanted | None = None,
        *,
        group: str | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
    ) -> Callable[[Function], Function]:
        """Makes the function below it the handler of the events that match.

        Args:
            system, kind: as in ``Bus.subscribe``.
            group: the name of its group, whole; the worker's and the function's if left out.
            retry_delay: instead of the worker's own.
            timeout: seconds that an event may take; a process that takes longer is killed, with the processes that it
                has started, and the event is delivered again, counted. Of an ``async def`` the event alone is
                cancelled, a failure like any other; a process that is not rid of it in 10 s more is killed. None for
                ever.
            concurrency: instead of the worker's own.

        Raises:
            InvalidError: a bad pattern, group, delay, timeout or number, a second handler of the same name or group, or
                several events at once for a function that is no ``async def``.
        """
        systems = patterns.compile_any(system, "system").texts
        kinds = None if kind is None else patterns.compile_any(kind, "kind").texts
        check_terms(group, retry_delay, timeout, concurrency)

        def register(function: Function) -> Function:
            name = name_of(function)
            handler = Handler(function, name, systems, kinds, group, retry_delay, timeout, concurrency, None)
            handler.at_once(1)
            self._register(handler)
            return function

        return register

    def every(
        self,
        when: float | str,
        *,
        group: str | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
    ) -> Callable[[Function], Function]:
        """Makes the function below it run by the clock, in one process of all workers on the bus at a time.

        Each time is an event ``eventbus.every`` of the group's name as its kind, its ``data`` the time in POSIX
        seconds; the function may take it as its argument, or none. It is tried again like any other. A time that went
        by while no process was there, or while the function ran, is made up for once.

        Args:
            when: seconds, whose multiples since 1970 are the times; or a cron expression (``"*/5 * * * *"``) in the
                time zone of this host, with the extra ``[cron]``.
            group, retry_delay, timeout: as for ``on``.

        Raises:
            InvalidError: as ``on``; no such schedule.
            UnavailableError: the library for cron expressions is not installed.
        """
        schedule = parse(when)
        check_terms(group, retry_delay, timeout)

        def register(function: Function) -> Function:
            name = name_of(function)
            run = with_event(function)
            self._register(Handler(run, name, (TICK_SYSTEM,), None, group, retry_delay, timeout, None, schedule))
            return function

        return register

    def _register(self, handler: Handler) -> None:
        if any(one.name == handler.name for one in self.handlers):
            raise InvalidError(f"there is a handler {handler.name!r} already: give each function a name of its own")
        if handler.group is not None and any(one.group == handler.group for one in self.handlers):
            raise InvalidError(
                f"there is a handler in the group {handler.group!r} already: give each a group of its own"
            )
        self.handlers.append(handler)

    def on_start(self, function: AnyHook) -> AnyHook:
        """Decorates what each process runs before its first event: without arguments, awaited if it is ``async``.

        One that raises ends its process, which is started again later.
        """
        self.hooks = self.hooks._replace(on_start=(*self.hooks.on_start, function))
        return function

    def on_stop(self, function: AnyHook) -> AnyHook:
        """Decorates what each process runs when it leaves after all of ``on_start``; the last one first.

        A process that is killed leaves without it.
        """
        self.hooks = self.hooks._replace(on_stop=(*self.hooks.on_stop, function))
        return function

    def run(
        self,
        processes: int = 1,
        *,
        bus: str | Bus | None = None,
        group: str | None = None,
        prefetch: int | None = None,
        concurrency: int | None = None,
        max_events: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        """Runs until SIGTERM, Ctrl-C or the end of the bus, and restarts the processes that die.

        A handler whose group is removed has no processes any more; without any, the worker ends. The first
        signal lets each process finish what is under way; a second one ends them at once, and what they had in hand is
        delivered again. SIGHUP replaces all processes, one by one, each once the other one is ready. Should this
        process be killed, the others finish what they have in hand, for up to ten seconds. Only the main thread may
        call this.

        Args:
            processes: how many for each handler; one with a schedule has one.
            bus, group, prefetch, concurrency: instead of the worker's own.
            max_events: a process leaves after so many and another takes its place.
            max_memory: bytes; a process that has more of its own (resident, without what it shares by files and the
                bus) after an event leaves, and another takes its place.

        Raises:
            InvalidError: a bad argument, no handler, one that is no ``async def`` and would have several events at
                once, or a group of that name with other patterns.
        """
        check_count("processes", processes)
        check_count("prefetch", self.prefetch if prefetch is None else prefetch)
        check_terms(concurrency=concurrency)
        if max_events is not None:
            check_count("max_events", max_events)
        if max_memory is not None:
            check_count("max_memory", max_memory)
        limits = Limits(max_events, max_memory, None, self.shutdown_timeout)
        terms = self._terms(group, prefetch, concurrency)._replace(limits=limits)
        chosen = bus if bus is not None else self.bus
        if isinstance(chosen, Bus):
            self._run(chosen, processes, terms)
        elif chosen is None:
            raise InvalidError("the worker has no bus: name one, Worker('shop') or run(bus='shop')")
        else:
            with Bus(chosen) as opened:
                self._run(opened, processes, terms)

    def _terms(self, group: str | None, prefetch: int | None, concurrency: int | None) -> _Terms:
        """The worker's own, where nothing else is said; for each of its handlers, and there must be one."""
        if not self.handlers:
            raise InvalidError("the worker has no handler: decorate a function with @worker.on(...)")
        terms = _Terms(
            group=group or self.group,
            prefetch=prefetch or self.prefetch,
            concurrency=concurrency or self.concurrency,
            limits=Limits(None, None, None, None),
        )
        for one in self.handlers:
            one.at_once(terms.concurrency)
        return terms

    def _run(self, bus: Bus, processes: int, terms: _Terms) -> None:
        handlings = self._prepared(bus, terms)
        served = {one.group for one in handlings}
        places = [one for one in handlings for _ in range(1 if one.schedule else processes)]
        crew = Crew(places, self.renewal, partial(_tell_unserved, bus, terms.group, served))
        log.info("process %d works on the bus %r with %d processes", os.getpid(), bus.name, len(crew.posts))
        crew.run()

    def _prepared(self, bus: Bus, terms: _Terms) -> list[Handling]:
        """What processes do, once there are the groups for it."""
        handlings = [self._handling(bus, one, terms) for one in self.handlers]
        for one in handlings:
            bus.group(one.group, one.system, one.kind, start=self.start, max_deliveries=self.max_deliveries)
        return handlings

    def prepare(self, bus: Bus, group: str | None = None, concurrency: int | None = None) -> None:
        """Makes the groups of all handlers, as ``run`` does first: what is sent from now on waits for it.

        Args:
            bus: an open one.
            group, concurrency: instead of the worker's own.

        Raises:
            InvalidError: no handler, or one that cannot have so many events at once, or a group of that name with other
                patterns.
        """
        self._prepared(bus, self._terms(group, None, concurrency))

    def _handling(self, bus: Bus, one: Handler, terms: _Terms) -> Handling:
        name = one.group or f"{terms.group}.{one.name}"
        if one.schedule is not None:
            check_group(name)
        return Handling(
            bus=bus,
            function=one.function,
            name=one.name,
            system=one.system,
            kind=(name,) if one.schedule else one.kind,
            group=name,
            prefetch=terms.prefetch,
            concurrency=one.at_once(terms.concurrency),
            limits=terms.limits._replace(timeout=one.timeout),
            hooks=self.hooks,
            schedule=one.schedule,
            outcomes=Outcomes(self.retry_delay if one.retry_delay is None else one.retry_delay, Failures(one.name)),
        )


def _tell_unserved(bus: Bus, name: str, served: set[str]) -> None:
    """Groups that handlers of this worker had, and none has any more, go on holding what they hear."""
    for group in bus.stats().groups:
        mine = group.name == name or group.name.startswith(f"{name}.")
        if mine and group.name not in served and not group.members:
            log.warning(
                "no handler serves the group %s, which has %d events: `eventbus remove-group %s %s` removes it",
                group.name,
                group.backlog + group.returned,
                bus.name,
                group.name,
            )
