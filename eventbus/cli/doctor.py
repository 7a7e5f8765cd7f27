"""The command ``eventbus doctor``: what is wrong on this host, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from eventbus.cli.ailments import doorbells, look_at_bus
from eventbus.cli.host import Finding, look_at_host
from eventbus.cli.options import Json
from eventbus.cli.streams import printable
from eventbus.cli.tables import existing
from eventbus.core.inspection import list_names


def doctor(
    name: Annotated[
        str | None, typer.Argument(metavar="[BUS]", help="only this bus, and the host", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong here and how to mend it.

    This host is looked at, and its buses: one line for each finding. The exit code is 1 if there is any. Nothing is
    attached to, changed or removed.
    """
    names = _all_names() if name is None else [existing(name).name]
    found = [*look_at_host(), *_buses(names, name is not None)]
    if as_json:
        print(json.dumps({"buses": names, "findings": [asdict(one) for one in found]}, indent=2))
    else:
        for one in found:
            print(printable(f"{one.problem}: {one.remedy}"))
        if not found:
            print(f"nothing is wrong with this host and its buses, of which {len(names)} were looked at")
    if found:
        raise typer.Exit(1)


def _all_names() -> list[str]:
    """None where there is no shared memory, which is a finding of its own."""
    with suppress(OSError):
        return list_names()
    return []


def _buses(names: list[str], asked: bool) -> Iterator[Finding]:
    for name in names:
        yield from look_at_bus(name, asked)
    if not asked:
        yield from doorbells()
