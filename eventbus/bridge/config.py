"""Configuration: what a bridge is to do, from a TOML file or from options; whatever is unknown is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from eventbus import patterns, settings
from eventbus.bridge import subjects
from eventbus.core.terms import check_name
from eventbus.errors import InvalidError

DOMAIN: Final = "main"
WINDOW: Final = 256
ACK_TIMEOUT: Final = 5.0
ACK_WAIT: Final = 30.0
MAX_AGE: Final = 7 * 86_400.0
OWN: Final = "eventbus.**"
"""What never travels, but the dead letters where they are named."""

FILES: Final = ("creds", "nkey_seed", "password_file", "ca", "cert", "key")
"""Keys of [nats] that name files."""

_SCHEMES: Final = ("nats", "tls")
_KEYS: Final = ("bus", "capacity", "persist", "domain", "origin", "when_full", "window", "ack_timeout", "relay")
_TABLES: Final = ("nats", "stream", "export", "import", "queue", "ask")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class NatsConfig:
    """The servers, and the files of who this host is to them; "" where there is none."""

    servers: tuple[str, ...]
    creds: str = ""
    nkey_seed: str = ""
    user: str = ""
    password_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The stream that this origin exports to: seconds and bytes until the oldest goes, 0 for never; copies of it."""

    max_age: float = MAX_AGE
    max_bytes: int = 0
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Systems that go out."""

    systems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """Systems that come in.

    Attributes:
        origins: from which; empty for all.
        start: where to begin with an origin that nothing came from yet, "latest" or "oldest".
    """

    systems: tuple[str, ...]
    origins: tuple[str, ...] = ()
    start: str = "latest"


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Work for one host's group only.

    Attributes:
        systems: whose events go into the queue.
        serve: the group of this bus whose members take from it; "" where this host only puts in.
        ack_wait: seconds for which a host may be silent about what it took before another one gets it; the first bridge
            that comes makes it so for all.
    """

    name: str
    systems: tuple[str, ...]
    serve: str = ""
    ack_wait: float = ACK_WAIT


@dataclass(frozen=True, slots=True)
class AskConfig:
    """Systems whose requests may be answered on another host.

    Attributes:
        serve: whether programs of this host answer them; then those that are made here stay here.
    """

    systems: tuple[str, ...]
    serve: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """All of it.

    Attributes:
        capacity: bytes of the ring, where the bridge makes the bus; None for as many as it has, or the default.
        persist: whether the bus stays, with what is to go out, when nobody has it open.
        when_full: "block" holds publishers up when the ring is full of what is to go out, "drop" counts it as lost.
        window: events that are published before an acknowledgement is asked for.
        ack_timeout: seconds that it is waited for.
        relay: whether what came in goes out again, for clusters that are joined on purpose.
    """

    bus: str
    nats: NatsConfig
    origin: str
    domain: str = DOMAIN
    capacity: int | None = None
    persist: bool = False
    when_full: str = "block"
    window: int = WINDOW
    ack_timeout: float = ACK_TIMEOUT
    relay: bool = False
    stream: StreamConfig = StreamConfig()
    exports: tuple[ExportConfig, ...] = ()
    imports: tuple[ImportConfig, ...] = ()
    queues: tuple[QueueConfig, ...] = ()
    asks: tuple[AskConfig, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The patterns of all that goes out, each once."""
        return tuple(dict.fromkeys(system for export in self.exports for system in export.systems))


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration of a file.

    Raises:
        OSError: the file cannot be read.
        InvalidError: it is not TOML, says something unknown, or names a file that cannot be read.
    """
    return from_dict(settings.load(path), os.fspath(path))


def from_options(
    bus: str,
    *,
    servers: Sequence[str] | None = None,
    exports: Sequence[str] | None = None,
    imports: Sequence[str] | None = None,
    domain: str | None = None,
    origin: str | None = None,
    **files: str | None,
) -> Config:
    """The configuration of a command line.

    Args:
        servers: URLs.
        exports, imports: systems.
        files: keys of ``[nats]``; None as if left out.

    Raises:
        InvalidError: as ``load``.
    """
    nats = {key: value for key, value in files.items() if value is not None}
    table: dict[str, Any] = {"bus": bus, "nats": {"servers": list(servers or ()), **nats}}
    table |= {key: value for key, value in (("domain", domain), ("origin", origin)) if value is not None}
    table |= {key: [{"systems": list(of)}] for key, of in (("export", exports), ("import", imports)) if of}
    return from_dict(table, "the command line")


def from_dict(table: Mapping[str, Any], source: str) -> Config:
    """The configuration that a file parses to.

    Args:
        source: how messages call it.

    Raises:
        InvalidError: it says something unknown; the message names the table, the key and what is accepted.
    """
    settings.check_keys(table, (*_KEYS, *_TABLES), source)
    read = _Reader(table, source)
    bus = check_name(read.required("bus", str))
    config = Config(
        bus=bus,
        nats=_nats(_Reader(read.required("nats", dict), f"{source}, [nats]")),
        domain=subjects.checked(read.get("domain", DOMAIN, str), f"{source}: 'domain'"),
        origin=subjects.checked(
            read.get("origin", subjects.fitted(f"{os.uname().nodename}-{bus}"), str), f"{source}: 'origin'"
        ),
        capacity=read.bytes("capacity") or None,
        persist=read.get("persist", False, bool),
        when_full=settings.one_of(table.get("when_full", "block"), ("block", "drop"), f"{source}: 'when_full'"),
        window=read.whole("window", WINDOW, 1, WINDOW),
        ack_timeout=read.seconds("ack_timeout", ACK_TIMEOUT, 0.1),
        relay=read.get("relay", False, bool),
        stream=_stream(_Reader(read.get("stream", {}, dict), f"{source}, [stream]")),
        exports=read.each("export", _export),
        imports=read.each("import", _import),
        queues=read.each("queue", _queue),
        asks=read.each("ask", _ask),
    )
    if not (config.exports or config.imports or config.queues or config.asks):
        raise InvalidError(f"{source}: nothing would travel: name systems to export or to import")
    return config


class _Reader:
    """One table, and how messages call it."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self._table = table
        self.where = where

    def known(self, *keys: str) -> None:
        """Raises InvalidError when there is another key."""
        settings.check_keys(self._table, keys, self.where)

    def get(self, key: str, default: _Value, kind: type[_Value]) -> _Value:
        """A value of the type, or the default where there is none."""
        value = self._table.get(key, default)
        if type(value) is not kind:
            raise InvalidError(f"{self.where}: {key!r} must be {_NAMES[kind]}, not {value!r}")
        return value

    def required(self, key: str, kind: type[_Value]) -> _Value:
        """A value of the type."""
        if key not in self._table:
            raise InvalidError(f"{self.where}: {key!r} is missing: write it, it is {_NAMES[kind]}")
        value: _Value = self.get(key, self._table[key], kind)
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.get(key, default, int)
        if not least <= value <= most:
            raise InvalidError(f"{self.where}: {key!r} must be {least} to {most}, not {value}")
        return value

    def seconds(self, key: str, default: float, least: float) -> float:
        """A number of seconds, or a text such as ``36h``."""
        value = self._table.get(key, default)
        try:
            found = settings.seconds(value) if isinstance(value, str) else value
        except InvalidError as error:
            raise InvalidError(f"{self.where}: {key!r}: {error.message}") from error
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not least <= found < _LONGEST:
            raise InvalidError(f"{self.where}: {key!r} must be at least {least:g} seconds, not {value!r}")
        return float(found)

    def bytes(self, key: str) -> int:
        """A number of bytes, or a text such as ``10G``; 0 where there is none."""
        value = self._table.get(key, 0)
        try:
            found = settings.size(value) if isinstance(value, str) else value
        except InvalidError as error:
            raise InvalidError(f"{self.where}: {key!r}: {error.message}") from error
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 1 << 63:
            raise InvalidError(f"{self.where}: {key!r} must be a number of bytes, not {value!r}")
        return found

    def file(self, key: str) -> str:
        """The path of a file that can be read; "" where there is none."""
        path = self.get(key, "", str)
        if key in self._table and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise InvalidError(f"{self.where}: {key!r} names {path!r}, which is no file that can be read", path=path)
        return path

    def systems(self) -> tuple[str, ...]:
        """Patterns, at least one."""
        if "systems" not in self._table:
            raise InvalidError(f"{self.where}: 'systems' is missing: write a list of patterns")
        found = settings.strings(self._table["systems"], f"{self.where}: 'systems'")
        for text in found:
            patterns.compile(text, f"{self.where}: 'systems': pattern")
        return found

    def terms(self, key: str) -> tuple[str, ...]:
        """Origins; none where there is no such key."""
        found = settings.strings(self._table[key], f"{self.where}: {key!r}") if key in self._table else ()
        return tuple(subjects.checked(one, f"{self.where}: each of {key!r}") for one in found)

    def one_of(self, key: str, default: str, *known: str) -> str:
        """One of the texts that are known."""
        return settings.one_of(self._table.get(key, default), known, f"{self.where}: {key!r}")

    def each(self, key: str, make: Callable[[_Reader], _Value]) -> tuple[_Value, ...]:
        """What is made of each table of a key that may be written several times."""
        found = settings.tables(self._table.get(key, []), key, self.where)
        return tuple(make(_Reader(one, f"{self.where}, {key} {number}")) for number, one in enumerate(found, 1))


_NAMES: Final[Mapping[type, str]] = {
    str: "a text",
    dict: "a table",
    list: "a list",
    int: "a whole number",
    bool: "true or false",
}
_LONGEST: Final = 100 * 366 * 86_400.0


def _nats(read: _Reader) -> NatsConfig:
    read.known("servers", "user", *FILES)
    servers = tuple(_server(one, read.where) for one in read.required("servers", list))
    if not servers:
        raise InvalidError(f"{read.where}: 'servers' must have at least one, such as 'nats://127.0.0.1:4222'")
    found = {key: read.file(key) for key in FILES}
    config = NatsConfig(servers, user=read.get("user", "", str), **found)
    if bool(config.user) != bool(config.password_file):
        raise InvalidError(f"{read.where}: 'user' and 'password_file' need each other: write both or neither")
    if bool(config.cert) != bool(config.key):
        raise InvalidError(f"{read.where}: 'cert' and 'key' need each other: write both or neither")
    if sum(map(bool, (config.creds, config.nkey_seed, config.user))) > 1:
        raise InvalidError(f"{read.where}: write one of 'creds', 'nkey_seed' and 'user', not several")
    return config


def _server(url: object, where: str) -> str:
    text = url if isinstance(url, str) else ""
    if "@" in text:
        raise InvalidError(f"{where}: a server has no name or password in it: name files, 'creds' or 'password_file'")
    try:
        parts = urlsplit(text)
        good = parts.hostname and parts.port != 0 and f"{parts.scheme}://{parts.netloc}" == text
    except ValueError:  # of a port that is none, or of brackets
        good = False
    if not good or parts.scheme not in _SCHEMES:
        raise InvalidError(f"{where}: each of 'servers' must be such as 'nats://127.0.0.1:4222', not {url!r}")
    return text


def _stream(read: _Reader) -> StreamConfig:
    read.known("max_age", "max_bytes", "replicas")
    return StreamConfig(read.seconds("max_age", MAX_AGE, 0), read.bytes("max_bytes"), read.whole("replicas", 1, 1, 5))


def _export(read: _Reader) -> ExportConfig:
    read.known("systems")
    return ExportConfig(read.systems())


def _import(read: _Reader) -> ImportConfig:
    read.known("systems", "from", "start")
    return ImportConfig(read.systems(), read.terms("from"), read.one_of("start", "latest", "latest", "oldest"))


def _queue(read: _Reader) -> QueueConfig:
    read.known("name", "systems", "serve", "ack_wait")
    name = subjects.checked(read.required("name", str), f"{read.where}: 'name'")
    serve = read.get("serve", "", str)
    return QueueConfig(name, read.systems(), serve, read.seconds("ack_wait", ACK_WAIT, 1.0))


def _ask(read: _Reader) -> AskConfig:
    read.known("systems", "serve")
    return AskConfig(read.systems(), read.get("serve", False, bool))
