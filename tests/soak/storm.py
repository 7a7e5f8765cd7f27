"""A storm of signals: a handler that raises at random moments, in the middle of what the bus does."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from soak.forks import forking

_T = TypeVar("_T")


class Boom(Exception):
    """What the handler raises."""


class Storm:
    """The handler of SIGALRM. It raises where the interrupted frame is one of the bus's own: then nothing may be lost
    of what is sent and received. While a call is ``exposed`` it raises anywhere, as what it makes may be dropped."""

    def __init__(
        self, dice: random.Random, every: float, seconds: float, instead: Callable[[], bool] = lambda: False
    ) -> None:
        self.hits = 0
        self._dice = dice
        self._every = every
        self._instead = instead  # what it may do instead of raising, if that returns True
        self._end = time.monotonic() + seconds
        self._exposed = self._over = self._striking = False
        self._pid = os.getpid()  # a child has what its parent was in the middle of, and no storm

    def begin(self) -> None:
        """From now on signals come."""
        signal.signal(signal.SIGALRM, self._strike)
        self._arm()

    def end(self) -> None:
        """No more."""
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def exposed(self, call: Callable[[], _T]) -> _T:
        """The call, which may be interrupted anywhere, after it has returned as well."""
        self._exposed = True
        try:
            return call()
        finally:
            self._exposed = False

    def again(self, call: Callable[[], _T]) -> _T:
        """The call, exposed, as often as it takes until it is not interrupted: each time the storm abates, as on a busy
        machine the call may last longer than it ever pauses."""
        every = self._every
        try:
            while True:
                try:
                    return self.exposed(call)
                except Boom:
                    self._every *= 2
        finally:
            self._every = every

    def _arm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, max(0.0001, self._dice.expovariate(1 / self._every)))

    def _strike(self, _: int, frame: FrameType | None) -> None:
        if self._over or self._striking or forking() or os.getpid() != self._pid:
            return
        self._striking = True
        try:
            self._raise_or_not(frame)
        finally:
            self._striking = False

    def _raise_or_not(self, frame: FrameType | None) -> None:
        if time.monotonic() > self._end:
            os._exit(1)  # nobody is left to end it
        self._arm()
        if self._instead():
            return
        if self._exposed or _is_of_the_bus(frame):
            self._exposed = False
            self.hits += 1
            raise Boom


def _is_of_the_bus(frame: FrameType | None) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "eventbus"
