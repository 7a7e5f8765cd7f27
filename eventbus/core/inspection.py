"""A bus as it is seen from outside, by those who neither attach to it nor change it."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from eventbus.core.attachment import Attachment
from eventbus.core.segment import SHARED_MEMORY, check_trust, has_ring, names_of, open_ring, open_roster, status_of
from eventbus.core.stats import BusStats, read_stats
from eventbus.core.terms import check_name, is_name
from eventbus.errors import SegmentError, UnavailableError

_SEGMENT = re.compile(r"eventbus\.(.+)\.(?:ring|roster)\Z")


def list_names() -> list[str]:
    """The names of the buses on this host, with those that this process may not open or of which a part is left."""
    found = map(_SEGMENT.match, os.listdir(SHARED_MEMORY))
    return sorted({match[1] for match in found if match and is_name(match[1])})


class Inspection(NamedTuple):
    """What can be told of a bus without attaching to it.

    Attributes:
        uid, mode, size: of its files; the ring's mode, the bytes of both.
        state: "live", "closed" (shut down), "abandoned" (a crash left it, the next open replaces it), "persistent"
            (nobody is attached and it was told to stay), "in the making" (and its maker is stopped), "damaged",
            "other version", "not trusted" or "no permission".
        reason: a sentence that says why there are no stats; empty if there are.
    """

    name: str
    uid: int
    mode: int
    size: int
    state: str
    reason: str = ""
    attached: int | None = None
    stats: BusStats | None = None


def inspect_bus(name: str) -> Inspection | None:
    """Looks at a bus; neither attaches to it nor changes, repairs or removes anything. None if there is none.

    Raises:
        InvalidError: a bad name.
    """
    about = _inspect_files(check_name(name))
    if about is None or about.state != "live":
        return about
    seen = Attachment(name)
    try:
        with seen.opening():
            found = _inspect_roster(about, seen) if open_roster(name, seen) else None
            return found if seen.named else None
    except SegmentError as error:
        return about._replace(state="damaged", reason=error.message)
    except PermissionError as error:
        return about._replace(state="no permission", reason=str(error.strerror))
    except OSError as error:
        return about._replace(state="damaged", reason=str(error.strerror))


def _inspect_files(name: str) -> Inspection | None:
    ring, roster = (status_of(segment) for segment in names_of(name))
    first = roster or ring
    if first is None:
        return None
    about = Inspection(name, first.st_uid, 0, sum(part.st_size for part in (ring, roster) if part), "live")
    about = about._replace(mode=stat.S_IMODE((ring or first).st_mode))
    if roster is None and stat.S_ISDIR(first.st_mode):
        return about._replace(state="damaged", reason=f"{SHARED_MEMORY}{names_of(name)[0]} is a directory; remove it")
    return about if roster else about._replace(state="abandoned", attached=0, reason=_abandoned(name))


def _abandoned(name: str) -> str:
    return f"the bus {name!r} is abandoned: the next to open it replaces it, 'eventbus unlink' removes it"


def _inspect_roster(about: Inspection, seen: Attachment) -> Inspection:
    try:
        return _inspect_trusted(about, seen)
    except UnavailableError as error:
        return about._replace(state="in the making", reason=error.message)
    except SegmentError as error:
        version, trusted = error.details.get("version"), "uid" not in error.details
        state = "other version" if version else "damaged" if trusted else "not trusted"
        return about._replace(state=state, reason=error.message)


def _inspect_trusted(about: Inspection, seen: Attachment) -> Inspection:
    check_trust(about.name, seen.roster_fd)
    if not seen.is_signed():
        seen.enter()  # whoever is making it has finished or died by then
    attached, whole = seen.others, seen.is_signed()
    if seen.alone() and not (whole and seen.persists() and has_ring(about.name)):
        return about._replace(state="abandoned", attached=0, reason=_abandoned(about.name))
    open_ring(about.name, seen, read_only=True)
    seen.look()
    stats = read_stats(about.name, seen, attached)  # others, without the asker
    state = "persistent" if attached == 0 else "closed" if stats.closed else "live"
    return about._replace(state=state, attached=attached, stats=stats)
