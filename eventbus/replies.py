"""Replies: one subscription by which all answers come to what a bus asked here."""

from __future__ import annotations

import os
from typing import NoReturn

from eventbus import _fast
from eventbus.core import native
from eventbus.core.reader import SubscriptionHandle
from eventbus.errors import SegmentError
from eventbus.subscription import Subscription

_fast.bind_replies(
    native.address_of("eb_rest"),
    native.address_of("eb_attend"),
    native.address_of("eb_rouse_loop"),
    native.deadline_after,
)


def new_prefix() -> str:
    """Of the identities of all that one bus asks in one process: 96 random bits."""
    return os.urandom(12).hex()


class Inbox(Subscription):
    """The subscription by which answers come. They are no requests: nobody replies to them."""

    def __init__(self, handle: SubscriptionHandle, name: str, system: str) -> None:
        super().__init__(handle, name, lambda heard, _: heard == system, None)

    def _settle(self, handle: SubscriptionHandle, status: int) -> bool:
        """Whoever fills it looks then whether it has its answer: a signal handler may have received it meanwhile."""
        super()._settle(handle, status)
        return False


class Replies(_fast.Replies):
    """Who waits for which answer. Any number of threads may; one of them receives for all."""

    def __init__(self, subscription: Inbox, prefix: str) -> None:
        self._subscription = subscription
        self._begin(subscription, prefix)

    @property
    def handle(self) -> SubscriptionHandle:
        """That of the subscription."""
        return self._subscription._subscription

    @property
    def ended(self) -> bool:
        """Whether nothing more can be received."""
        return self._subscription._is_over

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._subscription.closed

    def close(self) -> None:
        """Gives the slot back; whoever waits finds it closed."""
        self._subscription.close()

    def _unattended(self, status: int) -> NoReturn:
        """Raises why no answer can be received."""
        native.fail(status, self.handle.bus.what)

    def _misread(self, error: BaseException) -> str | None:
        """The identity of the request whose answer cannot be read, if that is the error."""
        path = error.details.get("path") if isinstance(error, SegmentError) else None
        return path if isinstance(path, str) else None
