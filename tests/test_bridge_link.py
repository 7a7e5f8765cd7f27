"""One connection: servers that are too old, silent, without JetStream, or not there; and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridges import INBOX, SECONDS, Bridge, configured, connected, exports
from eventbus import Bus
from eventbus.bridge.config import NatsConfig
from eventbus.bridge.link import Link, LinkError, linked
from harness import DEADLINE
from loops import run
from nats_server import NatsServer


@contextlib.asynccontextmanager
async def pretending(*lines: str) -> AsyncIterator[NatsConfig]:
    """A server that says these lines, and then nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("".join(lines).encode())
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield NatsConfig((f"nats://127.0.0.1:{port}",))


def info(version: str) -> str:
    """What a server says first."""
    return f"INFO {json.dumps({'version': version, 'max_payload': 1 << 20, 'headers': True})}\r\n"


async def refused(config: NatsConfig, seconds: float = SECONDS) -> str:
    """Why no connection comes about."""
    with pytest.raises(LinkError) as caught:
        async with linked(config, "test", seconds, INBOX):
            pass
    return caught.value.message


@pytest.mark.parametrize("version", ["2.9.9", "2.8.4", "1.4.1"])
def test_a_server_that_is_too_old(version: str) -> None:
    """It is refused with both versions."""

    async def scenario() -> None:
        async with pretending(info(version), "PONG\r\n") as config:
            assert await refused(config) == f"the server is {version}: the bridge needs 2.9.10 or newer"

    run(scenario())


@pytest.mark.parametrize("lines", [[], [info("2.10.0")], ["HTTP/1.1 400 Bad Request\r\n"], ["INFO {\r\n"]])
def test_a_server_that_is_none(lines: list[str]) -> None:
    """Whatever answers there, or nothing: a cause, in time."""

    async def scenario() -> None:
        async with pretending(*lines) as config:
            assert (await refused(config, 0.2)).startswith(f"no server at {config.servers[0]}: ")

    run(scenario())


def test_several_servers(nats: NatsServer) -> None:
    """One that is not there is passed over."""

    async def scenario() -> None:
        config = NatsConfig(("nats://127.0.0.1:1", nats.url, "nats://127.0.0.1:2"))
        for _ in range(5):
            async with linked(config, "test", DEADLINE, INBOX) as link:
                assert link.version >= (2, 9, 10)

    run(scenario())


def test_a_server_without_jetstream(bus: Bus, nats: NatsServer) -> None:
    """The bridge says what to do."""
    nats.end()
    conf = nats.store.parent / "nats.conf"
    conf.write_text(f'listen: "127.0.0.1:{nats.port}"\n')
    nats.start()

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.until(lambda: "JetStream is not there" in bridge.health.why, "the bridge to say so")
            assert bridge.health.state == "degraded"

    run(scenario())


def test_a_server_that_stands_still(nats: NatsServer) -> None:
    """No answer is an error in time, and what it would still have to take is dropped at once, however much that is."""

    async def scenario() -> None:
        async with connected(nats) as link:
            nats.stop()
            link._seconds = 0.3
            with pytest.raises(LinkError, match=r"within 0\.3 s"):
                await ask(link)
            await link.write([b"PUB x %d\r\n%b\r\n" % (1 << 20, bytes(1 << 20))] * 30)
            await link.drop()
            assert link.ended.done()
        nats.go_on()

    run(scenario())


async def ask(link: Link) -> Any:
    """A question to the server."""
    reply, answer = link.expect()
    await link.publish("$JS.API.INFO", b"", reply=reply)
    return await link.answered(answer)


def test_an_answer(nats: NatsServer) -> None:
    """It is a JSON object, or an error with what the server says of it; nobody there is said at once."""

    async def scenario() -> None:
        async with connected(nats) as link:
            assert (await ask(link))["streams"] == 0
            for subject, why in (("nobody", "no stream of the servers"), ("$JS.API.STREAM.INFO.x", "not found")):
                reply, answer = link.expect()
                await link.publish(subject, b"", reply=reply)
                with pytest.raises(LinkError, match=why):
                    await link.answered(answer)

    run(scenario())


def test_a_server_that_is_killed(nats: NatsServer) -> None:
    """Whoever waits for an answer is told, and so is whoever asks from then on."""

    async def scenario() -> None:
        async with connected(nats) as link:
            await link.listen("nobody.answers", lambda _: None)
            reply, answer = link.expect()
            await link.publish("nobody.answers", b"", reply=reply)
            waiting = asyncio.ensure_future(link.answered(answer))
            await ask(link)
            nats.kill()
            for asked in (waiting, ask(link)):
                with pytest.raises(LinkError):
                    await asked
            await asyncio.wait((link.ended,))

    run(scenario())
