"""Outcomes: what becomes of an event once its handler has returned or raised, and of whoever asked."""

from __future__ import annotations

import logging
import random
from typing import NamedTuple

from eventbus.errors import EventBusError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request
from eventbus.workers.failures import Discard, Failures, Retry, message, traced, where
from eventbus.workers.ways import Way

LONGEST_PAUSE = 60.0  # seconds between two tries

_log = logging.getLogger("eventbus.worker")


class Outcomes(NamedTuple):
    """Those of one handler.

    Attributes:
        retry_delay: seconds before the second try.
        failures: what the log says of them.
    """

    retry_delay: float
    failures: Failures

    async def answered(self, event: Request, result: object, way: Way) -> None:
        """What cannot be sent is told whoever asked, and the log: the event was handled."""
        try:
            await way.reply(event, result)
        except EventBusError as error:
            _log.error("the reply to %s cannot be sent: %s", where(event), error.message)
            await self._tell(event, error, way)

    async def failed(self, member: Member, event: Event, error: BaseException, duration: float, way: Way) -> None:
        """Once more, or never again: then the traceback is kept in the dead letter, and who asked is told.

        Args:
            duration: seconds that the handler had it.
        """
        limit = member.max_deliveries
        self.failures.tell(event, error, limit, duration)
        if event.deliveries < limit and not isinstance(error, Discard):
            member.reject(event, delay=self._pause(event, error))
            return
        more = {"reason": error.reason} if isinstance(error, Discard) else {"traceback": traced(error)}
        member.bury(event, **more)
        if isinstance(event, Request) and not event.answered:
            await self._tell(event, error, way)

    def _pause(self, event: Event, error: BaseException) -> float:
        """Seconds until the next try."""
        if isinstance(error, Retry) and error.delay is not None:
            return error.delay
        pause = min(LONGEST_PAUSE, self.retry_delay * 2.0 ** min(event.deliveries - 1, 64))
        return pause * random.uniform(0.9, 1.1)

    async def _tell(self, event: Request, error: BaseException, way: Way) -> None:
        try:
            await way.fail(event, type(error).__name__, message(error))
        except EventBusError as unsent:
            _log.error("whoever asked cannot be told: %s", unsent.message)
