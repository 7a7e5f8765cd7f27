"""``metrics``: the figures of buses for Prometheus, once, in a file, or to whoever asks by HTTP."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventbus.cli.streams import say
from eventbus.core.inspection import inspect_bus
from eventbus.errors import InvalidError

if TYPE_CHECKING:
    from eventbus.observe.prometheus import BusCollector

ENDS = {signal.SIGTERM, signal.SIGINT}


def metrics(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BUS]...", help="only these buses", show_default=False)
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="answer Prometheus there until told to end")
    ] = None,
    textfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write FILE, for node_exporter's textfile collector")
    ] = None,
) -> None:
    """Write the figures of buses for Prometheus.

    Nothing is attached to or changed. With --listen, buses may come and go: each answer is of those that there are
    then. With --textfile, FILE is replaced in one step: nobody reads half of it.
    """
    from eventbus.observe.prometheus import BusCollector  # what it needs may be missing, as the next

    if listen is not None and textfile is not None:
        raise InvalidError("metrics go to --listen or to --textfile, not to both")
    place = None if listen is None else address(listen)
    collector = BusCollector(names or None)
    if place is not None:
        _serve(collector, *place)
        return
    from prometheus_client import generate_latest, write_to_textfile

    for name in names or ():
        if inspect_bus(name) is None:
            say(f"there is no bus named {name!r}, and so no figures of it")
    if textfile is not None:
        write_to_textfile(str(textfile), collector)
    else:
        sys.stdout.write(generate_latest(collector).decode())


def address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, or of [HOST]:PORT.

    Raises:
        InvalidError: it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidError(f"{text!r} is no HOST:PORT: write one as 127.0.0.1:9464, or [::1]:9464", text=text)
    return host, int(port)


def _serve(collector: BusCollector, host: str, port: int) -> None:
    """Until a signal ends it; what is under way then is not waited for."""
    from prometheus_client import start_http_server

    with _held_back():
        server, thread = start_http_server(port, host, collector)
        try:
            say(f"figures at http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics")
            ended = signal.sigwait(ENDS)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    if ended == signal.SIGINT:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """The signals that end it wait meanwhile until they are asked for, in threads that begin meanwhile too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
