"""The moments of opening and closing that lie in Python: right after a call that others see the effect of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import posix_ipc


class Moment(NamedTuple):
    """Right after ``owner.call``, made for a segment of this kind: "ring" or "roster"."""

    owner: ModuleType
    call: str
    kind: str
    creates: bool = False


MOMENTS = {
    "roster_made": Moment(posix_ipc, "SharedMemory", "roster", creates=True),
    "ring_made": Moment(posix_ipc, "SharedMemory", "ring", creates=True),
    "ring_sized": Moment(os, "posix_fallocate", "ring"),
    "roster_sized": Moment(os, "posix_fallocate", "roster"),
    "ring_mode_set": Moment(os, "fchmod", "ring"),
    "roster_mode_set": Moment(os, "fchmod", "roster"),
    "stray_ring_unlinked": Moment(posix_ipc, "unlink_shared_memory", "ring"),
}


def _kind(first: object, *rest: object) -> str:
    """Which segment a call is about: by its name, or by a descriptor of it."""
    named = [one for one in (first, *rest) if isinstance(one, str) and one.startswith("/eventbus.")]
    path = named[0] if named else os.readlink(f"/proc/self/fd/{first}")
    return "roster" if path.removesuffix(" (deleted)").endswith(".roster") else "ring"


def _after(moment: Moment, then: Callable[[], None]) -> None:
    """From now on ``then`` runs at that moment, in this process."""
    original = getattr(moment.owner, moment.call)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        creates = len(arguments) > 1 and moment.call == "SharedMemory" and bool(arguments[1] & posix_ipc.O_CREX)
        if creates == moment.creates and _kind(*arguments) == moment.kind:
            then()
        return result

    setattr(moment.owner, moment.call, wrapped)


def arm(name: str, number: int, passes: int) -> None:
    """This process gets the signal when it comes to the moment for the ``passes``-th time from now."""
    count = 0

    def strike() -> None:
        nonlocal count
        count += 1
        if count == passes:
            os.kill(os.getpid(), number)

    _after(MOMENTS[name], strike)


def record() -> Counter[str]:
    """Counts from now on how often this process comes to each moment."""
    seen: Counter[str] = Counter()

    def recorder(name: str) -> Callable[[], None]:
        return lambda: seen.update([name])

    for name, moment in MOMENTS.items():
        _after(moment, recorder(name))
    return seen
