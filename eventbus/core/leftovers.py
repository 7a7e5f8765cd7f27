"""What the dead have left in shared memory: buses that nobody is on, what was kept beside them, and doorbells at which
nobody answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from eventbus.core import native
from eventbus.core.attachment import Attachment
from eventbus.core.beside import is_kept, list_kept, remove_kept
from eventbus.core.inspection import inspect_bus, list_names
from eventbus.core.segment import check_trust, has_ring, open_or_create
from eventbus.core.terms import is_name
from eventbus.errors import EventBusError


@dataclass(frozen=True)
class Leftovers:
    """What was found.

    Attributes:
        buses: names of abandoned buses that are gone now, or would be, and of those of which something was left.
        doorbells: how many files.
        kept: names of those that could not be removed, and why.
    """

    buses: tuple[str, ...]
    doorbells: int
    kept: dict[str, str]


def sweep(dry_run: bool, only: Collection[str] = ()) -> Leftovers:
    """Removes them; nothing that somebody alive uses, persistent buses neither.

    Args:
        dry_run: tells what would be removed, and removes nothing.
        only: the names of buses that are looked at; all, and doorbells, if there are none.
    """
    buses, kept = list[str](), dict[str, str]()
    for name in only or sorted({*list_names(), *filter(is_name, list_kept())}):
        about = inspect_bus(name)
        if about.state != "abandoned" if about else not is_kept(name):
            continue
        try:
            if dry_run or _remove_abandoned(name):
                buses.append(name)
        except (OSError, EventBusError) as error:
            kept[name] = str(error)
    return Leftovers(tuple(buses), 0 if only else native.sweep_bells(dry_run), kept)


def _remove_abandoned(name: str) -> bool:
    """Behind the door, where nobody makes it anew meanwhile; without a roster, one is made for its door."""
    attachment = Attachment(name)
    with attachment.opening():
        if open_or_create(name, attachment) is None:
            return False
        check_trust(name, attachment.roster_fd)
        if not attachment.enter() or not attachment.alone():
            return False
        if attachment.is_signed() and attachment.persists() and has_ring(name):
            return False
        remove_kept(name)
        attachment.remove()
        return True
