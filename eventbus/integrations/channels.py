"""Channels: a layer of Django Channels, groups and channels between the processes of one host without a server."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import eventbus
from eventbus import Bus, ClosedError, FullError, InvalidError, UnavailableError
from eventbus.integrations.boxes import Boxes
from eventbus.integrations.mail import ALL, Mail, client_of, kind_of
from eventbus.integrations.shared import Shared

try:
    import msgpack
    from channels.exceptions import ChannelFull
    from channels.layers import BaseChannelLayer
except ModuleNotFoundError as error:
    raise UnavailableError("a channel layer needs libraries: pip install 'eventbus[channels]'") from error

_PAUSE = 0.2  # seconds between two tries to receive, where a bus was shut down and others have yet to leave it

_log = logging.getLogger("eventbus")
_starting = threading.RLock()
os.register_at_fork(after_in_child=_starting._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does it


class EventbusChannelLayer(BaseChannelLayer):
    """``"BACKEND": "eventbus.integrations.channels.EventbusChannelLayer"``, with ``"CONFIG": {"bus": "shop"}``.

    A message to a group is sent once, and each process puts it into its own channels that are in the group. Any number
    of threads and event loops may use it, and forked children. It opens the bus when it is used first, and again where
    the bus has ended meanwhile; while others have one open still that was shut down, sending raises ``ClosedError``.

    Args:
        bus: the name of a bus, or a ``Bus``.
        prefix: of the systems that it sends to, on a bus that others use too.
        expiry: seconds that a message waits at most.
        group_expiry: seconds that a channel is in a group at most, since it was last added.
        capacity: how many messages may wait for a channel.
        channel_capacity: the same for channels whose name matches: by shell patterns, or compiled expressions.
        options: what else ``eventbus.open`` is called with, such as ``{"capacity": 1 << 26}`` for the ring.

    Raises:
        InvalidError: a bad argument.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]

    def __init__(
        self,
        bus: str | Bus,
        *,
        prefix: str = "channels",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[Any, int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(bus, (str, Bus)):
            raise InvalidError(f"bus must be the name of a bus or a Bus, not {bus!r}", bus=bus)
        for what, seconds in (("expiry", expiry), ("group_expiry", group_expiry)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
                raise InvalidError(f"{what} must be a number of seconds above 0, not {seconds!r}")
        for number in (capacity, *(channel_capacity or {}).values()):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InvalidError(f"the capacity of a channel must be an int of at least 1, not {number!r}")
        compiled: Any = self.compile_capacities(dict(channel_capacity or {}))
        limits: dict[str, Any] = {"expiry": expiry, "capacity": capacity, "channel_capacity": compiled}
        super().__init__(**limits)
        self._limits = BaseChannelLayer(**limits)  # without a way back to this one
        self.group_expiry = group_expiry
        self.prefix = prefix
        self._given = bus
        self._options = dict(options or {})
        self._mail: Mail | None = None
        self._closings = 0  # how often it was closed
        self._told = False  # whether it was logged that nothing is heard
        self._finalizer: weakref.finalize[..., EventbusChannelLayer] | None = None

    @property
    def client_prefix(self) -> str:
        """What the names of this process's own channels have before the ``!``."""
        return self._here().client

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Sends a message to a channel.

        Raises:
            ChannelFull: as many as may wait for it do so already. Of a channel of another process nobody knows: what is
                over its capacity is dropped there, and logged.
            TypeError: no name of a channel; no dict; or something in it that cannot be sent.
        """
        self.require_valid_channel_name(channel)
        data = self.serialize(message)
        here, client = self._here(), client_of(channel)
        if "!" not in channel:
            sent = await here.shared.put(channel, data)
        elif client == here.client:
            await here.begin()
            with here.boxes.lock:
                here.look()  # what was sent to its groups before comes before it
                sent = here.boxes.put(channel, data, time.time_ns())
        else:
            sent = await self._post(here, "local", kind_of(client), channel, data)
        if not sent:
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> Any:
        """The next message for a channel: one of this process's own, or one that workers share. Cancelled, it has
        taken nothing. Several that wait for one channel get a message each. Where the bus was shut down it waits until
        all have left that, and then by the next one."""
        self.require_valid_channel_name(channel)
        closings = self._closings
        while self._closings == closings:
            try:
                if (data := await self._next(self._here(), channel)) is not None:
                    return self.deserialize(data)
            except ClosedError as error:
                if isinstance(self._given, Bus):
                    raise
                self._tell(error)
                await asyncio.sleep(_PAUSE)
        raise ClosedError(f"the channel layer was closed while {channel!r} was waited for")

    def _tell(self, error: ClosedError) -> None:
        """Logs why nothing is heard, once until there is a bus again."""
        if not self._told:
            self._told = True
            _log.warning("this process hears nothing for its channels, and tries again: %s", error)

    async def _next(self, here: Mail, channel: str) -> bytes | None:
        """None where it is to be asked for again: the bus has ended."""
        if "!" not in channel:
            if here.heard:
                here.watch()  # it may be in a group
            return await here.shared.take(channel)
        if client_of(channel) != here.client:
            raise AssertionError(f"{channel!r} is not of this process: {here.client!r} is what it calls its channels")
        await here.begin()
        return await here.next(channel)

    async def new_channel(self, prefix: str = "specific") -> str:
        """The name of a channel from which only this process receives."""
        here = self._here()
        await here.begin()
        return f"{prefix}.{here.client}!{secrets.token_hex(8)}"

    async def group_add(self, group: str, channel: str) -> None:
        """The channel gets what is sent to the group, until it is discarded or expires, or its process ends."""
        await self._change("add", group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """The channel gets no more of what is sent to the group, if it was in it."""
        await self._change("discard", group, channel)

    async def _change(self, what: str, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        here, client = self._here(), client_of(channel)
        if "!" in channel and client != here.client:
            await self._post(here, "local", kind_of(client), channel, {what: [group]})
            return
        await here.begin()
        if "!" not in channel:
            await here.shared.join(channel)
        with here.boxes.lock:
            here.look()  # what was sent before is for those who were in the group then
            (here.boxes.add if what == "add" else here.boxes.discard)(group, channel)
        if "!" not in channel:
            here.watch()  # whoever receives from it may be another process

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Sends a message to each channel of a group that has room for it."""
        self.require_valid_group_name(group)
        await self._post(self._here(), "group", ALL, group, self.serialize(message))

    async def flush(self) -> None:
        """No message and no group is left, of any process. It can be used on."""
        here = self._here()
        here.shared.clear()
        await self._post(here, "local", ALL, "flush", None)
        with here.boxes.lock:
            here.look()
            here.boxes.clear()

    async def close(self) -> None:
        """Leaves the bus, unless it was given as a ``Bus``. Who waits for a message gets a ``ClosedError``; whatever is
        called afterwards opens the bus again."""
        self._closings += 1
        mail, self._mail = self._mail, None
        if mail is not None:
            mail.left = True
            _leave(mail, self._given is not mail.bus)

    def serialize(self, message: dict[str, Any]) -> bytes:
        """As it travels: MessagePack, which has bytes, and what JSON has."""
        if not isinstance(message, dict):
            raise TypeError(f"a message must be a dict, not {message!r}")
        data: bytes = msgpack.packb(message, use_bin_type=True)
        return data

    def deserialize(self, data: bytes) -> Any:
        """The message again; what was a tuple is a list."""
        return msgpack.unpackb(data, raw=False, strict_map_key=False)

    async def _post(self, here: Mail, system: str, kind: str, path: str, data: Any) -> bool:
        event = (f"{self.prefix}.{system}", kind, path, data)
        try:
            return await here.bus.asend(*event, timeout=0)
        except FullError:
            here.shared.make_room()
            return await here.bus.asend(*event)

    # --- the process that this is ---

    def _here(self) -> Mail:
        mail = self._mail
        if mail is not None and mail.usable:
            return mail
        with _starting:
            if self._mail is None or not self._mail.usable:
                self._mail = self._started(self._mail)
            return self._mail

    def _started(self, before: Mail | None) -> Mail:
        """By a bus that is there. What is in the boxes stays there when the bus has ended; not in a forked child."""
        bus = self._given if isinstance(self._given, Bus) else self._opened(before)
        try:
            mail = self._mail_by(bus, before if before is not None and before.mine else None)
        except BaseException:
            if bus is not self._given:
                bus.close()
            raise
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, _leave, mail, self._given is not bus)
        self._finalizer.atexit = False
        self._told = False
        return mail

    def _mail_by(self, bus: Bus, known: Mail | None) -> Mail:
        if known is not None:
            boxes, client = known.boxes, known.client
        else:
            boxes, client = Boxes(self.expiry, self.group_expiry, self._limits.get_capacity), secrets.token_hex(8)
        shared = Shared(bus, self.prefix, self.expiry, self._limits.get_capacity)
        mail = Mail(bus, self.prefix, boxes, shared, client)
        if known is not None and known.heard:
            mail.subscribe()  # its channels and groups miss nothing that is sent from now on
        return mail

    def _opened(self, before: Mail | None) -> Bus:
        """Whoever keeps a bus that was shut down keeps all from making the next one, so it is left at once."""
        assert isinstance(self._given, str)
        if before is not None and before.mine:
            _leave(before, True)
        elif before is not None and before.bus.usable:  # of the parent, which a forked child may use
            if not before.bus.closed:
                return before.bus
            before.bus.close()
        bus = eventbus.open(self._given, **self._options)
        if bus.closed:
            bus.close()
            raise ClosedError(
                f"the bus {self._given!r} was shut down, and another process has it open still: wait until that has"
                " closed it, end it, or remove the name with eventbus.unlink()"
            )
        return bus


def _leave(mail: Mail, own: bool) -> None:
    mail.close()
    if own and mail.mine:
        mail.bus.close()
