"""The request flow: ask, wait for the answer, reply."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from eventbus.bringing import Bringer
from eventbus.core import native
from eventbus.core.native import deadline_after
from eventbus.event import Event
from eventbus.replies import Inbox, Replies, new_prefix
from eventbus.request import (
    INBOX_LENGTH,
    REPLY,
    REQUEST_TIMEOUT,
    addressed,
    deadline_of,
    marked,
    reply_system,
    result_of,
)

if TYPE_CHECKING:
    from eventbus.desk import Desk
    from eventbus.policy import Guard

_making = threading.RLock()  # a signal handler or a destructor may ask in the midst of it
os.register_at_fork(after_in_child=_making._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does it


class Asker(Bringer):
    """The asking half of a bus, and the answering one. ``_ask_now`` and ``_answer`` are in C; what they cannot do, as
    where a topic is new or something is wrong, is done here."""

    _listen: Callable[[str], Inbox]

    def __init__(self, name: str, guard: Guard | None, send_timeout: float | None) -> None:
        super().__init__(name, guard, send_timeout)
        self._replies: Replies | None = None
        self._desk: Desk | None = None

    def request(
        self,
        system: str,
        kind: str,
        path: str,
        data: Any = None,
        *,
        timeout: float | None = REQUEST_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Sends an event to which a subscriber replies with ``event.reply(data)``, and waits for the first answer.

        Whoever replies sees an ordinary event, with the ``deadline`` of the answer. All answers come by one lossless
        subscription of the bus's, which takes a slot with the first request and holds nobody up between requests.

        Args:
            system, kind, path, data: as in ``send``; kind and path may be a little shorter.
            timeout: seconds for the whole call; None for ever.
            headers: as in ``send``.

        Returns:
            The data of the reply.

        Raises:
            RemoteError: the answer is an error, or what was asked cannot be read.
            SegmentError: the answer cannot be read.
            UnavailableError: no answer came in time.
            EventBusError: as ``send`` and ``subscribe``.
        """
        replies, left = self._replies, timeout
        if replies is None or not replies.usable:
            deadline = deadline_after(timeout)
            self._allow(system, kind, path)
            replies, left = self._listening(), _left(deadline)
        with replies.expect(left) as asked:
            if headers is not None or not self._ask_now(system, kind, asked.identity, path, data):
                self._ask_slow(system, kind, asked.identity, path, data, timeout, asked.deadline, headers)
            answer = replies.wait(asked)
            if type(answer) is Event and answer.kind == REPLY:
                return answer.data
            ended = replies.closed
        return result_of(answer, self._name, system, kind, path, timeout, ended)

    async def arequest(
        self,
        system: str,
        kind: str,
        path: str,
        data: Any = None,
        *,
        timeout: float | None = REQUEST_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """``request`` in an event loop. Cancelled, it is forgotten; who has it to answer is not told."""
        desk, left = self._desk, timeout
        if desk is None or desk.replies is not self._replies or not desk.replies.usable:
            deadline = deadline_after(timeout)
            self._allow(system, kind, path)
            desk, left = await self._opened_desk(), _left(deadline)
        with desk.replies.expect(left, desk.running()) as asked:
            if headers is not None or not self._ask_now(system, kind, asked.identity, path, data):
                await self._aask(system, kind, asked.identity, path, data, timeout, asked.deadline, headers)
            desk.attend(asked)
            await asked.future
            answer = asked.answer
            if type(answer) is Event and answer.kind == REPLY:
                return answer.data
            ended = desk.replies.closed
        return result_of(answer, self._name, system, kind, path, timeout, ended)

    async def _opened_desk(self) -> Desk:
        """The first request of all may have to wait for a lock, which it does in a thread."""
        from eventbus.desk import Desk  # takes longer to import than all of eventbus, like the next
        from eventbus.loop import in_thread

        await in_thread(self._listening)
        replies = self._listening()
        if self._desk is None or self._desk.replies is not replies:
            self._desk = Desk(replies)
        return self._desk

    def _listening(self) -> Replies:
        """The one that there is, or a new one: at first, and in a forked child."""
        with _making:
            there = self._replies
            if there is None or not there.usable:
                prefix = new_prefix()
                made = Replies(self._listen(reply_system(prefix)), prefix)
                if self._replies is not there:  # a signal handler was faster
                    made.close()
                else:
                    self._replies = made
            assert self._replies is not None
            return self._replies

    def _request(self, system: str, kind: str, path: str, identity: str) -> tuple[str, str]:
        """Kind and path of a request that may be sent, as they are sent."""
        self._allow(system, kind, path)
        return marked(kind), addressed(path, identity)

    def _ask_slow(
        self,
        system: str,
        kind: str,
        identity: str,
        path: str,
        data: Any,
        timeout: float | None,
        deadline: int,
        headers: Mapping[str, str] | None,
    ) -> None:
        """With all checks, names and patience."""
        sent_as, sent_to = self._request(system, kind, path, identity)
        self._send_own(system, sent_as, sent_to, data, timeout, deadline, headers)
        self._remember(self._asked, (system, kind), (system, sent_as))

    async def _aask(
        self,
        system: str,
        kind: str,
        identity: str,
        path: str,
        data: Any,
        timeout: float | None,
        deadline: int,
        headers: Mapping[str, str] | None,
    ) -> None:
        """The same in an event loop."""
        sent_as, sent_to = self._request(system, kind, path, identity)
        await self._asend_own(system, sent_as, sent_to, data, timeout, deadline, headers)
        self._remember(self._asked, (system, kind), (system, sent_as))

    # --- answering ---

    def _answer_slow(self, identity: str, kind: str, data: Any, patient: bool = True) -> bool:
        """As ``_ask_slow``; it waits for room no longer than somebody waits for the answer."""
        system, seconds = reply_system(identity), self._patience(identity) if patient else 0
        self._send_own(system, kind, identity, data, seconds, deadline_after(seconds))
        self._remember(self._answered, (identity[:INBOX_LENGTH], kind), (system, kind))
        return True

    async def _aanswer(self, identity: str, kind: str, data: Any) -> bool:
        """``_answer`` in an event loop."""
        if not self._answer_now(identity, kind, data):
            system, seconds = reply_system(identity), self._patience(identity)
            await self._asend_own(system, kind, identity, data, seconds, deadline_after(seconds))
            self._remember(self._answered, (identity[:INBOX_LENGTH], kind), (system, kind))
        return True

    def _patience(self, identity: str) -> float | None:
        """Seconds to wait for room for the answer."""
        until, seconds = deadline_of(identity), self._send_timeout
        if until is None:
            return seconds
        left = native.seconds_left(until)
        return left if seconds is None else min(seconds, left)

    def _forget(self) -> None:
        super()._forget()
        self._desk = self._replies = None


def _left(deadline: int) -> float | None:
    """The timeout that ends then."""
    return None if deadline == native.FOREVER else native.seconds_left(deadline)
