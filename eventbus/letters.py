"""Dead letters: what is told of an event that nobody could handle, and the event out of that again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from eventbus.errors import InvalidError
from eventbus.event import NO_HEADERS, Event

DEAD_SYSTEM, DEAD_KIND = "eventbus.dead", "exhausted"
_RAW = frozenset(("base64",))  # the only key of what stands for raw data
_NEEDED = {"group": str, "system": str, "kind": str, "path": str, "sequence": int, "time": int}


def letter_of(event: Event, group: str) -> dict[str, Any]:
    """What is told of an event that nobody could handle; raw data is in base64, and what looks like that says so."""
    raw = isinstance(event.data, (bytes, memoryview))
    letter = {
        "group": group,
        "deliveries": event.deliveries,
        "system": event.system,
        "kind": event.kind,
        "path": event.path,
        "data": {"base64": base64.b64encode(event.data).decode()} if raw else event.data,
        "sequence": event.sequence,
        "time": event.time,
        "sender": event.sender,
    }
    if not raw and _looks_raw(event.data):
        letter["raw"] = False
    return letter | {name: value for name in ("headers", "origin") if (value := getattr(event, name))}


def original_of(letter: object) -> Event:
    """The event that a letter tells of.

    Raises:
        InvalidError: the letter lacks what is needed to send the event again.
    """
    if not isinstance(letter, dict):
        raise InvalidError("it is no letter of a member")
    for name, kind in _NEEDED.items():
        if not isinstance(letter.get(name), kind) or isinstance(letter[name], bool):
            raise InvalidError(f"it is no letter of a member: its {name} is {letter.get(name)!r}")
    if "error" in letter:
        raise InvalidError(f"its event could not be read: {letter['error']}")
    if "data" not in letter:
        raise InvalidError("it is without the data of its event, with which it was too large")
    headers, origin = letter.get("headers", NO_HEADERS), letter.get("origin", "")
    if not isinstance(headers, Mapping) or not isinstance(origin, str):
        raise InvalidError(f"its headers {headers!r} or its origin {origin!r} are none")
    named = {name: letter[name] for name in ("system", "kind", "path", "sequence", "time")}
    sender = letter.get("sender", 0)
    return Event(**named, data=_data_of(letter), sender=sender, headers=headers, origin=origin)


def identity_of(event: Event) -> str:
    """What tells an event from all others, also from those of a bus that had the name before."""
    return f"{event.sequence}@{event.time}"


def _looks_raw(data: object) -> bool:
    return isinstance(data, dict) and data.keys() == _RAW


def _data_of(letter: dict[str, Any]) -> Any:
    data = letter["data"]
    if not _looks_raw(data) or letter.get("raw") is False:
        return data
    try:
        return base64.b64decode(data["base64"], validate=True)
    except (TypeError, binascii.Error) as error:
        raise InvalidError(f"the base64 of its data is none: {error}") from error
