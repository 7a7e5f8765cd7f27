"""Attached: a bus for as long as it is open here; its subscriptions, and how it leaves, with them."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from eventbus.asking import Asker
from eventbus.core import lifetime, native
from eventbus.core.attachment import Attachment
from eventbus.errors import UnavailableError
from eventbus.subscription import Subscription

if TYPE_CHECKING:
    from eventbus.policy import Guard

Self = TypeVar("Self", bound="Attached")


class Attached(Asker):
    """What of a bus is open, and closes."""

    def __init__(
        self, name: str, opened: Callable[[], Attachment], guard: Guard | None, send_timeout: float | None
    ) -> None:
        super().__init__(name, guard, send_timeout)
        self._subscriptions: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        self._opening = threading.RLock()
        self._open: Callable[[], Attachment] | None = opened
        try:
            self._open_now()
        except UnavailableError as error:  # in an event loop: when it is entered or first used
            if not native.put_off(error):
                raise

    def _opened_late(self) -> Attachment | None:
        if self._open is not None:
            with native.patient():
                self._open_now()
        return self._handle

    def _open_now(self) -> None:
        with self._opening:
            if self._open is not None:
                handle = self._open()
                self._finalize(_forgotten, self._name, weakref.ref(handle))
                lifetime.opened(self)
                self._handle, self._open = handle, None

    def _finalize(self, call: Callable[..., object], *arguments: object) -> None:
        """What happens when nobody refers to it any more; not at the end of the process, where others still send.

        The arguments keep no attachment: a signal handler may raise before the call begins, and then there is none.
        """
        self._finalizer = weakref.finalize(self, call, *arguments)
        self._finalizer.atexit = False

    @property
    def attached(self) -> bool:
        """Whether this object is still open here."""
        return self._handle is not None or self._open is not None

    @property
    def usable(self) -> bool:
        """Whether it is open, and this process's: not after a fork by C, nor once its descriptors were closed."""
        handle = self._handle
        return handle is not None and handle.usable

    @property
    def closed(self) -> bool:
        """Whether it is closed here, shut down for everybody, or its name means another bus by now, or none."""
        handle = self._handle
        return self._open is None and (handle is None or handle.closed or not handle.named)

    @property
    def identity(self) -> str:
        """32 hexadecimal digits, drawn when the bus was made: another one means another bus under the name.

        Raises:
            ClosedError: the bus is closed here.
        """
        return self._open_handle().identity

    def close(self) -> None:
        """Leaves the bus and closes this object's subscriptions; the last process out removes the segments."""
        self._leave(True)

    def process_ends(self, last: bool) -> None:
        """Called by ``lifetime``: members tell what they could not tell before; and then, if ``last``, it leaves.

        What a member has in hand then is given back: nobody said that it was done.
        """
        for one in self._living():
            one.process_ends()
        if last:
            self._leave(False)

    def _living(self) -> list[Subscription]:
        """Its subscriptions, read in one step: other threads may be subscribing."""
        return [one for reference in self._subscriptions.valuerefs() if (one := reference()) is not None]

    def _leave(self, handled: bool) -> None:
        """Whoever is interrupted in it, or comes second, goes on with what is left: each step may be done again."""
        self._open, handle = None, self._handle
        if handle is None:
            return
        with contextlib.ExitStack() as steps:  # the last one first, and each of them whatever becomes of the others
            steps.callback(self._left, handle)
            # Members after the others: they may have dead letters to send, for which there is room by then.
            for one in sorted(self._living(), key=lambda one: not one._in_group):
                steps.callback(one.leave, handled)

    def _left(self, handle: Attachment) -> None:
        self._leave_loops(handle)
        status = handle.leave()
        self._finalizer.detach()
        lifetime.closed(self)
        self._forget()
        if status == native.FORKED:
            warnings.warn(native.sentence(status, handle.what), RuntimeWarning, stacklevel=2)
        elif status in (native.BUSY, native.SYSTEM):
            handle.refuse(status)

    def _leave_loops(self, handle: Attachment) -> None:
        """Those in which somebody waited on it, if there were any."""
        if (loop := sys.modules.get("eventbus.loop")) is not None:
            loop.leave(handle)

    async def aclose(self) -> None:
        """``close`` in an event loop, which goes on meanwhile."""
        await self._aleave(True)

    async def _aleave(self, handled: bool) -> None:
        await self._in_thread(self._leave, handled)

    async def _in_thread(self, call: Callable[..., object], *arguments: object) -> None:
        from eventbus.loop import in_thread  # takes longer to import than all of eventbus

        await in_thread(call, *arguments)

    async def __aenter__(self: Self) -> Self:
        if self._open is not None:
            await self._in_thread(self._opened_late)
        return self

    async def __aexit__(self, error: object, *_: object) -> None:
        await self._aleave(error is None)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._leave(error is None)


def leave_forgotten(attachment: weakref.ref[Attachment]) -> None:
    """With the bus goes its attachment, which leaves as it goes; it does so here if it is still there."""
    handle = attachment()
    if handle is not None:
        handle.leave()


def _forgotten(name: str, attachment: weakref.ref[Attachment]) -> None:
    """Of a bus that nobody refers to any more."""
    leave_forgotten(attachment)
    warnings.warn(f"unclosed bus {name!r}: close it, or use it in a with-block", ResourceWarning, stacklevel=2)
