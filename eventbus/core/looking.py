"""A bus that is mapped to be read from, and neither attached to, nor changed, nor repaired."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from eventbus.core.attachment import Attachment
from eventbus.core.segment import check_trust, has_ring, open_ring, open_roster
from eventbus.core.terms import check_name
from eventbus.errors import SegmentError, UnavailableError


@contextmanager
def looking(name: str) -> Iterator[Attachment]:
    """A bus in whatever state, mapped to be read from meanwhile.

    Raises:
        FileNotFoundError: there is no such bus.
        SegmentError: a part of it is gone, or was never made, or is of another version, damaged or not to be trusted.
        OSError: no permission.
    """
    seen = Attachment(check_name(name))
    with seen.opening():
        if not open_roster(name, seen):
            raise _no_roster(name)
        check_trust(name, seen.roster_fd)
        if not seen.is_signed():
            raise SegmentError(f"the bus {name!r} was never finished by its maker: nothing was sent on it")
        open_ring(name, seen, read_only=True)
        seen.look()
        yield seen


def look_at_remains(name: str) -> Attachment:
    """What is left of a bus. It can be read for as long as this is kept, whoever replaces the bus meanwhile.

    Raises:
        As ``looking``; UnavailableError: somebody is attached to it.
    """
    with looking(name) as seen:
        if not seen.alone():
            raise UnavailableError(f"the bus {name!r} is in use: 'eventbus tail {name} --oldest' shows what it holds")
    return seen


def _no_roster(name: str) -> Exception:
    if has_ring(name):
        return SegmentError(f"the roster of the bus {name!r} is gone, without which its ring cannot be read")
    return FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}: 'eventbus ls' lists those that are")
