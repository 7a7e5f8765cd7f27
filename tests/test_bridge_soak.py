"""The soak of three buses and their bridges: a short one finds nothing, and one that loses events does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import DEADLINE
from nats_server import ABSENT, programs
from test_soak import figures_of

TESTS = Path(__file__).resolve().parent

pytestmark = pytest.mark.release


def soak(seconds: float, path: str) -> subprocess.CompletedProcess[str]:
    """One round of the same seed."""
    if not programs():
        pytest.skip(ABSENT)
    environment = os.environ | {"PYTHONPATH": path}
    environment.pop("EVENTBUS_BUILD", None)
    command = [sys.executable, "-m", "bridged.soak", "--seed", "7", "--round", "1", "--seconds", str(seconds)]
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=10 * DEADLINE)


def test_a_short_soak_of_bridges() -> None:
    """Random faults of bridges, networks and servers lose, double and reorder nothing."""
    told = soak(2, str(TESTS))
    assert told.returncode == 0, told.stdout + told.stderr
    figures = figures_of(told.stdout)
    assert figures["violations"] == figures["out of order"] == figures["doubled"] == 0
    assert figures["rounds"] == 1
    assert figures["events sent"] > 100
    assert figures["deliveries"] > 2 * figures["events sent"] - 2 * figures["lost and told"] - 1


def test_the_soak_of_bridges_tells_a_violation(tmp_path: Path) -> None:
    """Where some events never come, and nobody says so, the soak fails, and names seed, round and events."""
    (tmp_path / "sitecustomize.py").write_text(LOSES)
    told = soak(0.5, f"{TESTS}{os.pathsep}{tmp_path}")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "VIOLATED: seed 7 round 1" in told.stdout
    assert "3 are lost, 0 were told; the first are [3, 7, 12]" in told.stdout


LOSES = """
import sys

if "bridged.soak" in sys.orig_argv:
    import eventbus.sending

    send = eventbus.sending.Sender.send

    def lossy(self, system, kind, path, *arguments, **options):
        return path in ("/3", "/7", "/12") or send(self, system, kind, path, *arguments, **options)

    eventbus.sending.Sender.send = lossy
"""
