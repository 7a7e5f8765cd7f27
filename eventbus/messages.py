"""Messages: what only the bus itself sends, which is requests, answers and dead letters."""

from __future__ import annotations

from array import array
from functools import partial
from typing import TYPE_CHECKING, Any

from eventbus.core import native
from eventbus.core.attachment import Attachment, Route
from eventbus.event import check_headers, extension
from eventbus.sending import Sender, row_of

if TYPE_CHECKING:
    from eventbus.policy import Guard


class Messenger(Sender):
    """Sends to topics of the bus's own, whose names are known to be good, and for which no policy is asked."""

    def __init__(self, name: str, guard: Guard | None, send_timeout: float | None) -> None:
        super().__init__(name, guard, send_timeout)
        self._own_topics: dict[tuple[str, str], int] = {}
        self._asked: dict[str, dict[str, Route]] = {}  # of requests that are allowed by the policy
        self._answered: dict[str, dict[str, Route]] = {}

    def _send_own(
        self, system: str, kind: str, path: str, data: Any, seconds: float | None, deadline: int, headers: Any = None
    ) -> None:
        """With patience until the deadline, which is so many seconds."""
        check_headers(headers)
        handle = self._open_handle()
        self._check_writable(handle)
        topic = self._own_topic(handle, system, kind, deadline)
        row, blob = row_of(max(topic, 0), system, kind, path, data, extension(headers))
        status = topic if topic < 0 else handle.send_batch(array("I", row), 1, blob, deadline)
        if status < 0:
            self._refuse(handle, status, seconds, len(blob))

    async def _asend_own(
        self, system: str, kind: str, path: str, data: Any, seconds: float | None, deadline: int, headers: Any = None
    ) -> None:
        """The same in an event loop."""
        from eventbus.loop import through  # takes longer to import than all of eventbus

        check_headers(headers)
        handle = self._open_handle()
        self._check_writable(handle)
        topic = await through(partial(self._own_topic, handle, system, kind, native.BRIEF), deadline)
        row, blob = row_of(max(topic, 0), system, kind, path, data, extension(headers))
        status = topic if topic < 0 else await self._try(handle, array("I", row), 1, blob, deadline)
        if status < 0:
            self._refuse(handle, status, seconds, len(blob))

    def _own_topic(self, handle: Attachment, system: str, kind: str, deadline: int) -> int:
        """Its number, or a status."""
        topic = self._own_topics.get((system, kind))
        if topic is None:
            topic = handle.topic(system.encode(), kind.encode(), deadline)
            if 0 <= topic != native.INLINE:
                self._own_topics[system, kind] = topic
        return topic

    def _remember(self, routes: dict[str, dict[str, Route]], keys: tuple[str, str], names: tuple[str, str]) -> None:
        """From now on C finds the topic under these keys, unless it stands in each record itself."""
        handle, topic = self._handle, self._own_topics.get(names)
        if handle is not None and topic is not None:
            routes.setdefault(keys[0], {})[keys[1]] = handle.route(topic, b"", b"")

    def _forget(self) -> None:
        super()._forget()
        self._asked, self._answered = {}, {}
