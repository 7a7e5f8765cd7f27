"""The command ``eventbus bridge``: runs a bridge, or says how the bridges of a bus are doing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventbus.bridge import status
from eventbus.cli import tables
from eventbus.cli.streams import say
from eventbus.errors import InvalidError, UnavailableError

if TYPE_CHECKING:
    from eventbus.bridge.config import Config

EXTRA = ("nats", "nkeys")  # what it brings


def bridge(
    name: Annotated[
        str | None, typer.Argument(metavar="BUS", help="its name; with --config, it stands there", show_default=False)
    ] = None,
    servers: Annotated[
        list[str] | None, typer.Option("--nats", metavar="URL", help="a server; as often as there are any")
    ] = None,
    origin: Annotated[str | None, typer.Option(metavar="NAME", help="this bus among all; named after the host")] = None,
    domain: Annotated[str | None, typer.Option(metavar="NAME", help="buses that belong together; 'main'")] = None,
    exports: Annotated[
        list[str] | None, typer.Option("--export", metavar="PATTERN", help="systems that go out; any number")
    ] = None,
    imports: Annotated[
        list[str] | None, typer.Option("--import", metavar="PATTERN", help="systems that come in; any number")
    ] = None,
    creds: Annotated[str | None, typer.Option(metavar="FILE", help="credentials of a user with a JWT")] = None,
    nkey_seed: Annotated[str | None, typer.Option(metavar="FILE", help="the seed of an NKey")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="a user with a password")] = None,
    password_file: Annotated[str | None, typer.Option(metavar="FILE", help="its password")] = None,
    ca: Annotated[str | None, typer.Option(metavar="FILE", help="who signs the servers' certificates")] = None,
    cert: Annotated[str | None, typer.Option(metavar="FILE", help="this host's certificate")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="its key")] = None,
    file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="all of this, and more, in a file")
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="make the stream of another host or bus this one's")
    ] = False,
    show: Annotated[bool, typer.Option("--status", help="say how the bridges of BUS are doing, and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --status, write JSON for programs")] = False,
) -> None:
    """Carry events between this bus and those of other hosts, over NATS.

    What is sent to the systems of --export goes out, what others sent to those of --import comes in. Ctrl-C and SIGTERM
    end it. It keeps nothing: killed, it goes on where it was. Exits with 1 for what is wrong with its configuration,
    and with 3 when another bridge exports as this origin. With --status, exits with 1 unless all of them are well.
    """
    options = {"creds": creds, "nkey_seed": nkey_seed, "user": user, "password_file": password_file}
    options |= {"ca": ca, "cert": cert, "key": key, "origin": origin, "domain": domain}
    if show:
        _show(_named(name), as_json)
        return
    from eventbus.bridge import config  # here and below: what it takes to import it, other commands need not wait for

    if file is None:
        asked = config.from_options(_named(name), servers=servers, exports=exports, imports=imports, **options)
    elif name or servers or exports or imports or any(options.values()):
        raise InvalidError(f"with --config, all stands in {str(file)!r}: leave the bus and the other options out")
    else:
        asked = config.load(file)
    _run(asked, take_over)


def _named(name: str | None) -> str:
    if name is None:
        raise InvalidError("name a bus, or a file with --config")
    return name


def _run(asked: Config, take_over: bool) -> None:
    import asyncio

    serve = _serve()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    code = asyncio.run(serve(asked, take_over=take_over))
    if code:
        raise typer.Exit(code)


def _serve() -> Callable[..., Coroutine[None, None, int]]:
    if not all(map(find_spec, EXTRA)):
        raise UnavailableError("the bridge needs libraries: pip install 'eventbus[nats]'")
    from eventbus.bridge.process import serve

    return serve


def _show(name: str, as_json: bool) -> None:
    bus = tables.existing(name)
    if bus.stats is None:
        raise UnavailableError(bus.reason)
    rows = status.bridges(bus.stats)
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        tables.show_bridges(rows)
    else:
        say(f"no bridge is on the bus {name!r}, nor was one as far as its ring tells")
    if not rows or any(row["state"] not in status.GOOD for row in rows):
        raise typer.Exit(1)
