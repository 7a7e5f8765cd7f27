"""When this process leaves its buses.

At the end of a process C leaves what is still open, after everything of Python has run that may still send, such as
functions of ``atexit`` and handlers of ``logging``. Only where a process ends without that, as those do that
multiprocessing has forked, Python does it, as the last of its finalizers. In any case members tell before that what
they could not tell until then.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Any, Protocol


class Attached(Protocol):
    """What the end of a process needs of a bus."""

    def process_ends(self, last: bool) -> None:
        """Tells what is still to be told; ``last``: and leaves the bus."""


_open: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_finalized = 0  # the process that has a finalizer
_registered = False  # with multiprocessing, which the children of this process inherit
_owner = type("Owner", (), {})()


def opened(bus: Attached) -> None:
    """From now on the bus is left when the process ends."""
    _open[id(bus)] = bus
    _finalize()


def closed(bus: Attached) -> None:
    """Forgets the bus."""
    _open.pop(id(bus), None)


def _finalize(_: object = None) -> None:
    """A child that was forked by multiprocessing ends without atexit, but runs its own finalizers."""
    global _finalized
    if _finalized != os.getpid() and _is_forked() and len(_open):
        _finalized = os.getpid()
        sys.modules["multiprocessing.util"].Finalize(None, leave_all, exitpriority=-100)


def _is_forked() -> bool:
    """Whether multiprocessing forked this process, or its server did; one that it spawned ends like any other."""
    process = sys.modules.get("multiprocessing.process")  # nobody was forked by what nobody has imported
    parent = getattr(process, "parent_process", lambda: None)()
    return parent is not None and "--multiprocessing-fork" not in sys.orig_argv


def _forked() -> None:
    """What multiprocessing has forked begins with what is registered there; another thread may be importing it."""
    global _registered
    register = getattr(sys.modules.get("multiprocessing.util"), "register_after_fork", None)
    if register is not None and not _registered:
        register(_owner, _finalize)
        _registered = True


def _end(last: bool) -> None:
    errors: list[Exception] = []
    for reference in _open.valuerefs():  # in one step: threads that still run may open others
        try:
            if (bus := reference()) is not None:
                bus.process_ends(last)
        except Exception as error:
            errors.append(error)
    for failure in errors:
        import logging  # not above: few need it

        logging.getLogger("eventbus").error("a bus could not be left", exc_info=failure)


def leave_all() -> None:
    """Leaves what is still open: the last that a process does which ends without the interpreter's end."""
    _end(last=True)


os.register_at_fork(after_in_child=_forked)
atexit.register(_end, last=False)
