"""Remains: the events that the ring of a bus has kept to which nobody is attached any more."""

from __future__ import annotations

from collections.abc import Iterator

from eventbus.core.looking import look_at_remains
from eventbus.core.reader import BATCH_LIMIT, SubscriptionHandle
from eventbus.errors import SegmentError
from eventbus.event import Event, Unreadable
from eventbus.hearing import Hearing
from eventbus.subscription import Subscription, checked_name


class Remains(Subscription):
    """Reads what is there, from the oldest event on, and changes nothing: it has no slot, and is not attached."""

    def __init__(self, name: str, wanted: Hearing) -> None:
        wanted.check_allowed()
        super().__init__(SubscriptionHandle(look_at_remains(name)), checked_name(None, wanted.system.text), _any, None)
        self._wanted = wanted

    def found(self) -> Iterator[Event | SegmentError]:
        """The next events that are wanted, and errors in place of what cannot be read.

        Raises:
            SegmentError: the ring is damaged: what comes after that cannot be told.
        """
        while count := self._subscription.peek(BATCH_LIMIT):
            self._learn(count)
            for one in self._unpack(self._subscription):
                event = one.event if isinstance(one, Unreadable) else one
                if self._wanted(event.system, event.kind):
                    yield self._refused(self._subscription, one) if isinstance(one, Unreadable) else one

    def _learn(self, count: int) -> None:
        """The names of those topics that stand in the table."""
        bus = self._subscription.bus
        for topic in {*self._subscription.batch.topic[0:count]} - self._names.keys():
            if topic < bus.stats().topics:
                self._names[topic] = self._heard(*bus.topic_names(topic)) or ()


def _any(_system: str, _kind: str) -> bool:
    return True
