"""Bringing: what comes from other buses is sent here, and in the same step how far whoever brings it is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from eventbus.core import native
from eventbus.core.native import deadline_after
from eventbus.event import Brought, extension
from eventbus.messages import Messenger
from eventbus.sending import _DEFAULT, row_of

Note = tuple[str, bytes]


class Bringer(Messenger):
    """What bridges and tools need of a bus beside what everybody has: an origin, and notes."""

    def _bring(
        self, origin: str, events: Iterable[tuple[Any, ...]], note: Note | None, *, timeout: float | None = _DEFAULT
    ) -> int:
        """``send_many`` of what comes from the bus ``origin`` ("" for this one), and in the same step how far that is.

        Args:
            note: of what, and the position; kept until the next one of the name, whatever becomes of the events.
        """
        return self._publish(events, timeout, origin, note)

    async def _abring(self, origin: str, events: Sequence[Brought], note: Note | None, timeout: float | None) -> int:
        """``_bring`` in an event loop, of events that keep the time and the sender that they had at their origin.

        Returns:
            The sequence here of the first.
        """
        deadline = deadline_after(timeout)
        for event in events:
            if event.kind not in self._routes.get(event.system, {}):
                await self._meet(event, deadline)
        rows, parts, start = array("I"), [], origin.encode()
        for event in events:
            row, bytes_ = self._brought(event, start)
            rows.extend(row)
            parts.append(bytes_)
        handle, blob = self._open_handle(), b"".join(parts)
        self._check_writable(handle)
        status = await self._try(handle, rows, len(parts), blob, deadline, note and (note[0].encode(), note[1]))
        if status < 0:
            self._refuse(handle, status, timeout, len(blob))
        return status

    async def _meet(self, event: Brought, deadline: int) -> None:
        """Of a topic that is new here: its names are checked, the policy is asked, and its number is found."""
        from eventbus.loop import through  # takes longer to import than all of eventbus

        attempt = partial(self._find_topic, event.system, event.kind, event.path, native.BRIEF)
        topic = await through(attempt, deadline)
        if topic < 0:
            self._refuse(self._open_handle(), topic)

    def _brought(self, event: Brought, origin: bytes) -> tuple[tuple[int, ...], bytes]:
        """The eb_outgoing of one event, and its bytes."""
        system, kind, path, data, headers, time, sender = event
        route = self._routes.get(system, {}).get(kind)
        topic = native.INLINE if route is None else route.topic
        extended = b"%b\xfe%x %x" % (origin, time, sender)
        if headers:
            extended += extension(headers)
        return row_of(topic, system, kind, path, data, extended)

    def _noted(self, name: str) -> bytes | None:
        """The last note of the name that came with events that are visible; None if there is none."""
        handle = self._open_handle()
        self._check_writable(handle)
        return handle.note(name.encode(), deadline_after(self._send_timeout))
