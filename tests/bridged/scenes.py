"""Scenes: what may happen to servers, streams, networks and rings while bridges are at work."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from nats import connect

from bridged.stage import ACK_TIMEOUT, BATCH, Host, Stage, exporter, importer
from nats_proxy import Proxy

STREAM = "EB-main-h1"
PAIR = ("h2", "h1")
SMALL = 1 << 16


@dataclass(frozen=True)
class Scene:
    """One of them.

    Attributes:
        play: plays it; raises what is not as it should be.
        says: what becomes of the events, for the page.
    """

    play: Callable[[Stage], None]
    says: str


def _begun(stage: Stage, one: Host, other: Host, count: int = 4 * BATCH) -> None:
    """Both bridges run, and so many events have arrived."""
    for host in (one, other):
        if not host.running:
            host.start(stage.server.url)
    stage.ready(one, other)
    stage.send(one, count)
    stage.arrived(PAIR)


def _ended(stage: Stage, one: Host, count: int = 4 * BATCH) -> None:
    """So many events more arrive, and all is well."""
    stage.send(one, count)
    stage.arrived(PAIR)
    stage.judge(PAIR)


# --- servers and streams ---


def restored(stage: Stage) -> None:
    """The server is set back to an older store: the ring still has what it forgot."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    stage.server.save(stage.directory / "saved")
    stage.send(one, 4 * BATCH)
    stage.arrived(PAIR)
    stage.server.restore(stage.directory / "saved")
    _ended(stage, one)


def restored_unheard(stage: Stage) -> None:
    """The same, and nobody had imported yet what it forgot."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    stage.server.save(stage.directory / "saved")
    other.end()
    stage.until(lambda: one.up, "the exporter to be back")
    stage.send(one, 4 * BATCH)
    stage.until(lambda: _messages(stage) == stage.ledger.sent["h1"], "all events in the stream")
    stage.server.restore(stage.directory / "saved")
    other.start(stage.server.url)
    _ended(stage, one)


def restored_and_killed(stage: Stage) -> None:
    """The server is set back, and the exporter is killed while it sends again what was forgotten."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    stage.server.save(stage.directory / "saved")
    stage.send(one, 8 * BATCH)
    stage.arrived(PAIR)
    one.end()
    other.end()
    stage.server.restore(stage.directory / "saved")
    one.start(stage.server.url, {"moment": "written", "passes": 3, "number": signal.SIGKILL, "pid": 0})
    stage.until(lambda: not one.running, "the exporter to be killed")
    one.end()
    for host in (one, other):
        host.start(stage.server.url)
    _ended(stage, one)


def deleted(stage: Stage) -> None:
    """Somebody deletes the stream."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    asyncio.run(_delete(stage.server.url))
    _ended(stage, one)


def deleted_unheard(stage: Stage) -> None:
    """The same while the importer is down: the ring still has what it had not taken."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    other.end()
    stage.send(one, 4 * BATCH)
    stage.until(lambda: _messages(stage) == stage.ledger.sent["h1"], "all events in the stream")
    asyncio.run(_delete(stage.server.url))
    stage.send(one, 4 * BATCH)
    other.start(stage.server.url)
    _ended(stage, one)


def consumer_deleted(stage: Stage) -> None:
    """Somebody deletes the importer's consumer while events flow."""
    one, other = exporter(stage), importer(stage)
    _begun(stage, one, other)
    for _ in range(3):
        stage.send(one, BATCH)
        asyncio.run(_delete_consumers(stage.server.url))
        stage.send(one, BATCH)
        stage.arrived(PAIR)
    _ended(stage, one)


def consumer_deleted_and_killed(stage: Stage) -> None:
    """The same, and the importer is killed between the old consumer and the new one."""
    one, other = exporter(stage), importer(stage)
    other.start(stage.server.url, {"moment": "origin found", "passes": 2, "number": signal.SIGKILL, "pid": 0})
    _begun(stage, one, other)
    stage.send(one, BATCH)
    asyncio.run(_delete_consumers(stage.server.url))
    stage.send(one, BATCH)
    stage.until(lambda: not other.running, "the importer to be killed")
    other.end()
    other.start(stage.server.url)
    _ended(stage, one)


def overflown(stage: Stage) -> None:
    """The stream may have so many bytes and no more, and the importer is down while they pass."""
    one, other = exporter(stage, "[stream]\nmax_bytes = 65536\n"), importer(stage)
    _begun(stage, one, other)
    other.end()
    stage.send(one, 16 * BATCH)
    stage.until(lambda: _last(stage) == stage.ledger.sent["h1"], "all events through the stream")
    other.start(stage.server.url)
    _ended(stage, one)
    stage.until(lambda: stage.ledger.told["h2"], "the gap to be told")
    missing = len(stage.ledger.heard[PAIR].missing)
    assert stage.ledger.told["h2"] == missing > 0, f"{missing} are missing, {stage.ledger.told['h2']} were told"


def no_space(stage: Stage) -> None:
    """The server has no room for more, until its operator gives it some."""
    one, other = exporter(stage), importer(stage)
    stage.server.kill()
    stage.server.configure("", "max_file_store: 128K\n")
    stage.server.start()
    _begun(stage, one, other, BATCH)
    stage.send(one, 16 * BATCH)
    stage.until(lambda: not one.up, "the exporter to say that the server refuses")
    stage.server.kill()
    stage.server.configure("")
    stage.server.start()
    _ended(stage, one)


def revoked(stage: Stage) -> None:
    """Who the bridges are is no longer let in, until it is again."""
    one, other = exporter(stage), importer(stage)
    password = stage.directory / "password"
    password.write_text("secret\n")
    users = "authorization {{ users: [{{ user: {user}, password: secret }}] }}\n"
    stage.server.reconfigure(users.format(user="bridge"))
    for host in (one, other):
        host.login = f'user = "bridge"\npassword_file = "{password}"\n'
    _begun(stage, one, other)
    stage.server.reconfigure(users.format(user="somebody"))
    stage.send(one, 4 * BATCH)
    stage.until(lambda: not one.up and not other.up, "both to say that they are not let in")
    stage.server.reconfigure(users.format(user="bridge"))
    _ended(stage, one)


# --- networks ---


def held_back(stage: Stage) -> None:
    """What an exporter wrote comes to the server when the same events have long been there by another connection."""
    one, other = exporter(stage), importer(stage)
    with closing(Proxy(stage.server.port)) as proxy:
        one.start(proxy.url)
        _begun(stage, one, other)
        proxy.hold()
        stage.send(one, 2 * BATCH)
        stage.arrived(PAIR)  # by a new connection
        proxy.go()
        _ended(stage, one)
        assert _messages(stage) == stage.ledger.sent["h1"], "something came to the stream twice"


def held_back_from_the_dead(stage: Stage) -> None:
    """The same, and the exporter that wrote it was killed meanwhile."""
    one, other = exporter(stage), importer(stage)
    with closing(Proxy(stage.server.port)) as proxy:
        one.start(proxy.url)
        _begun(stage, one, other)
        proxy.hold()
        stage.send(one, BATCH // 2)
        stage.pause(ACK_TIMEOUT / 4)
        one.end()
        one.start(stage.server.url)
        _ended(stage, one)
        proxy.go()
        _ended(stage, one)
        assert _messages(stage) == stage.ledger.sent["h1"], "something came to the stream twice"


def held_on_the_way_in(stage: Stage) -> None:
    """What the server sent to an importer comes when the same events have long been there by another connection."""
    one, other = exporter(stage), importer(stage)
    with closing(Proxy(stage.server.port)) as proxy:
        other.start(proxy.url)
        _begun(stage, one, other)
        proxy.hold()
        stage.send(one, 2 * BATCH)
        stage.arrived(PAIR)
        proxy.go()
        _ended(stage, one)


def cut(stage: Stage) -> None:
    """The connections of both end again and again, with all that is under way."""
    one, other = exporter(stage), importer(stage)
    with closing(Proxy(stage.server.port)) as proxy:
        for host in (one, other):
            host.start(proxy.url)
        _begun(stage, one, other)
        for _ in range(4):
            stage.send(one, 2 * BATCH)
            proxy.cut()
        _ended(stage, one)


# --- rings ---


def importing_ring_lapped(stage: Stage) -> None:
    """The importer is killed, and what others send on its bus goes round the ring before it is back."""
    one, other = exporter(stage), importer(stage, SMALL)
    _begun(stage, one, other)
    other.end()
    stage.send(one, BATCH)
    before = other.bus.stats().committed
    while other.bus.stats().committed < before + 3 * SMALL:
        other.bus.send("elsewhere", "made", "/", "x" * 1000)
        stage.pump()
    other.start(stage.server.url)
    _ended(stage, one)


def importing_ring_full(stage: Stage) -> None:
    """Nobody takes anything from the importer's bus, until somebody does."""
    one, other = exporter(stage), importer(stage, SMALL)
    _begun(stage, one, other)
    other.deaf = True
    stage.send(one, 16 * BATCH)
    stage.until(lambda: not other.up, "the importer to say that the ring is full")
    other.deaf = False
    _ended(stage, one)


def importing_ring_full_killed(stage: Stage) -> None:
    """The same, and the importer is killed while it waits for room."""
    one, other = exporter(stage), importer(stage, SMALL)
    _begun(stage, one, other)
    other.deaf = True
    stage.send(one, 16 * BATCH)
    stage.until(lambda: not other.up, "the importer to say that the ring is full")
    other.end()
    other.deaf = False
    other.start(stage.server.url)
    _ended(stage, one)


def exporting_ring_full(stage: Stage) -> None:
    """The server is away for longer than the ring lasts: publishers wait, and nothing is lost."""
    one, other = exporter(stage, capacity=SMALL), importer(stage)
    _begun(stage, one, other)
    stage.server.kill()
    while stage.sent(one):
        pass
    stage.server.start()
    _ended(stage, one)


def exporting_ring_lapped(stage: Stage) -> None:
    """With ``when_full = "drop"`` the exporter stands still for longer than the ring lasts: what went is told."""
    one, other = exporter(stage, 'when_full = "drop"\n', SMALL), importer(stage)
    _begun(stage, one, other)
    one.strike(signal.SIGSTOP)
    stage.until(lambda: one.still, "the exporter to stand still")
    stage.send(one, 16 * BATCH)
    one.strike(signal.SIGCONT)
    _ended(stage, one)
    stage.until(lambda: stage.ledger.told["h1"], "the loss to be told")
    missing = len(stage.ledger.heard[PAIR].missing)
    assert stage.ledger.told["h1"] == missing > 0, f"{missing} are missing, {stage.ledger.told['h1']} were told"


# --- what they ask the server ---


def _messages(stage: Stage) -> int:
    return asyncio.run(_state(stage.server.url))[0]


def _last(stage: Stage) -> int:
    return asyncio.run(_state(stage.server.url))[1]


async def _state(url: str) -> tuple[int, int]:
    """How many messages the stream has, and the number of its last."""
    client = await connect(url)
    try:
        info = await client.jetstream().stream_info(STREAM)
        return info.state.messages, info.state.last_seq
    finally:
        await client.close()


async def _delete(url: str) -> None:
    client = await connect(url)
    try:
        await client.jetstream().delete_stream(STREAM)
    finally:
        await client.close()


async def _delete_consumers(url: str) -> None:
    client = await connect(url)
    try:
        stream = client.jetstream()
        for consumer in await stream.consumers_info(STREAM):
            await stream.delete_consumer(STREAM, consumer.name)
    finally:
        await client.close()


NONE_LOST = "all arrive once, in order"
TOLD = "what is gone is told, exactly; all else arrives once, in order"

SCENES = {
    scene.__name__.replace("_", " "): Scene(scene, says)
    for says, scenes in {
        NONE_LOST: (
            *(restored, restored_unheard, restored_and_killed, deleted, deleted_unheard),
            *(consumer_deleted, consumer_deleted_and_killed, no_space, revoked),
            *(held_back, held_back_from_the_dead, held_on_the_way_in, cut),
            *(importing_ring_lapped, importing_ring_full, importing_ring_full_killed, exporting_ring_full),
        ),
        TOLD: (overflown, exporting_ring_lapped),
    }.items()
    for scene in scenes
}
