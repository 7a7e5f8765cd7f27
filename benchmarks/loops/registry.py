"""Who takes part in the benchmarks of event loops, and which goals call them the others."""

from __future__ import annotations

from benchmarks.peer import Peer
from benchmarks.peers import peer_of

BLOCKING = "eventbus, blocking"
PINGPONG = "eventbus, ping-pong"
NOBODY = "eventbus, nobody listens"
HALF = "eventbus, blocking server"
NATS = "nats-py"
OTHERS = ("zmq.asyncio", "asyncio streams", NATS, "redis.asyncio")

_OURS = {"eventbus": "bus", "eventbus, uvloop": "bus_uvloop"}
_STREAMS = {
    **_OURS,
    BLOCKING: "bus:connect_blocking",
    "zmq.asyncio": "zeromq",
    "asyncio streams": "streams",
    NATS: "nats_py",
    "redis.asyncio": "redis_py",
}
_REQUESTS = {
    **_OURS,
    BLOCKING: "bus:connect_blocking",
    HALF: "bus:connect_half",
    PINGPONG: "bus",
    "zmq.asyncio": "zeromq:connect_requests",
    "asyncio streams": "streams:connect_requests",
    NATS: "nats_py",
    "redis.asyncio": "redis_py",
}
_CROWDS = {**_OURS, NOBODY: "bus"}


def streaming() -> list[Peer]:
    """Return every peer that carries a stream of events; the absent ones with the reason."""
    return _peers(_STREAMS)


def asking() -> list[Peer]:
    """Return every peer that carries requests and answers; the absent ones with the reason."""
    return _peers(_REQUESTS)


def crowds() -> list[Peer]:
    """Return in whose loops many subscriptions of the bus wait, and beside them a bus without any."""
    return _peers(_CROWDS)


def _peers(modules: dict[str, str]) -> list[Peer]:
    return [peer_of(name, module, "benchmarks.loops") for name, module in modules.items()]
