"""The doorbell of this process for one bus: its descriptor, and who is to look when it was rung."""

from __future__ import annotations

import os

from eventbus.core import native
from eventbus.core.attachment import Attachment
from eventbus.core.native import ffi, lib

SILENT = os.environ.get("EVENTBUS_DOORBELL") == "thread"
"""Whether no socket is to be made: a thread for each subscription that waits, as where sockets are forbidden."""


class Bell:
    """Held, its descriptor stays open, also once the bus was left: an event loop may be watching it."""

    def __init__(self, bus: Attachment) -> None:
        bus.check()
        self.address = int(ffi.cast("uintptr_t", bus.pointer))
        self._told = ffi.new("uint16_t[]", native.SUBSCRIBERS_LIMIT)
        self._next = ffi.new("int64_t *")
        try:
            self._pointer = native.owned(_hold, bus.pointer, lib.eb_bell_release)
        except MemoryError:
            native.fail(native.SYSTEM, bus.what)

    @property
    def fd(self) -> int:
        """Can be read once it was rung; -1 in a process forked since."""
        return int(lib.eb_bell_fd(self._pointer))

    def look(self, bus: Attachment) -> tuple[list[int], int]:
        """Nobody has rung for some time: the slots of those who are to receive, and when to look again, in ns on the
        monotonic clock."""
        count = lib.eb_bell_look(bus.pointer, self._told, self._next)
        return ffi.unpack(self._told, count), int(self._next[0])


def _hold(bus: object) -> object:
    return lib.eb_bell_hold(bus, SILENT)
