"""Streams: the one that this origin exports to, as it is configured, and those of the others."""

from __future__ import annotations

from nats.js.api import RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from eventbus.bridge import fence, subjects
from eventbus.bridge.config import Config
from eventbus.bridge.link import Link


async def keep_stream(link: Link, config: Config, owner: str, take_over: bool) -> StreamInfo:
    """The stream of this origin, made where there is none: then ``did_create`` says so.

    Raises:
        FencedError: it is somebody else's.
        LinkError: the servers refuse it.
    """
    wanted = _wanted(config, owner)
    assert wanted.name is not None
    try:
        found = await link.call(link.manager.stream_info(wanted.name))
    except NotFoundError:
        return await link.call(link.manager.add_stream(wanted))
    found.did_create = False
    if not take_over:
        fence.check_owner(wanted.name, found.config.description, owner)
    kept = {key: getattr(wanted, key) for key in ("description", "subjects", "max_age", "max_bytes", "num_replicas")}
    if any(getattr(found.config, key) != value for key, value in kept.items()):
        await link.call(link.manager.update_stream(found.config.evolve(**kept)))
    return found


def _wanted(config: Config, owner: str) -> StreamConfig:
    terms = config.stream
    return StreamConfig(
        name=subjects.stream_name(config.domain, config.origin),
        description=owner,
        subjects=[f"{subjects.prefix(config.domain, config.origin)}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=terms.max_age,
        max_bytes=terms.max_bytes or -1,
        num_replicas=terms.replicas,
    )


async def others(link: Link, config: Config) -> dict[str, StreamInfo]:
    """The streams of the other origins of the domain, by these."""
    found: dict[str, StreamInfo] = {}
    start, offset = subjects.stream_name(config.domain, ""), 0
    while some := await link.call(link.manager.streams_info(offset)):
        for info in some:
            name = info.config.name or ""
            if name.startswith(start) and name != subjects.stream_name(config.domain, config.origin):
                found[name.removeprefix(start)] = info
        offset += len(some)
    return found
