"""The command line as a whole: one command is run, and errors are one line."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, cast

import typer
import typer.main

from eventbus.cli.commands import Commands, made_app
from eventbus.cli.streams import say
from eventbus.errors import EventBusError

CANCELED = 130  # these two as a shell says it of a command that a signal ended
CLOSED_PIPE = 141
COMPLETING = "_EVENTBUS_COMPLETE"  # in the environment when a shell asks what could come next

# typer names only this one of its usage errors; its parent is the parent of all, also in the versions over click.
_UsageError = cast("type[Any]", typer.BadParameter.__base__)

app = made_app(cls=Commands, add_completion=True)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"eventbus {version('eventbus')}")
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="show the version and exit")
    ] = False,
) -> None:
    """A publish/subscribe bus between the processes of this host."""


def run(arguments: list[str]) -> int:
    """Runs one command; whatever goes wrong is one line on standard error.

    Returns:
        The exit code: 0; 1 for an error, 2 for wrong usage, 130 after Ctrl-C, 141 when the output's reader went away.
        A command that ends in order after SIGTERM, and not with 0, raises ``SystemExit`` with 143.
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


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    if COMPLETING in os.environ:
        command(prog_name="eventbus")
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
