"""Link: one connection to the servers, as long as it lasts. Whoever has it drops it, and opens another.

The client's own reconnection sends what it had buffered once more, which breaks order, so it is switched off. Three
things are done past its public face, and only here: a whole batch is written at once; what arrives goes straight to
whoever listens, as bytes; and what is dropped is dropped with all that it still had to write, also where the server
stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamManager
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from eventbus.bridge.config import NatsConfig
from eventbus.errors import UnavailableError

OLDEST: Final = (2, 9, 10)
SAFE: Final = (2, 12, 7)
"""Below this version the servers lack security fixes."""

DROP_SECONDS: Final = 0.5
"""For the client to see that its connection is gone; after a handshake that failed, it waits for what never comes."""

VERSION: Final = len("NATS/1.0")  # with which all headers begin

_Answer = TypeVar("_Answer")


class Arrived(NamedTuple):
    """A message as it came, or what a server says of itself, with a status and no reply."""

    subject: str
    reply: str
    headers: bytes
    payload: bytes


Listener = Callable[[Arrived], None]


class LinkError(UnavailableError):
    """The servers are not there, refuse, or say nothing. The message is a cause without a full stop."""


class Link:
    """One connection."""

    def __init__(self, config: NatsConfig, name: str, seconds: float, inbox_prefix: str) -> None:
        """Args: name: as the server shows it to people. seconds: how long an answer may take. inbox_prefix: what all
        subjects begin with that are made for answers."""
        self._config = config
        self._name = name
        self._seconds = seconds
        self._inbox_prefix = inbox_prefix
        self._client = _Client()
        self._begun = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cause = "the connection was closed"
        self._answers: dict[str, asyncio.Future[Arrived]] = {}
        self._inbox = ""
        self._asked = 0
        self.manager = JetStreamManager(self._client, timeout=seconds)

    # --- its life ---

    async def open(self) -> None:
        """Connects to the first server that takes it.

        Raises:
            LinkError: none does, or it is too old.
        """
        servers = random.sample(self._config.servers, len(self._config.servers))
        try:
            options = self._options()
            self._begun = True
            await self._client.connect(servers, **options)
        except (nats.errors.Error, OSError, asyncio.TimeoutError, ValueError) as error:
            raise LinkError(f"no server at {', '.join(servers)}: {self._said(error)}") from error
        if self.version < OLDEST:
            version, oldest = (".".join(map(str, one)) for one in (self.version, OLDEST))
            raise LinkError(f"the server is {version}: the bridge needs {oldest} or newer")
        self._inbox = self._client.new_inbox()
        await self.listen(f"{self._inbox}.*", self._answered)

    async def drop(self) -> None:
        """Ends it at once, with what it had still to write."""
        self._end("the connection was dropped")
        if not self._begun:
            return
        self._client._pending.clear()
        self._client._pending_data_size = 0
        writer = getattr(self._client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.close(), DROP_SECONDS)

    @property
    def version(self) -> tuple[int, int, int]:
        """The server's."""
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have, its headers included."""
        return self._client.max_payload

    def fits(self, headers: Mapping[str, str], payload: bytes) -> bool:
        """Whether the server takes a message of this size."""
        return len(_lines(headers)) + len(payload) <= self.max_payload

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done once the connection is gone."""
        return self._ended

    def check(self) -> None:
        """Raises LinkError once the connection is gone."""
        if self._ended.done() or self._client.is_closed:
            raise LinkError(self._cause)

    # --- what it carries ---

    async def write(self, blocks: Iterable[bytes]) -> None:
        """Writes what ``block`` made of messages, one behind the other."""
        self.check()
        await self._client._send_command(b"".join(blocks))
        await self._client._flush_pending()

    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Writes one message, without waiting for anything."""
        await self.write([block(subject, payload, headers or {}, reply)])

    def expect(self) -> tuple[str, asyncio.Future[Arrived]]:
        """An address for one answer, and what will have it."""
        self._asked += 1
        reply = f"{self._inbox}.{self._asked}"
        answer: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()
        self._answers[reply] = answer
        answer.add_done_callback(lambda _: self._answers.pop(reply, None))
        return reply, answer

    async def answered(self, answer: asyncio.Future[Arrived]) -> dict[str, Any]:
        """The answer as a JSON object.

        Raises:
            LinkError: none came in time, the connection is gone, nobody is there to answer, or the server refuses.
        """
        return _object(await self.arrived(answer))

    async def arrived(self, answer: asyncio.Future[Arrived]) -> Arrived:
        """The answer as it is.

        Raises:
            LinkError: none came in time, or the connection is gone.
        """
        await asyncio.wait((answer, self._ended), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            self.check()
            raise LinkError(f"the server did not answer within {self._seconds:g} s")
        return answer.result()

    async def call(self, asked: Awaitable[_Answer]) -> _Answer:
        """What a call of the manager gives.

        Raises:
            NotFoundError: there is no such thing.
            LinkError: as ``answered``.
        """
        answer = asyncio.ensure_future(asked)
        try:
            await asyncio.wait((answer, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.check()
            return await answer
        except NotFoundError:
            raise
        except (nats.errors.Error, OSError, asyncio.TimeoutError, ValueError) as error:
            self.check()
            raise LinkError(self._said(error)) from error
        finally:
            answer.cancel()

    async def listen(self, subject: str, listener: Listener, queue: str = "") -> Subscription:
        """From now on the listener is called with what comes to the subject, which may have wildcards; of all who name
        the same ``queue``, one is."""
        return await self.call(self._client.listen(subject, listener, queue))

    def inbox(self) -> str:
        """A subject of this connection's alone."""
        return self._client.new_inbox()

    # --- what the client tells ---

    def _answered(self, message: Arrived) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _failed(self, error: Exception) -> None:
        self._cause = said(error)
        if "permissions violation" in self._cause:  # the connection goes on, and nobody would answer
            self._end(self._cause)

    async def _closed(self) -> None:
        self._end(self._cause)

    def _end(self, cause: str) -> None:
        if not self._ended.done():
            self._cause = cause
            self._ended.set_result(None)

    def _said(self, error: Exception) -> str:
        """What the server said, where the client's own error says less."""
        vague = isinstance(error, (nats.errors.NoServersError, nats.errors.ConnectionClosedError))
        return self._cause if vague else said(error)

    def _options(self) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "name": self._name,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,  # of a first connection too: 0 would be for ever
            "reconnect_time_wait": 0,
            "pending_size": 0,  # a write never waits, which could not be cancelled: whoever writes waits for an answer
            "connect_timeout": self._seconds,
            "inbox_prefix": self._inbox_prefix,
            "error_cb": self._failed,
            "disconnected_cb": self._closed,
            "closed_cb": self._closed,
            "tls": _tls(config),
        }
        if config.creds:
            options["user_credentials"] = config.creds
        if config.nkey_seed:
            options["nkeys_seed"] = config.nkey_seed
        if config.user:
            options |= {"user": config.user, "password": Path(config.password_file).read_text().rstrip("\n")}
        return options


class _Client(Client):
    """The client, with listeners that are called as a message is read: no task and no queue stand in between."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[int, Listener] = {}

    def _connect_command(self) -> bytes:
        """Who it is, which is said in clear only where nobody asked for TLS."""
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise nats.errors.Error("it speaks in clear, and its address or a file asks for TLS")
        return super()._connect_command()

    async def listen(self, subject: str, listener: Listener, queue: str) -> Subscription:
        """Subscribes for one."""
        self._listeners[self._sid + 1] = listener  # which it gets before anything is awaited
        return await self.subscribe(subject, queue)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        listener = self._listeners.get(sid)
        if listener is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            listener(Arrived(subject.decode(), reply.decode(), headers or b"", data))


@contextlib.asynccontextmanager
async def linked(config: NatsConfig, name: str, seconds: float, inbox_prefix: str) -> AsyncIterator[Link]:
    """A connection for as long as what stands within goes well; the arguments are those of a ``Link``.

    Raises:
        LinkError: none can be had.
    """
    link = Link(config, name, seconds, inbox_prefix)
    try:
        await link.open()
        yield link
    finally:
        await link.drop()


def block(subject: str, payload: bytes, headers: Mapping[str, str], reply: str = "") -> bytes:
    """One message as it is written. Names and values of headers are printable ASCII: nobody looks here."""
    lines = _lines(headers)
    head = f"HPUB {subject} {reply} {len(lines)} {len(lines) + len(payload)}\r\n{lines}"
    return b"%b%b\r\n" % (head.encode(), payload)


def _lines(headers: Mapping[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n"


def _tls(config: NatsConfig) -> ssl.SSLContext | None:
    if not (config.ca or config.cert or any(url.startswith("tls:") for url in config.servers)):
        return None
    context = ssl.create_default_context(cafile=config.ca or None)
    if config.cert:
        context.load_cert_chain(config.cert, config.key)
    return context


def fields(headers: bytes) -> dict[str, str]:
    """The headers of what arrived; a status is ``Status`` among them, and what is said with it ``Description``."""
    first, *lines = headers.decode(errors="replace").split("\r\n")
    found = {name: value for name, _, value in [line.partition(": ") for line in lines if line]}
    if len(first) > VERSION:
        found["Status"], _, found["Description"] = first[VERSION:].strip().partition(" ")
    return found


def _object(message: Arrived) -> dict[str, Any]:
    if message.headers and fields(message.headers).get("Status") == "503":
        raise LinkError("no stream of the servers takes it: JetStream is not there, or the stream is gone")
    try:
        found = json.loads(message.payload)
    except ValueError as error:
        raise LinkError(f"the server's answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise LinkError(f"the server's answer is {found!r}")
    if "error" in found:
        raise LinkError(str(found["error"].get("description", found["error"])), code=found["error"].get("err_code"))
    return found


def said(error: Exception) -> str:
    """What an error says, as a cause without a full stop."""
    if isinstance(error, LinkError):
        return error.message
    if isinstance(error, APIError) and error.description:
        return str(error.description)
    if isinstance(error, ServiceUnavailableError):
        return "JetStream is not there: switch it on in the server's configuration"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__
