"""The command ``eventbus requeue``: sends dead letters again, each once."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Annotated

import typer

import eventbus
from eventbus.audience import would_hear
from eventbus.bus import SEND_TIMEOUT, Bus
from eventbus.cli import tables, tail
from eventbus.cli.graveyard import BATCH, MARK, Dead, Tally, choose, in_recording, in_ring, kept, left
from eventbus.cli.streams import asked, progress, say
from eventbus.core.stats import BusStats, GroupStats, SubscriberStats
from eventbus.errors import EventBusError, InvalidError, UnavailableError
from eventbus.letters import DEAD_KIND, DEAD_SYSTEM

NAME = "eventbus requeue"
"""Of the subscription that each has while it works: where there are two, they would send the same."""

NOTE = "requeue"
"""How far the last recording was sent stands in the note of this name."""

_AGE = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def requeue(
    name: Annotated[str, typer.Argument(metavar="BUS", help="the name of the bus", show_default=False)],
    group: Annotated[str | None, typer.Option(metavar="G", help="only what died in the group G")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help="only letters since then: 2026-11-26T14:00, or an age: 30s, 10m, 2h, 1d"),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="a recording, or - for standard input; else the ring")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only write what would be sent")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --dry-run, write one JSON object per event")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask, also where others would hear them")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="S", help="wait so long for room in the ring")
    ] = SEND_TIMEOUT,
) -> None:
    """Send dead letters again.

    What died in a group is sent as it was: system, kind, path, data and headers, with the header eventbus-requeued
    beside them. It is an ordinary event: all who subscribe to its system hear it, not only the group in which it died.
    Lossless subscribers and groups that would hear it too are named before, and on a terminal you are asked.

    The letters are those that the ring has kept, or with --from those of a recording that 'eventbus tail BUS
    eventbus.dead --json' wrote, as it is or compressed (gzip, zstandard). The command may be repeated, also after it
    was killed: what was sent again is left out, until it dies again, for as long as the ring has kept it; and the same
    recording, with the same --group and --since, goes on where it was. A letter that cannot be sent is told and left
    out; then the exit code is 1.
    """
    first = -(1 << 63) if since is None else moment(since, time.time_ns())
    if as_json and not dry_run:
        raise typer.BadParameter("it goes with --dry-run", param_hint="--json")
    about = tables.existing(name)
    if about.stats is None:
        raise UnavailableError(about.reason)
    tally = Tally(say)
    with eventbus.open(name, send_timeout=timeout) as bus, _alone(name) as marks:
        if source is None:
            with bus.subscribe(DEAD_SYSTEM, DEAD_KIND, overflow="drop", start="oldest") as heard:
                chosen = choose(in_ring(heard, bus.stats().sent, tally), group, first, tally)
        else:
            chosen = choose(in_recording(source, tally), group, first, tally)
        dead = left(chosen, marks, None if source is None else bus._noted(NOTE), tally)
        wide = _warn(bus.stats(), dead)
        if dry_run:
            _show(dead, as_json)
            tally.sent = len(dead)
        elif wide and not yes and not asked("send them?"):
            say("nothing was sent")
            raise typer.Exit(1)
        else:
            _send(Sending(bus, tally, recorded=source is not None), dead)
    say(tally.summary("would be sent again" if dry_run else "were sent again"))
    if tally.bad:
        raise typer.Exit(1)


def moment(text: str, now: int) -> int:
    """A moment, in nanoseconds since the epoch like ``now``.

    Args:
        text: a time in the format of ISO 8601, local without a zone; or an age such as ``10m``.

    Raises:
        typer.BadParameter: it is neither.
    """
    try:
        if age := _AGE.fullmatch(text):
            return now - _nanoseconds(timedelta(**{_UNITS[age[2]]: int(age[1])}))
        when = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
        return _nanoseconds(when.astimezone() - _EPOCH)
    except (ValueError, OverflowError, OSError) as error:
        said = f"{text!r} is neither a time, such as 2026-11-26T14:00, nor an age, such as 30s, 10m, 2h or 1d"
        raise typer.BadParameter(said, param_hint="--since") from error


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000


@contextmanager
def _alone(name: str) -> Iterator[set[str]]:
    """Nobody else sends dead letters of the bus again meanwhile; whose next life stands in the ring.

    What it hears it shows to nobody, so no policy is asked. It must be read before the letters are: a letter is older
    than what came of it, so whatever the ring loses meanwhile, the letter goes first.

    Raises:
        UnavailableError: somebody else is at it.
    """
    with (
        eventbus.open(name, role="subscriber", policy=lambda *_: True) as bus,
        bus.subscribe("**", overflow="drop", start="oldest", name=NAME) as heard,
    ):
        seen = bus.stats()  # after it has joined: of two, one at least sees the other
        pids = [one.pid for one in seen.subscribers if one.name == NAME]
        if len(pids) > 1:
            other = next((pid for pid in pids if pid != os.getpid()), os.getpid())
            raise UnavailableError(
                f"process {other} sends dead letters of the bus {name!r} again: try again when it is done", pid=other
            )
        # What cannot be read was not sent by this command.
        yield {event.headers[MARK] for event in kept(heard, seen.sent, lambda _: None) if MARK in event.headers}


def _warn(stats: BusStats, dead: list[Dead]) -> bool:
    """Says who else would hear them, and who would not any more; whether there is any such."""
    died: dict[tuple[str, str], set[str]] = {}
    for one in dead:
        died.setdefault((one.event.system, one.event.kind), set()).update(one.groups)
    there = {group.name for group in stats.groups}
    gone = sorted(set().union(*died.values()) - there)
    others = [*_other_hearers(stats, died)]
    if others:
        say(f"they are heard by others too: {', '.join(others)}")
    if gone:
        say(f"there is no group {' nor '.join(map(repr, gone))} on the bus any more: it does not get what died in it")
    return bool(others or gone)


def _other_hearers(stats: BusStats, died: dict[tuple[str, str], set[str]]) -> Iterator[str]:
    """Lossless subscribers of these topics, and groups of which it was not; who may lose events only watches."""

    def hears(one: SubscriberStats | GroupStats, topic: tuple[str, str]) -> bool:
        return would_hear(one.system, topic[0]) and would_hear(one.kind, topic[1])

    for group in stats.groups:
        if any(group.name not in groups and hears(group, topic) for topic, groups in died.items()):
            yield f"the group {group.name!r}"
    for one in stats.subscribers:
        if one.group is None and one.overflow == "block" and any(hears(one, topic) for topic in died):
            yield f"the subscriber {one.name!r} of process {one.pid}"


def _show(dead: list[Dead], as_json: bool) -> None:
    for one in dead:
        print(tail.as_json(one.event) if as_json else tail.as_line(one.event).plain)


def _send(sending: Sending, dead: list[Dead]) -> None:
    try:
        with progress("events", len(dead)) as advance:
            sending.run(dead, advance)
    except EventBusError as error:
        sent = f"{sending.tally.sent} dead letters were sent again"
        raise type(error)(f"{error.message} ({sent})", **error.details) from error
    except KeyboardInterrupt:
        say(f"at least {sending.tally.sent} dead letters were sent again: the same command sends the others")
        raise


@dataclass
class Sending:
    """Sends events again, in batches that are visible whole or not at all."""

    bus: Bus
    tally: Tally
    recorded: bool  # then how far it is stands on the bus, beside what was sent: the ring may lose that before the end

    def run(self, dead: list[Dead], advance: Callable[[int, int], None]) -> None:
        """Sends them in their order.

        Args:
            advance: told after each batch how many they were, and how many have been sent.
        """
        for origin, some in groupby(dead, key=lambda one: one.event.origin):
            same = [*some]
            for batch in (same[i : i + BATCH] for i in range(0, len(same), BATCH)):
                self._send(origin, batch)
                advance(len(batch), self.tally.sent)

    def _send(self, origin: str, batch: list[Dead]) -> None:
        try:
            self._commit(origin, batch)
        except InvalidError:  # then nothing of the batch was sent: find the one, and send the others
            for one in batch:
                self._send_alone(origin, one)

    def _send_alone(self, origin: str, one: Dead) -> None:
        try:
            self._commit(origin, [one])
        except InvalidError as error:
            self.tally.refuse(one.where, error)
            self.recorded = False  # how far it is stays before what could not be sent: it may be sent another time

    def _commit(self, origin: str, batch: list[Dead]) -> None:
        note = (NOTE, batch[-1].position) if self.recorded else None
        self.tally.sent += self.bus._bring(origin, [one.outgoing() for one in batch], note)
