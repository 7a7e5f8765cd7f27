"""The servers of the tests: as many as are here, each with its own files, set back at will, and never left behind."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats import connect

from nats_server import ABSENT, NatsServer, programs, version_of

TESTS = Path(__file__).resolve().parent


async def _publish(server: NatsServer, count: int) -> None:
    client = await connect(server.url, allow_reconnect=False)
    stream = client.jetstream()
    await stream.add_stream(name="s", subjects=["s.>"])
    for _ in range(count):
        await stream.publish("s.a", b"data")
    await client.close()


async def _held(server: NatsServer) -> int:
    client = await connect(server.url, allow_reconnect=False)
    info = await client.jetstream().stream_info("s")
    await client.close()
    return info.state.messages


def test_a_store_outlives_its_server_and_can_be_set_back(each_nats: NatsServer, tmp_path: Path) -> None:
    """Killed, ended and stopped, a server comes back on its port with what it had; restored, with what was saved."""
    asyncio.run(_publish(each_nats, 2))
    each_nats.save(tmp_path / "saved")
    asyncio.run(_publish(each_nats, 3))
    each_nats.restart()
    assert asyncio.run(_held(each_nats)) == 5
    each_nats.stop()
    each_nats.go_on()
    each_nats.restore(tmp_path / "saved")
    assert asyncio.run(_held(each_nats)) == 2


def test_nobody_gets_the_port_of_a_server_that_is_down(nats: NatsServer) -> None:
    """While a server is dead its port refuses, and is not free for others."""
    nats.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", nats.port)).close()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", nats.port))
    nats.start()
    socket.create_connection(("127.0.0.1", nats.port)).close()


def test_settings_change_while_it_runs(nats: NatsServer) -> None:
    """Whom a server lets in can change at any time."""
    assert not _told(nats)["auth_required"]
    nats.reconfigure("authorization { user: a, password: b }\n")
    assert _told(nats)["auth_required"]


def _told(server: NatsServer) -> dict[str, Any]:
    """The first line that a server sends."""
    with socket.create_connection(("127.0.0.1", server.port)) as client, client.makefile("rb") as lines:
        return defaultdict(bool, orjson.loads(lines.readline().removeprefix(b"INFO ")))


def test_a_server_that_does_not_start_says_why(nats: NatsServer) -> None:
    """Settings that a server refuses fail the test with its own words."""
    nats.kill()
    settings = nats.log.parent / "nats.conf"
    settings.write_text(settings.read_text() + "no_such_setting: 1\n")
    with pytest.raises(pytest.fail.Exception, match="no_such_setting"):
        nats.start()


def test_a_server_ends_with_the_test_that_is_killed(nats: NatsServer, tmp_path: Path) -> None:
    """Where pytest itself is killed, no server is left."""
    script = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import conftest
from pathlib import Path
from nats_server import ABSENT, NatsServer, programs
server = NatsServer(programs()[0], Path({str(tmp_path / "other")!r}))
print(server.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        watched = os.pidfd_open(int(killed.stdout.readline()))
        killed.kill()
    assert select.select([watched], [], [], 60)[0] == [watched]
    os.close(watched)


def test_versions_are_told() -> None:
    """Debian's server comes first, and each says its version."""
    if not programs():
        pytest.skip(ABSENT)
    versions = [tuple(map(int, version_of(program).split("."))) for program in programs()]
    assert versions == sorted(versions)
    assert versions[0] >= (2, 9, 10)
