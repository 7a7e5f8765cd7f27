"""The page of the command line, made of the commands themselves: what ``--help`` says, it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import typer
import typer.main

from eventbus.cli.app import app

INTRODUCTION = """# Commands

What `eventbus --help` and `eventbus COMMAND --help` say, in one page.
[Operations](operations.md) says what to look at, and when.
"""


def page() -> str:
    """All commands, as Markdown."""
    command = typer.main.get_command(app)
    context = command.make_context("eventbus", [], resilient_parsing=True)
    return "\n\n".join([INTRODUCTION, *_parameters(command, context), *_below(command, context, "##")]) + "\n"


def _below(command: Any, context: Any, heading: str) -> Iterator[str]:
    """Each command of this one, with those below it."""
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        inner = type(context)(found, info_name=name, parent=context)
        yield f"{heading} {inner.command_path}"
        yield _text(found.help)
        yield f"```text\n{inner.command_path} {' '.join(found.collect_usage_pieces(inner))}\n```"
        yield from _parameters(found, inner)
        if hasattr(found, "list_commands"):
            yield from _below(found, inner, f"{heading}#")
        else:
            yield f"For example:\n\n```sh\n{_example(found)}\n```"


def _parameters(command: Any, context: Any) -> Iterator[str]:
    records = [one.get_help_record(context) for one in command.get_params(context)]
    rows = [f"| {_code(names)} | {_text(said)} |" for names, said in filter(None, records)]
    yield "\n".join(["| | |", "| --- | --- |", *rows])


def _example(command: Any) -> str:
    """The last line of the help."""
    return str(command.epilog).splitlines()[-1].strip()


def _text(said: str) -> str:
    """Plain text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", escape(said.replace("\b\n", ""), quote=False))


def _code(names: str) -> str:
    return f"<code>{escape(names).replace('|', '&#124;')}</code>"
