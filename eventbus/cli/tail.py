"""``tail``: what a subscription hears, as lines for people or as JSON objects."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from eventbus.cli.streams import printable
from eventbus.errors import SegmentError
from eventbus.event import Event, dumps
from eventbus.subscription import Subscription

if TYPE_CHECKING:
    from rich.text import Text

BATCH = 256


def follow(
    subscription: Subscription,
    show: Callable[[list[Event]], None],
    warn: Callable[[str], None],
    count: int | None,
    patience: Callable[[], float | None],
    quiet: Callable[[], bool] = lambda: False,
) -> int:
    """Shows events until ``count`` came, none came, or the bus is shut down and drained.

    Args:
        patience: how many seconds the next ones are waited for; asked before each wait.
        quiet: called when none came for so long: whether to go on.

    Returns:
        The number of events shown.
    """
    heard = lost = 0
    try:
        while heard != count:
            limit = BATCH if count is None else min(BATCH, count - heard)
            try:
                events = subscription.receive_many(limit, patience())
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                warn(error.message)
                continue
            if subscription.lost > lost:
                warn(f"lost {subscription.lost - lost} events")
                lost = subscription.lost
            if events:
                show(events)
            elif subscription.closed or not quiet():
                break
            heard += len(events)
    finally:
        if lost:
            warn(f"lost {lost} events in all")
    return heard


def shower(as_json: bool) -> Callable[[list[Event]], None]:
    """What writes events on standard output, one line each."""
    return _show_json if as_json else _show_lines()


def _show_json(events: list[Event]) -> None:
    print("\n".join(map(as_json, events)), flush=True)


def _show_lines() -> Callable[[list[Event]], None]:
    from eventbus.cli.console import make_console  # what writes JSON does without it

    console = make_console()

    def show_colours(events: list[Event]) -> None:
        console.print(*map(as_line, events), sep="\n", soft_wrap=True)

    def show_plain(events: list[Event]) -> None:
        print("\n".join(as_line(event).plain for event in events), flush=True)

    return show_colours if console.is_terminal else show_plain


def as_json(event: Event) -> str:
    """``encoded``, as text."""
    return encoded(event).decode()


def encoded(event: Event) -> bytes:
    """The event as a JSON object; raw bytes are its ``base64`` instead of its ``data``; headers and origin if any."""
    fields = event._asdict()
    for name in ("headers", "origin"):
        if not fields[name]:
            del fields[name]
    if isinstance(event.data, bytes):
        fields["base64"] = base64.b64encode(fields.pop("data")).decode()
    return dumps(fields)


def as_line(event: Event) -> Text:
    """The event as a line: sequence, time of day, system, kind, path, data; raw bytes as Python writes them."""
    from rich.text import Text

    styles = ("dim", "dim", "cyan", "green", "bold", "")
    texts = (str(event.sequence), _time_of_day(event.time), event.system, event.kind, event.path, _data(event.data))
    return Text(" ").join(Text(printable(text), style) for text, style in zip(texts, styles, strict=True) if text)


def _time_of_day(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1000:06d}"


def _data(data: object) -> str:
    if data is None:
        return ""
    return repr(data) if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False)
