"""Audience: who would hear a system, and the wait until there are enough of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

from eventbus import patterns
from eventbus.core import native
from eventbus.core.attachment import Attachment
from eventbus.core.native import deadline_after
from eventbus.errors import InvalidError
from eventbus.request import INBOXES


def wait_for_subscribers(live: Callable[[], Attachment], count: int, system: str | None, timeout: float | None) -> bool:
    """Whether so many that would hear the system, or any, were there in time; ``live`` gives the bus anew each time."""
    deadline = _checked(count, system, timeout)
    while True:
        handle = live()
        epoch = handle.roster_epoch()
        if _are_there(handle, count, system):
            return True
        status = handle.roster_wait(epoch, deadline)
        if status == native.NOTHING:
            return False
        handle.checked(status)


async def await_for_subscribers(
    live: Callable[[], Attachment], count: int, system: str | None, timeout: float | None
) -> bool:
    """The same in an event loop, which looks from time to time: no doorbell tells who comes."""
    from eventbus.loop import Pauses  # takes longer to import than all of eventbus

    pauses = Pauses(_checked(count, system, timeout))
    while not _are_there(live(), count, system):
        if not await pauses.pause():
            return False
    return True


def _checked(count: object, system: str | None, timeout: float | None) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InvalidError(f"count must be an int of at least 0, not {count!r}", count=count)
    if system is not None:
        patterns.check_name(system, "system")
    return deadline_after(timeout)


def _are_there(handle: Attachment, count: int, system: str | None) -> bool:
    return sum(_counts(one.system, system) for one in handle.occupants()) >= count


def _counts(text: str, system: str | None) -> bool:
    """Those that hear nothing but answers hear no event."""
    return not text.startswith(INBOXES) if system is None else would_hear(text, system)


@functools.lru_cache(maxsize=1024)
def would_hear(text: str, name: str) -> bool:
    """Whether the patterns of a slot or a group hear the name; text that is none any more hears nothing."""
    try:
        return patterns.compile_joined(text).matches(name)
    except InvalidError:
        return False
