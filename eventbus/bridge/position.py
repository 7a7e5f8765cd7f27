"""Position: how far an export or an import has come, as a note that stands in the ring. Pure.

Of an export it is written when the server has acknowledged, of an import together with the events themselves.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from eventbus.bridge.messages import Place

_FORM = struct.Struct(">16sQQQQ")


class Position(NamedTuple):
    """A place in the life of an origin, and in its stream.

    Attributes:
        place: of the last event.
        message: its sequence in the stream.
        created: when the stream was made, microseconds since the epoch: another one is another stream.
    """

    place: Place
    message: int
    created: int

    def packed(self) -> bytes:
        """As a note has it."""
        epoch, run, sequence = self.place
        return _FORM.pack(bytes.fromhex(epoch), run, sequence, self.message, self.created)


NOWHERE = Position(Place("0" * 32, 0, 0), 0, 0)
"""Of what has yet to begin."""


def unpacked(note: bytes | None) -> Position:
    """The position of a note; NOWHERE where there is none, or one of another version."""
    if note is None or len(note) != _FORM.size:
        return NOWHERE
    epoch, run, sequence, message, created = _FORM.unpack(note)
    return Position(Place(epoch.hex(), run, sequence), message, created)


def export_note(domain: str, origin: str) -> str:
    """The name of an export's note."""
    return f"to {domain} {origin}"


def import_note(domain: str, origin: str) -> str:
    """The name of the note of what comes from an origin."""
    return f"from {domain} {origin}"
