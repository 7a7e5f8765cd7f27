"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

BusName = Annotated[str, typer.Argument(metavar="BUS", help="the name of the bus", show_default=False)]
Systems = Annotated[str, typer.Argument(metavar="PATTERN", help="systems to hear")]
Kinds = Annotated[str | None, typer.Option("--kind", metavar="PATTERN", help="kinds to hear; all if left out")]
Json = Annotated[bool, typer.Option("--json", help="write JSON for programs")]
Events = Annotated[bool, typer.Option("--json", help="write one JSON object per event")]
