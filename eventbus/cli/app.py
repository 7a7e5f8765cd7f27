"""The command line: arguments, and errors as one line."""

from __future__ import annotations

import json
import os
import stat
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import typer.main

import eventbus
from eventbus.audience import would_hear
from eventbus.bridge import status
from eventbus.cli import demo, hosts, tables, tail
from eventbus.cli.bridge import bridge
from eventbus.cli.feed import Feed, parse, parse_headers
from eventbus.cli.requeue import requeue
from eventbus.cli.streams import progress, say, standard_input
from eventbus.cli.work import work
from eventbus.core.leftovers import sweep
from eventbus.core.segment import inspect_bus, list_names
from eventbus.core.stats import BusStats
from eventbus.errors import EventBusError, SubscribersFullError, UnavailableError
from eventbus.event import Event

CANCELED = 130  # these two as a shell says it of a command that a signal ended
CLOSED_PIPE = 141

# typer names only this one of its usage errors; its parent is the parent of all, also in the versions over click.
_UsageError = cast("type[Any]", typer.BadParameter.__base__)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

BusName = Annotated[str, typer.Argument(metavar="BUS", help="the name of the bus", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="write JSON for programs")]


@app.callback()
def about() -> None:
    """A publish/subscribe bus between the processes of this host."""


@app.command("ls")
def list_buses(as_json: Json = False) -> None:
    """List the buses on this host.

    Nothing is attached to, changed, repaired or removed. A bus that is "abandoned" was left by a crash: the next
    process to open it replaces it.
    """
    rows = [tables.listed(bus) for name in list_names() if (bus := inspect_bus(name)) is not None]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        tables.show_listed(rows, tables.make_console())
    else:
        say("there are no buses on this host")


@app.command("stat")
def describe_bus(name: BusName, as_json: Json = False) -> None:
    """Show a bus, its subscribers, topics and bridges.

    Nothing is attached to or changed; but where a bridge is or was, its last word is heard as a subscriber hears it.
    """
    bus = tables.existing(name)
    if bus.stats is None:
        raise UnavailableError(bus.reason)
    row = tables.described(bus, bus.stats, _bridges(bus.stats))
    if as_json:
        print(json.dumps(row, indent=2))
    else:
        tables.show_described(row, tables.make_console())


@app.command("tail")
def tail_bus(
    name: BusName,
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="systems to hear")] = "**",
    kind: Annotated[str | None, typer.Option(metavar="PATTERN", help="kinds to hear; all if left out")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="write one JSON object per event")] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="begin with the oldest event kept")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="end after N events")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="end after S seconds without any")] = None,
) -> None:
    """Write the events of a bus as they come.

    One line each, until the bus is shut down. A bus that does not exist is made. Publishers never wait for this
    command: what it could not keep up with is counted on standard error. Data that is raw bytes is written as Python
    writes it; with --json, as "base64" in place of "data". With --count, fewer events within the time are an error.
    """
    show = _show_json if as_json else _show_lines()
    with (
        eventbus.open(name, role="subscriber") as bus,
        bus.subscribe(pattern, kind, overflow="drop", start="oldest" if oldest else "latest") as heard,
    ):
        shown = tail.follow(heard, show, say, count, timeout)
        if count is not None and shown < count and not heard.closed:
            raise UnavailableError(f"{shown} of {count} events came before the time was up")


@app.command("send")
def send_events(
    name: BusName,
    system: Annotated[str, typer.Argument(metavar="SYSTEM", show_default=False)],
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="JSON, or - for one event per line")] = None,
    wait: Annotated[int, typer.Option(min=0, metavar="N", help="first wait for N subscribers of SYSTEM")] = 0,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="wait so long for them, and for room in the ring")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="a header of each event; as often as there are any")
    ] = None,
) -> None:
    """Send one event, or one per line of input.

    With - as DATA, each line of standard input is JSON, and the data of an event; empty lines are skipped. A bus that
    does not exist is made, and goes again when nobody else is attached. Without --timeout, --wait waits for ever and a
    full ring is an error after five seconds. A negative number as DATA needs -- before the arguments.
    """
    value = None if data is None or data == "-" else parse(data)
    headers = parse_headers(header or [])
    patience = eventbus.bus.SEND_TIMEOUT if timeout is None else timeout
    with eventbus.open(name, send_timeout=patience) as bus:
        if not bus.wait_for_subscribers(wait, system, timeout):
            raise UnavailableError(f"fewer than {wait} subscribers of {system!r} came within {timeout} s")
        kept = any(would_hear(group.system, system) for group in bus.stats().groups)
        if not kept and not bus.wait_for_subscribers(1, system, 0):
            say(f"nobody is subscribed to {system!r} on the bus {name!r}")
        if data == "-":
            _send_lines(Feed(bus, system, kind, path, headers))
        else:
            bus.send(system, kind, path, value, headers=headers)


@app.command("unlink")
def unlink_bus(name: BusName) -> None:
    """Remove a bus, whoever is attached.

    They keep what they have; the next to open the name gets a new bus.
    """
    eventbus.unlink(name)


@app.command("gc")
def collect(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BUS]...", help="only these buses", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and remove nothing")] = False,
) -> None:
    """Remove what dead processes left: abandoned buses, and doorbells at which nobody answers.

    Nothing that somebody alive uses is touched, nor a bus that was told to stay.
    """
    found = sweep(dry_run, names or ())
    would = "would be " if dry_run else ""
    for name in found.buses:
        say(f"the bus {name!r} {would}removed")
    if found.doorbells:
        say(f"{found.doorbells} doorbells {would}removed")
    for reason in found.kept.values():
        say(reason)
    if found.kept:
        raise typer.Exit(1)


@app.command("remove-group")
def remove_group(
    name: BusName, group: Annotated[str, typer.Argument(metavar="GROUP", help="its name", show_default=False)]
) -> None:
    """Remove a group, with the events that it still had to handle.

    Its members see the end of their subscriptions, and the room that it held in the ring is free.
    """
    tables.existing(name)
    with eventbus.open(name) as bus:
        bus.remove_group(group)


app.command("work")(work)
app.command("requeue")(requeue)
app.command("bridge")(bridge)


@app.command("demo")
def run_demo(
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, metavar="DIR", help="index DIR, not the standard library"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes that parse; one per CPU, 2 to 8, if left out")
    ] = None,
    many: Annotated[
        int, typer.Option("--hosts", min=1, max=9, metavar="N", help="on so many buses, as if each were a host's")
    ] = 1,
) -> None:
    """Index Python's standard library over a bus.

    A scanner, a group of workers and a collector, each a process of its own. One worker is killed half-way, and another
    gets its file. With --hosts, each has a bus, workers and a bridge to a nats-server of the demo's own; a bridge and
    all workers of a host are killed. Exits with 1 unless every file was counted exactly once.
    """
    crew = workers or min(8, max(2, len(os.sched_getaffinity(0))))
    files, console = root or Path(sysconfig.get_path("stdlib")), tables.make_console()
    once = demo.run(files, crew, console) if many == 1 else hosts.run(files, many, workers or 2, console)
    if not once:
        raise typer.Exit(1)


def run(arguments: list[str]) -> int:
    """Runs one command; whatever goes wrong is one line on standard error.

    Returns:
        The exit code: 0; 1 for an error, 2 for wrong usage, 130 after Ctrl-C, 141 when the output's reader went away.
    """
    try:
        return _invoke(arguments or ["--help"])
    except _UsageError as error:
        say(f"{error.format_message()} (try 'eventbus --help')")
        return int(error.exit_code)
    except KeyboardInterrupt:
        return CANCELED
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except EventBusError as error:
        say(error.message)
    except OSError as error:
        say(_system_error(error))
        _drop_output()
    return 1


def _bridges(stats: BusStats) -> list[tables.Row]:
    try:
        return status.bridges(stats)
    except SubscribersFullError as error:
        say(f"bridges are not shown: {error.message}")
        return []


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    status = 0
    try:
        with command.make_context("eventbus", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        status = end.exit_code
    print(end="", flush=True)
    return status


def _system_error(error: OSError) -> str:
    text = error.strerror or str(error)
    known = error.filename is None or repr(error.filename) in text
    return text if known else f"{text}: {error.filename!r}"


def _drop_output() -> None:
    """What cannot be written must not be tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show_json(events: list[Event]) -> None:
    print("\n".join(map(tail.as_json, events)), flush=True)


def _show_lines() -> Callable[[list[Event]], None]:
    console = tables.make_console()

    def show_colours(events: list[Event]) -> None:
        console.print(*map(tail.as_line, events), sep="\n", soft_wrap=True)

    def show_plain(events: list[Event]) -> None:
        print("\n".join(tail.as_line(event).plain for event in events), flush=True)

    return show_colours if console.is_terminal else show_plain


def _send_lines(feed: Feed) -> None:
    source = standard_input()
    status = os.fstat(source.fileno())
    with progress("events", status.st_size if stat.S_ISREG(status.st_mode) else None) as advance:
        feed.run(source, advance)
    say(f"{feed.sent} events were sent")
