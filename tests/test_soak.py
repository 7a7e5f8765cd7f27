"""The soak and the rush: short ones find nothing; what they do when they are interrupted, or find something."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import DEADLINE, SHARED_MEMORY, until

TESTS = Path(__file__).resolve().parent
SEED = 20261125

pytestmark = pytest.mark.release


def soak(*arguments: str, program: str = "soak") -> subprocess.Popen[str]:
    """Starts the soak, or the rush, on the release build."""
    command = [sys.executable, "-m", program, "--seed", str(SEED + os.getpid()), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "EVENTBUS_BUILD"}
    return subprocess.Popen(command, cwd=TESTS, env=environment, stdout=subprocess.PIPE, text=True)


def still_running(pid: int) -> list[str]:
    """Processes of this soak that have not ended: forked ones share its command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "soak" in words and str(SEED + os.getpid()) in words and entry.name != str(pid):
            found.append(entry.name)
    return found


def segments(pid: int) -> list[str]:
    """What a soak has in shared memory."""
    return [path.name for path in SHARED_MEMORY.iterdir() if re.match(rf"eventbus\.\w+-{pid}[-.]", path.name)]


def figures_of(output: str) -> dict[str, int]:
    """What a report says."""
    return {
        name.strip(): int(count.replace(",", "")) for name, count in re.findall(r"^  (\D+?) +([\d,]+)$", output, re.M)
    }


def test_a_short_soak() -> None:
    """Some rounds of random publishers, subscribers, groups, deaths and stops end without a violation."""
    process = soak("--rounds", "3", "--shortest", "0.3", "--longest", "0.8", "--least", "100")
    output, _ = process.communicate(timeout=10 * DEADLINE)
    print(output)
    assert process.returncode == 0
    figures = figures_of(output)
    assert figures["rounds"] >= 3
    assert figures["violations"] == 0
    assert figures["events sent"] >= 100
    assert figures["deliveries"] >= 100
    assert segments(process.pid) == []


def test_a_short_rush() -> None:
    """Six processes that open, close, fork, are interrupted and killed on one name: no damage, and nothing is left."""
    plan = ("--seed", "43")  # one in which somebody dies every 50 ms
    process = soak("--minutes", "0.05", "--seconds", "1.5", "--least", "1", *plan, program="soak.rush")
    output, _ = process.communicate(timeout=10 * DEADLINE)
    print(output)
    assert process.returncode == 0
    figures = figures_of(output)
    assert figures["violations"] == 0
    assert figures["bouts"] >= 1
    for what in ("openings", "events sent", "events received", "deaths", "forked in C", "interruptions"):
        assert figures[what] > 0
    assert segments(process.pid) == []


def test_an_interrupted_soak_leaves_nothing() -> None:
    """Ctrl-C ends a soak at once, with its report; no process, no segment and no ledger is left."""
    process = soak("--minutes", "60", "--shortest", "60", "--longest", "61")
    assert process.stdout is not None
    directory = Path(process.stdout.readline().split()[-1])
    until(lambda: any((directory / "1").glob("*.ledger")), "the first actor to write")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "interrupted" in output
    assert re.search(r"^  rounds +0$", output, re.M)
    assert still_running(process.pid) == []
    assert segments(process.pid) == []
    assert not directory.exists()


def test_the_soak_tells_a_violation(tmp_path: Path) -> None:
    """On a bus that loses every other event the soak fails, and names the seed, the round and the ledgers."""
    (tmp_path / "sitecustomize.py").write_text(LOSES)
    command = [sys.executable, "-m", "soak", "--seed", "5", "--rounds", "2", "--shortest", "0.5", "--longest", "0.6"]
    command += ["--least", "1000"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{TESTS}", "TMPDIR": str(tmp_path)}
    environment.pop("EVENTBUS_BUILD", None)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10 * DEADLINE, check=False)
    assert told.returncode == 1, told.stdout
    violated = re.search(r"VIOLATED: seed 5 round (\d+)", told.stdout)
    assert violated is not None
    assert re.search(r"did not get \d+ events", told.stdout)
    directory = Path(told.stdout.split("\n")[0].split()[-1])
    assert any((directory / violated[1]).glob("*.ledger"))


def test_the_rush_tells_a_violation(tmp_path: Path) -> None:
    """Where whoever opens a bus takes it for abandoned, the rush fails, and names seed, bout and ledgers."""
    (tmp_path / "sitecustomize.py").write_text(REPLACES)
    command = [sys.executable, "-m", "soak.rush", "--seed", "1", "--bout", "1", "--seconds", "0.5"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{TESTS}", "TMPDIR": str(tmp_path)}
    environment.pop("EVENTBUS_BUILD", None)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10 * DEADLINE, check=False)
    assert told.returncode == 1, told.stdout
    assert "VIOLATED: seed 1 bout 1" in told.stdout
    assert "two segments at once" in told.stdout
    directory = Path(told.stdout.split("\n")[0].split()[-1])
    assert any((directory / "1").glob("*.ledger"))


REPLACES = """
import eventbus.core.attachment

eventbus.core.attachment.Attachment.alone = lambda self: True
"""

LOSES = """
import eventbus.sending

send = eventbus.sending.Sender.send

def lossy(self, system, kind, path, *arguments, **options):
    if path[-1] in "13579":
        return True
    return send(self, system, kind, path, *arguments, **options)

eventbus.sending.Sender.send = lossy
"""
