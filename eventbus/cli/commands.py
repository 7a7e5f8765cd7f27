"""Commands whose rooms are imported when they are asked for, and not before."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


class Place(NamedTuple):
    """A command: ``function`` in a module of this room; what it does, as its docstring begins; a line that uses it."""

    module: str
    function: str
    summary: str
    example: str


PLACES = {
    "ls": Place("buses", "list_buses", "List the buses on this host.", "eventbus ls --json"),
    "stat": Place("buses", "describe_bus", "Show a bus, its subscribers, topics and bridges.", "eventbus stat shop"),
    "top": Place("top", "top", "Watch a bus as it goes.", "eventbus top shop --filter orders --sort backlog"),
    "tail": Place(
        "talk",
        "tail_bus",
        "Write the events of a bus as they come.",
        "eventbus tail shop 'orders.**' --kind '*.created'",
    ),
    "send": Place(
        "talk",
        "send_events",
        "Send one event, or one per line of input.",
        "eventbus send shop orders order.created /orders/1 '{\"total\": 9}'",
    ),
    "record": Place(
        "record", "record", "Write the events of a bus to a file.", "eventbus record shop friday.jsonl.zst 'orders.**'"
    ),
    "replay": Place(
        "replay", "replay", "Send the events of a recording again.", "eventbus replay friday.jsonl.zst shop --speed 10"
    ),
    "dump": Place(
        "dump", "dump", "Write what a bus still holds that nobody is attached to.", "eventbus dump shop --json"
    ),
    "work": Place(
        "work", "work", "Handle events with the worker of a module.", "eventbus work shop jobs:worker --processes 4"
    ),
    "requeue": Place(
        "requeue",
        "requeue",
        "Send dead letters again.",
        "eventbus requeue shop --group billing.charge --since 2h --dry-run",
    ),
    "metrics": Place(
        "metrics",
        "metrics",
        "Write the figures of buses for Prometheus.",
        "eventbus metrics shop --listen 127.0.0.1:9464",
    ),
    "bridge": Place(
        "bridge",
        "bridge",
        "Carry events between this bus and those of other hosts, over NATS.",
        "eventbus bridge shop --nats nats://nats1:4222 --export 'orders.**'",
    ),
    "policy": Place(
        "policy",
        "commands",
        "Look at a policy before a bus does.",
        "eventbus policy explain policy.toml service:billing events.send orders.eu",
    ),
    "doctor": Place("doctor", "doctor", "Say what is wrong here and how to mend it.", "eventbus doctor shop"),
    "gc": Place("buses", "collect", "Remove what dead processes left.", "eventbus gc --dry-run"),
    "remove-group": Place(
        "buses", "remove_group", "Remove a group, with what it still had to do.", "eventbus remove-group shop billing"
    ),
    "unlink": Place("buses", "unlink_bus", "Remove a bus, whoever is attached.", "eventbus unlink shop"),
    "bench": Place("bench", "bench", "Measure what this host reaches.", "eventbus bench --seconds 2"),
    "demo": Place("demos", "run_demo", "Index Python's standard library over a bus.", "eventbus demo --workers 4"),
}


class Command(TyperCommand):
    """A command whose flags are off unless they are given."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options."""
        return _turned_off(super().get_params(ctx))


class Commands(TyperGroup):
    """The commands of ``PLACES``, and those that were registered."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options before a command."""
        return _turned_off(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the table."""
        return [*PLACES, *(name for name in super().list_commands(ctx) if name not in PLACES)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes what each does, as the table says it: none of them is imported for that."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in PLACES.items()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None if there is none."""
        if cmd_name in PLACES and cmd_name not in self.commands:
            self.commands[cmd_name] = load(cmd_name, PLACES[cmd_name])
        return super().get_command(ctx, cmd_name)


def _turned_off(options: list[Any]) -> list[Any]:
    """Typer's own flags, ``--help`` and those for completion, are None where they are not given, and typer has pydantic
    say what that is, which takes longer to import than all else. It leaves False as it is."""
    for option in options:
        if getattr(option, "is_flag", False) and option.default is None:
            option.default = False
    return options


def load(name: str, place: Place) -> Any:
    """Imports the command: a function, or an app of its own with several of them."""
    found = getattr(importlib.import_module(f"eventbus.cli.{place.module}"), place.function)
    epilog = f"Example:\n\n\b\n  {place.example}"
    app = made_app() if not isinstance(found, typer.Typer) else found
    if app is found:
        app.info.name, app.info.epilog = name, epilog
    else:
        app.command(name, cls=Command, epilog=epilog)(found)
    return typer.main.get_command(app)


def made_app(**options: Any) -> typer.Typer:
    """An app that writes plain help and leaves errors to whoever runs it."""
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, **{"add_completion": False, **options})
