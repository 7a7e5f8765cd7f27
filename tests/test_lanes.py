"""`pytest --lanes`: every test runs once, in one of several processes, and the run ends as one process's would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
LANES = 3
SECONDS = 240  # a deadline that fails; a run takes a few seconds

# Files that meet: each waits for the others, so they end only if they run beside each other.
MEETS = """
import os
import time
from pathlib import Path

HERE = Path(__file__)

def test_that_meets(capfd):
    print("here")
    HERE.with_suffix(f".{os.getpid()}").touch()
    end = time.monotonic() + 60
    while len(list(HERE.parent.glob("*.[0-9]*"))) < %d:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert capfd.readouterr().out == "here\\n"

def test_in_the_same_process():
    assert HERE.with_suffix(f".{os.getpid()}").exists()
"""
PASSES = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_that_passes(number):
    pass
"""
FAILS = """
import sys

def test_that_fails():
    print("this was captured")
    raise ValueError("as it should")
"""
LEAVES = """
import os

def test_that_leaves_a_descriptor():
    os.open("/dev/null", os.O_RDONLY)
"""
SKIPS = """
import pytest

def test_that_is_skipped():
    pytest.skip("there is no saw: apt-get install util-linux")
"""
DIES = """
import os
import signal

def test_before():
    pass

def test_that_dies():
    os.kill(os.getpid(), signal.SIGKILL)

def test_behind():
    pass
"""
INTERRUPTS = """
import os
import signal
from pathlib import Path

import pytest

@pytest.fixture
def mark():
    yield
    Path("mark").write_text("torn down")

def test_that_is_interrupted(mark):
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()
"""

COUNTS = """
import os

def test_that_counts():
    assert len(os.sched_getaffinity(0)) == 1
"""


def run(where: Path, *options: str, **files: str) -> tuple[int, str]:
    """The exit code and the output of a run of these files in lanes, under the settings of this suite."""
    for name, text in files.items():
        (where / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    own = {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_ADDOPTS": "--color=no", "COLUMNS": "200"}
    for word in ("CI", "BUILD_NUMBER"):  # where one is set, pytest tells a failure in more lines than one
        own.pop(word, None)
    command += ["-p", "conftest", "--rootdir", str(where), "--lanes", str(LANES), *options]
    command += [f"test_{name}.py" for name in files]
    done = subprocess.run(command, cwd=where, env=own, capture_output=True, text=True, timeout=SECONDS)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_files_run_beside_each_other(tmp_path: Path) -> None:
    """As many as there are lanes, each as a whole in one process and shown in one piece; every test runs once."""
    meet = dict.fromkeys(("one", "two", "three"), MEETS % LANES)
    code, output = run(tmp_path, **meet, **{f"passes_{number}": PASSES for number in range(5)})
    assert code == 0
    assert "= 16 passed in " in output
    assert len(re.findall(r"^test_\w+\.py \.\. ", output, re.MULTILINE)) == 8


def test_what_fails_is_named_at_the_end(tmp_path: Path) -> None:
    """With its traceback and what it printed; what was skipped is told, and who left what."""
    code, output = run(tmp_path, passes=PASSES, fails=FAILS, leaves=LEAVES, skips=SKIPS)
    assert code == 1
    assert 'raise ValueError("as it should")' in output
    assert "this was captured" in output
    *_, skipped, _, failed, left, counts = output.splitlines()
    assert skipped == "1 test skipped: there is no saw (1). For 1 of them: apt-get install util-linux"
    assert "test_fails.py::test_that_fails - ValueError: as it should" in failed
    assert left.startswith("ERROR ")
    assert "test_leaves.py::test_that_leaves_a_descriptor" in left
    assert "1 failed, 3 passed, 1 skipped, 1 error" in counts


def test_the_first_failure_is_enough(tmp_path: Path) -> None:
    """Where the run is to stop at the first failure, it does."""
    code, output = run(tmp_path, "--exitfirst", fails=FAILS, **{f"passes_{number}": PASSES for number in range(8)})
    assert code == 1
    assert "stopping after 1 failures" in output


def test_a_lane_that_dies(tmp_path: Path) -> None:
    """The test in which it died has failed, and the run is no success."""
    code, output = run(tmp_path, dies=DIES, passes=PASSES)
    assert code == pytest.ExitCode.INTERRUPTED
    assert re.search(r"^FAILED test_dies.py::test_that_dies - the process .* ended with -9$", output, re.MULTILINE)


def test_an_interrupt_reaches_every_lane(tmp_path: Path) -> None:
    """Ctrl-C ends the run, and what the tests have set up is torn down."""
    code, output = run(tmp_path, interrupts=INTERRUPTS, passes=PASSES)
    assert code == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert (tmp_path / "mark").read_text() == "torn down"


def test_no_more_cpus_than_it_is_told(tmp_path: Path) -> None:
    """`--cpus` keeps every lane to the first of the CPUs; more than there are is refused."""
    code, output = run(tmp_path, "--cpus", "1", one=COUNTS, two=COUNTS)
    assert (code, "= 2 passed in " in output) == (0, True)
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "--cpus", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--cpus must be 1 to " in told.stderr
