"""Fence: whose a stream is. One bus on one host writes it, by one bridge at a time, the one that began last."""

from __future__ import annotations

from pathlib import Path

from eventbus.bridge.messages import Place
from eventbus.errors import EventBusError

_MACHINE = Path("/etc/machine-id")


class FencedError(EventBusError):
    """Somebody else exports as this origin."""


def owner_of(bus: str) -> str:
    """What the description of a stream says of this host and bus."""
    try:
        machine = _MACHINE.read_text().strip()
    except OSError:
        machine = "unknown"
    return f"eventbus {machine} {bus}"


def check_owner(stream: str, description: str | None, mine: str) -> None:
    """Raises FencedError unless the stream is this bus's own."""
    if description != mine:
        raise FencedError(
            f"the stream {stream} is of {description or 'nobody'!r}, not of {mine!r}: name another origin, or take it "
            "over with --take-over once the other bridge has ended",
            stream=stream,
            owner=description,
        )


def check_run(stream: str, last: Place, mine: int) -> None:
    """Raises FencedError where a bridge that began later has written."""
    if last.run > mine:
        raise FencedError(f"another bridge, which began later, writes the stream {stream}", stream=stream)
