"""What of the ring is kept for one subscription or group."""

from __future__ import annotations

from eventbus.core.attachment import Attachment, Group, Occupant
from eventbus.core.native import lib


def kept(handle: Attachment, one: Occupant | Group) -> int:
    """The bytes that are kept for it."""
    return int(lib.eb_kept_for(handle.pointer, one.slot))


def viewed(handle: Attachment, one: Occupant | Group) -> int:
    """Those of them that it has received and still looks at; of a group, none."""
    return 0 if isinstance(one, Group) else int(lib.eb_viewed_by(handle.pointer, one.slot))
