"""The registry of peers: each module of this package adds one or two; what is not installed is listed as absent."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peer import Medium, Peer, Topology, serves_all

_MODULES = {
    "eventbus": "bus",
    "zmq PUB/SUB": "pubsub",
    "zmq PUB/SUB, 1 frame": "pubsub:connect_one_frame",
    "zmq PUSH/PULL": "pushpull",
    "SEQPACKET": "seqpacket",
    "mp.Queue": "queues",
    "faster-fifo": "fifo",
    "iceoryx2": "iceoryx",
    "redis pub/sub": "redis_pubsub",
    "redis streams": "redis_streams",
}
"""Name of the peer: the module of this package that imports what it needs. It has ``connect``, or what a colon names,
and ``refuses`` if there are topologies that it cannot serve."""

_SHARING = ("eventbus", "zmq PUSH/PULL", "mp.Queue", "faster-fifo", "redis streams")
"""Peers whose module also has ``share``: a medium that hands each event to one of its subscribers."""


_LARGE = {
    "eventbus, view": "bus:connect_views",
    "eventbus": "bus:connect_large",
    "eventbus, member, view": "bus:connect_member_views",
    "eventbus, member": "bus:connect_member",
    "iceoryx2, loans": "iceoryx:connect_loans",
    "shared_memory by hand": "by_hand",
    "SEQPACKET": "seqpacket",
    "unix stream": "stream",
}
"""Those for large raw data, which some look at where they lie."""


def large() -> list[Peer]:
    """Return every peer for large raw data."""
    return [peer_of(name, module) for name, module in _LARGE.items()]


def peers() -> list[Peer]:
    """Return every known peer, the absent ones with the reason."""
    return [peer_of(name, module) for name, module in _MODULES.items()]


def sharing() -> list[Peer]:
    """Return every peer that can share events out among workers; their subscribers are those workers."""
    return [peer_of(name, f"{_MODULES[name]}:share") for name in _SHARING]


def peer_of(name: str, module: str, package: str = __name__) -> Peer:
    """Return the peer, maybe absent, of a module of ``package``, which a colon and what connects it may follow."""
    module, _, connect = module.partition(":")
    try:
        found = import_module(f"{package}.{module}")
    except ImportError as error:
        return Peer(name, str(error), _absent)
    return Peer(name, None, getattr(found, connect or "connect"), getattr(found, "refuses", serves_all))


def no_redis() -> str | None:
    """Return why nothing can be measured over a redis-server here, or ``None``."""
    try:
        import_module("benchmarks.peers.redis_server")
    except ImportError as error:
        return str(error)
    return None


def _absent(_topology: Topology) -> Medium:
    raise LookupError("this peer is absent: install the extra 'bench'")
