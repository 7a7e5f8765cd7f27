"""channels_redis's own tests of channel layers, over ours."""

from __future__ import annotations

from peers.suites import Suite

_PRIVATE = "It is about attributes of redis's layers that are private"


def _suite(name: str, file: str, reasons: dict[str, str]) -> Suite:
    return Suite(
        name=f"layers, {name}",
        distribution="channels_redis",
        version="4.3.0",
        select=(file, "-o", "asyncio_mode=auto", "-o", "addopts=-p no:django", "-o", "timeout=60"),
        requires=("async-timeout", "channels", "pytest-asyncio"),
        plugin="channels_redis",
        reasons={f"{file}::{test}": f"{why}." for test, why in reasons.items()},
    )


SUITES = (
    _suite(
        "core",
        "tests/test_core.py",
        {
            "*_group_key_format": _PRIVATE,
            "test_receive_buffer_respects_capacity": _PRIVATE,
            "test_message_expiry__group_send__one_channel_expires_message": (
                "It is expected to fail there, too: its message expires after 3 s, and is asked for after just as many"
            ),
        },
    ),
    _suite(
        "pubsub",
        "tests/test_pubsub.py",
        {
            "test_receive_on_non_owned_general_channel": "It sends a text; by the specification a message is a dict",
            "test_loop_instance_channel_layer_reference": _PRIVATE,
            "test_multi_event_loop_garbage_collection": _PRIVATE,
            "test_auto_reconnect": _PRIVATE,
        },
    ),
)
