"""A bus that nobody is attached to, mapped to be read from: neither attached to, nor changed, nor repaired."""

from __future__ import annotations

import errno

from eventbus.core.attachment import Attachment
from eventbus.core.segment import check_trust, has_ring, open_ring, open_roster
from eventbus.core.terms import check_name
from eventbus.errors import SegmentError, UnavailableError


def look_at(name: str) -> Attachment:
    """What is left of a bus. It can be read for as long as this is kept, whoever replaces the bus meanwhile.

    Raises:
        FileNotFoundError: there is no such bus.
        UnavailableError: somebody is attached to it.
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
        if not seen.alone():
            raise UnavailableError(f"the bus {name!r} is in use: 'eventbus tail {name} --oldest' shows what it holds")
        open_ring(name, seen, read_only=True)
        seen.look()
    return seen


def _no_roster(name: str) -> Exception:
    if has_ring(name):
        return SegmentError(f"the roster of the bus {name!r} is gone, without which its ring cannot be read")
    return FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}: 'eventbus ls' lists those that are")
