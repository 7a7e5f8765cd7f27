"""Configuration of the bridge: a file and a command line say the same, and whatever is unknown is named."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from eventbus.bridge import config
from eventbus.bridge.config import (
    AskConfig,
    Config,
    ExportConfig,
    ImportConfig,
    NatsConfig,
    QueueConfig,
    StreamConfig,
    from_dict,
    from_options,
    load,
)
from eventbus.bridge.subjects import fitted
from eventbus.errors import InvalidError

URL = "nats://127.0.0.1:4222"
LEAST: dict[str, Any] = {"bus": "shop", "nats": {"servers": [URL]}, "export": [{"systems": ["orders.**"]}]}

ALL = """
bus = "shop"
capacity = "64M"
persist = true
domain = "eu-1"
origin = "h1"
when_full = "drop"
window = 64
ack_timeout = "2s"
relay = true

[nats]
servers = ["nats://a.example", "tls://[::1]:4223"]
user = "h1"
password_file = "{file}"
ca = "{file}"
cert = "{file}"
key = "{file}"

[stream]
max_age = "36h"
max_bytes = "10G"
replicas = 3

[[export]]
systems = ["orders.**", "users"]
[[export]]
systems = ["users", "eventbus.dead"]

[[import]]
systems = ["stock.*"]
from = ["h2", "h3"]
start = "oldest"
[[import]]
systems = ["users"]

[[queue]]
name = "invoices"
systems = ["invoices.**"]
serve = "printers"

[[ask]]
systems = ["prices"]
"""


def changed(**keys: Any) -> dict[str, Any]:
    """The least configuration with other keys; those that are None are left out."""
    table = {**LEAST, **keys}
    return {key: value for key, value in table.items() if value is not None}


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    """Each key arrives where it belongs, sizes and times in bytes and seconds."""
    secret, path = tmp_path / "secret", tmp_path / "bridge.toml"
    secret.touch()
    path.write_text(ALL.format(file=secret))
    found, file = load(path), str(secret)
    servers = ("nats://a.example", "tls://[::1]:4223")
    assert found == Config(
        bus="shop",
        nats=NatsConfig(servers, user="h1", password_file=file, ca=file, cert=file, key=file),
        origin="h1",
        domain="eu-1",
        capacity=64 << 20,
        persist=True,
        when_full="drop",
        window=64,
        ack_timeout=2.0,
        relay=True,
        stream=StreamConfig(max_age=36 * 3600.0, max_bytes=10 << 30, replicas=3),
        exports=(ExportConfig(("orders.**", "users")), ExportConfig(("users", "eventbus.dead"))),
        imports=(ImportConfig(("stock.*",), ("h2", "h3"), "oldest"), ImportConfig(("users",))),
        queues=(QueueConfig("invoices", ("invoices.**",), "printers"),),
        asks=(AskConfig(("prices",)),),
    )
    assert found.exported == ("orders.**", "users", "eventbus.dead")


def test_what_is_left_out() -> None:
    """The defaults are those of the guide, and the origin is named after the host and the bus."""
    found = from_dict(LEAST, "x")
    assert found == Config("shop", NatsConfig((URL,)), found.origin, exports=(ExportConfig(("orders.**",)),))
    assert (found.capacity, found.persist) == (None, False)
    assert found.origin == fitted(f"{os.uname().nodename}-shop")
    assert (found.domain, found.when_full, found.window, found.ack_timeout) == ("main", "block", 256, 5.0)
    assert (found.stream.max_age, found.stream.max_bytes, found.stream.replicas) == (7 * 86400.0, 0, 1)


def test_a_command_line_says_the_same(tmp_path: Path) -> None:
    """Options make the configuration that a file would."""
    seed, path = tmp_path / "seed", tmp_path / "bridge.toml"
    seed.touch()
    path.write_text(
        f'bus = "shop"\norigin = "h1"\ndomain = "eu"\n[nats]\nservers = ["{URL}"]\nnkey_seed = "{seed}"\n'
        '[[export]]\nsystems = ["a", "b"]\n[[import]]\nsystems = ["c"]\n'
    )
    options = {"origin": "h1", "domain": "eu", "nkey_seed": str(seed), "creds": None}
    assert from_options("shop", servers=[URL], exports=["a", "b"], imports=["c"], **options) == load(path)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (changed(bus=None), "x: 'bus' is missing: write it, it is a text"),
        (changed(bus=7), "x: 'bus' must be a text, not 7"),
        (changed(bus="a/b"), "'a/b' is no name for a bus"),
        (changed(nats=None), "x: 'nats' is missing: write it, it is a table"),
        (changed(nats=URL), "x: 'nats' must be a table, not 'nats://127.0.0.1:4222'"),
        (changed(nats={}), "x, [nats]: 'servers' is missing"),
        (changed(nats={"servers": URL}), "x, [nats]: 'servers' must be a list, not"),
        (changed(nats={"servers": []}), "x, [nats]: 'servers' must have at least one, such as"),
        (changed(nats={"servers": [URL], "token": "x"}), "x, [nats]: a key must be 'servers' or 'user' or"),
        (changed(nats={"servers": [URL], "user": "u"}), "x, [nats]: 'user' and 'password_file' need each other"),
        (changed(nats={"servers": [URL], "creds": 7}), "x, [nats]: 'creds' must be a text, not 7"),
        (changed(nats={"servers": [URL], "creds": "/no"}), "x, [nats]: 'creds' names '/no', which is no file that can"),
        (changed(nats={"servers": [URL], "ca": ""}), "x, [nats]: 'ca' names '', which is no file"),
        (changed(domain="a.b"), "x: 'domain' must be 1 to 32 ASCII letters"),
        (changed(domain=["a"]), "x: 'domain' must be a text, not ['a']"),
        (changed(origin=""), "x: 'origin' must be 1 to 32 ASCII letters"),
        (changed(orign="h"), "x: a key must be 'bus' or 'capacity' or 'persist' or"),
        (changed(orign="h"), "not 'orign' (did you mean 'origin'?)"),
        (changed(when_full="wait"), "x: 'when_full' must be 'block' or 'drop', not 'wait'"),
        (changed(capacity="big"), "x: 'capacity': 'big' is no size: write bytes, or a number with K, M or G"),
        (changed(persist=1), "x: 'persist' must be true or false, not 1"),
        (changed(window=0), "x: 'window' must be 1 to 256, not 0"),
        (changed(window=257), "x: 'window' must be 1 to 256, not 257"),
        (changed(window=True), "x: 'window' must be a whole number, not True"),
        (changed(window=1.5), "x: 'window' must be a whole number, not 1.5"),
        (changed(ack_timeout=0), "x: 'ack_timeout' must be at least 0.1 seconds, not 0"),
        (changed(ack_timeout="soon"), "x: 'ack_timeout': 'soon' is no time: write seconds, or"),
        (changed(ack_timeout=float("nan")), "x: 'ack_timeout' must be at least 0.1 seconds, not nan"),
        (changed(ack_timeout=float("inf")), "x: 'ack_timeout' must be at least 0.1 seconds, not inf"),
        (changed(relay="yes"), "x: 'relay' must be true or false, not 'yes'"),
        (changed(stream={"max_age": -1}), "x, [stream]: 'max_age' must be at least 0 seconds, not -1"),
        (changed(stream={"max_bytes": "1T"}), "x, [stream]: 'max_bytes': '1T' is no size: write bytes"),
        (changed(stream={"max_bytes": -1}), "x, [stream]: 'max_bytes' must be a number of bytes, not -1"),
        (changed(stream={"max_bytes": 1.5}), "x, [stream]: 'max_bytes' must be a number of bytes, not 1.5"),
        (changed(stream={"replicas": 6}), "x, [stream]: 'replicas' must be 1 to 5, not 6"),
        (changed(stream={"age": 1}), "x, [stream]: a key must be 'max_age' or 'max_bytes' or 'replicas', not 'age'"),
        (changed(export={"systems": ["a"]}), "x: 'export' must be a list of tables: write [[export]] above each"),
        (changed(export=["a"]), "x, export 1: must be a table, not 'a': write [[export]] above each"),
        (changed(export=[{}]), "x, export 1: 'systems' is missing: write a list of patterns"),
        (changed(export=[{"systems": "a"}]), "x, export 1: 'systems' must be a list of at least one string, not 'a'"),
        (changed(export=[{"systems": ["a", "b*"]}]), "x, export 1: 'systems': pattern 'b*' is not valid"),
        (changed(export=[{"systems": ["a"], "from": ["h"]}]), "x, export 1: a key must be 'systems', not 'from'"),
        (changed(**{"import": [{"systems": ["a"], "from": "h"}]}), "x, import 1: 'from' must be a list"),
        (changed(**{"import": [{"systems": ["a"], "from": ["h.h"]}]}), "x, import 1: each of 'from' must be 1 to 32"),
        (changed(**{"import": [{"systems": ["a"], "start": "new"}]}), "x, import 1: 'start' must be 'latest' or"),
        (changed(queue=[{"systems": ["a"]}]), "x, queue 1: 'name' is missing"),
        (changed(queue=[{"name": "a b", "systems": ["a"]}]), "x, queue 1: 'name' must be 1 to 32 ASCII"),
        (changed(queue=[{"name": "a", "systems": ["a"], "serve": 1}]), "x, queue 1: 'serve' must be a text, not 1"),
        (changed(ask=[{"systems": []}]), "x, ask 1: 'systems' must be a list of at least one string, not []"),
        (changed(export=None), "x: nothing would travel: name systems to export or to import"),
    ],
)
def test_bad_input_is_one_sentence(table: dict[str, Any], sentence: str) -> None:
    """It names the table, the key, what was written and what to write."""
    with pytest.raises(InvalidError, match=re.escape(sentence)) as caught:
        from_dict(table, "x")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4222",
        "http://a",
        "nats://",
        "nats://a:port",
        "nats://a:99999",
        "nats://a:0",
        "nats://a/x",
        "nats://a?x=1",
        "nats://a#x",
        "nats://[::1",
        "",
        7,
        None,
    ],
)
def test_a_server_is_a_url(url: Any) -> None:
    """What is none is shown, beside one that is."""
    with pytest.raises(InvalidError, match=r"each of 'servers' must be such as 'nats://127.0.0.1:4222', not"):
        from_dict(changed(nats={"servers": [URL, url]}), "x")


@pytest.mark.parametrize("url", ["nats://h1:secret@a", "nats://token@a:4222", "http://h1:secret@a"])
def test_a_url_has_no_secret(url: str) -> None:
    """Everybody sees the arguments of a process: who it is stands in files. The message does not repeat the secret."""
    with pytest.raises(InvalidError, match="name files, 'creds' or 'password_file'") as caught:
        from_options("shop", servers=[url], exports=["a"])
    assert "secret" not in caught.value.message
    assert "token" not in caught.value.message


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (("cert",), "'cert' and 'key' need each other"),
        (("password_file",), "'user' and 'password_file' need each other"),
        (("creds", "nkey_seed"), "write one of 'creds', 'nkey_seed' and 'user', not several"),
    ],
)
def test_files_that_need_or_exclude_each_other(tmp_path: Path, keys: tuple[str, ...], sentence: str) -> None:
    """Half of who a host is, or two of it, is an error."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InvalidError, match=re.escape(sentence)):
        from_options("shop", servers=[URL], exports=["a"], **dict.fromkeys(keys, str(file)))


def test_files_of_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file stays an OSError with its name; one that is no TOML says where."""
    path = tmp_path / "bridge.toml"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        load(path)
    path.write_text("bus = shop")
    with pytest.raises(InvalidError, match=f"^{re.escape(str(path))}: must be valid TOML: .*at line 1"):
        config.load(path)
