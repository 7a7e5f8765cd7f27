"""python-socketio's own tests of client managers, over ours."""

from __future__ import annotations

from peers.suites import Suite

_VERSION = "5.18.1"
_NEEDS = ("pytest-asyncio", "redis", "valkey")
_ADDRESSES = "It is about addresses and clients of redis and valkey, by private methods: a bus has a name"


def _suite(name: str, folder: str, tests: str) -> Suite:
    return Suite(
        name=f"client managers, {name}",
        distribution="python-socketio",
        version=_VERSION,
        select=(
            f"{folder}/test_pubsub_manager.py",
            f"{folder}/test_redis_manager.py",
            # A function of the module, whichever manager there is.
            f"--deselect={folder}/test_redis_manager.py::{tests}::test_sentinel_url_parser",
        ),
        requires=_NEEDS,
        plugin="socketio",
        reasons={
            f"{folder}/test_redis_manager.py*_installed": f"{_ADDRESSES}.",
            f"{folder}/test_redis_manager.py*_connect": f"{_ADDRESSES}.",
            f"{folder}/test_redis_manager.py*_bad_url": f"{_ADDRESSES}.",
        },
    )


SUITES = (
    _suite("threads", "tests/common", "TestPubSubManager"),
    _suite("asyncio", "tests/async", "TestAsyncRedisManager"),
)
