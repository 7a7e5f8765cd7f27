"""The moments: where in the rooms of the bridge a process may be held, by methods that a test's entry wraps.

A release knows nothing of them. A moment of the core is one of its test points, in the build that has them.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Literal

Fire = Callable[[], None]


@dataclass(frozen=True)
class Moment:
    """One moment.

    Attributes:
        who: comes there, "exporter" or "importer".
        room: the module below ``eventbus.bridge``, and ``name`` what is called there; or "core" and a test point.
        when: before the call, amid it or after it.
        first: whether it comes there as soon as it starts.
        says: what that is, for the page.
    """

    who: str
    room: str
    name: str
    when: Literal["before", "amid", "after"]
    says: str
    first: bool = False


MOMENTS = {
    "export connected": Moment("exporter", "link", "Link.open", "after", "connected, nothing asked yet", True),
    "stream found": Moment("exporter", "export", "keep_stream", "after", "the stream is there, its end unknown", True),
    "resynchronised": Moment("exporter", "export", "Export._sync", "after", "it knows where to go on", True),
    "read": Moment("exporter", "export", "Export._take", "after", "a batch in hand, nothing written"),
    "mid-write": Moment("exporter", "link", "Link.write", "amid", "half of a batch is on its way"),
    "written": Moment("exporter", "export", "Export._prove", "before", "all of a batch is on its way"),
    "acknowledged": Moment("exporter", "export", "Export._noted", "before", "the server has it, nothing noted"),
    "noted": Moment("exporter", "export", "Export._noted", "after", "noted, the group knows nothing of it"),
    "handled": Moment("exporter", "export", "Source.poll", "before", "about to tell the group"),
    "import connected": Moment("importer", "link", "Link.open", "after", "connected, nothing asked yet", True),
    "origin found": Moment("importer", "inbound", "Inbound.begin", "after", "it knows where to begin", True),
    "consumer made": Moment("importer", "consumer", "Consumer.open", "after", "a new consumer, nothing taken", True),
    "taken": Moment("importer", "consumer", "Consumer.messages", "after", "a batch in hand"),
    "before the commit": Moment("importer", "inbound", "Inbound._commit", "before", "decoded, nothing sent"),
    "commit: noted": Moment("importer", "core", "note_written", "amid", "the position is written, not visible"),
    "commit: copied": Moment("importer", "core", "publish_copied", "amid", "the events are written, not visible"),
    "commit: visible": Moment("importer", "core", "publish_committed", "amid", "visible, nobody woken"),
    "committed": Moment("importer", "inbound", "Inbound._commit", "after", "sent, and noted with it"),
}

COMMIT = MOMENTS["before the commit"]
"""After which the core comes to its points."""


def install(moment: Moment, passes: int, fire: Fire) -> None:
    """Has ``fire`` called when this process comes to the moment for the ``passes``-th time."""
    left = passes

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            fire()

    owner: Any = importlib.import_module(f"eventbus.bridge.{moment.room}")
    *above, name = moment.name.split(".")
    for one in above:
        owner = getattr(owner, one)
    setattr(owner, name, _WRAPPED[moment.when](getattr(owner, name), pass_by))


def _before(original: Any, pass_by: Fire) -> Any:
    @wraps(original)
    def wrapped(*arguments: Any, **terms: Any) -> Any:
        pass_by()
        return original(*arguments, **terms)

    return wrapped


def _after(original: Any, pass_by: Fire) -> Any:
    if not iscoroutinefunction(original):

        @wraps(original)
        def called(*arguments: Any, **terms: Any) -> Any:
            found = original(*arguments, **terms)
            pass_by()
            return found

        return called

    @wraps(original)
    async def awaited(*arguments: Any, **terms: Any) -> Any:
        found = await original(*arguments, **terms)
        pass_by()
        return found

    return awaited


def _amid(original: Any, pass_by: Fire) -> Any:
    """Of a write: half of what is written is with the kernel."""

    @wraps(original)
    async def halved(link: Any, blocks: Iterable[bytes]) -> None:
        whole = [*blocks]
        if len(whole) < 2:
            await original(link, whole)
            return
        await original(link, whole[: len(whole) // 2])
        transport = link._client._transport._io_writer.transport
        while link._client._pending or transport.get_write_buffer_size():
            await asyncio.sleep(0)
        pass_by()
        await original(link, whole[len(whole) // 2 :])

    return halved


_WRAPPED = {"before": _before, "amid": _amid, "after": _after}
