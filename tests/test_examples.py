"""The examples of the README and of docs/: scripts run as they stand, shells show what stands below their commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

import pytest

import eventbus
from harness import DEADLINE
from nats_server import keep_port

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
LOOPS = re.compile(r"^import (gevent|trio|uvloop)$", re.MULTILINE)
OPENED = r"\b(?:open|Broadcast|Worker|(?:Async)?EventbusManager)"
BUS = re.compile(rf'(?:{OPENED}\("|\beventbus bridge (?:--status )?)(\w[\w-]*)')
PORT = re.compile(r"\b(?:4222|8000)\b")  # of a server that an example starts
RESULT = re.compile(r"print\(.*\)\s+# (.+)$", re.MULTILINE)
COMMAND, ANYTHING, MORE = "$ ", "...", "...\n"
END_ALL = "read -r _; for job in $(jobs -p); do kill $job; wait $job; done"


class Example(NamedTuple):
    """What a page shows to be run, and the files that it shows before that and are run in it."""

    text: str
    files: dict[str, str]

    def all(self) -> list[str]:
        """The text, and the contents of the files."""
        return [self.text, *self.files.values()]


def runs(text: str, file: str) -> bool:
    """Whether it runs the file, or a worker of the module that the file is."""
    return re.search(rf"\b{file.removesuffix('.py')}(?:\.py|:)", text) is not None


def examples(language: str) -> Iterator[Any]:
    """Scripts, or what is typed into a shell. A script that begins with the name of a file is for the next shell."""
    for page in PAGES:
        files: dict[str, str] = {}
        for number, (found, text) in enumerate(BLOCK.findall(page.read_text())):
            file = FILE.match(text)
            if found == "python" and file:
                files = {**files, file[1]: text}
            elif found == language:
                example = Example(text, {name: files[name] for name in files if runs(text, name)})
                yield pytest.param(example, id=f"{page.name}-{number}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_is_run(page: Path) -> None:
    """Each file that a page shows is run in a shell before another one of its name comes."""
    waiting: set[str] = set()
    for _, text in BLOCK.findall(page.read_text()):
        if file := FILE.match(text):
            assert file[1] not in waiting
            waiting.add(file[1])
        else:
            waiting = {name for name in waiting if not runs(text, name)}
    assert waiting == set()


@contextmanager
def settled(example: Example, folder: Path) -> Iterator[str]:
    """The text, with its files in the folder; the buses of both have names that are nobody else's."""
    buses = {name: f"test-{os.getpid()}-{name}" for name in BUS.findall("".join(example.all()))}
    word = re.compile(rf"(?<=[\"'\s])(?:{'|'.join(buses)})(?=[\"'\s])") if buses else re.compile(r"(?!)")
    text, *files = (word.sub(lambda name: buses[name[0]], one) for one in example.all())
    try:
        with keep_port() as kept:
            port = str(kept.getsockname()[1])
            for name, content in zip(example.files, files, strict=True):
                (folder / name).write_text(PORT.sub(port, content))
            yield PORT.sub(port, text)
    finally:
        for bus in buses.values():
            with suppress(FileNotFoundError):  # some are there to stay
                eventbus.unlink(bus)


@pytest.mark.release
@pytest.mark.parametrize("example", [*examples("python")])
def test_a_script(example: Example, tmp_path: Path) -> None:
    """Each Python example ends without an error and prints what its comments say."""
    script = tmp_path / "example.py"
    for loop in LOOPS.findall(example.text):
        if find_spec(loop) is None:
            pytest.skip(f"{loop} does not install here")
    with settled(example, tmp_path) as text:
        script.write_text(text)
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=DEADLINE, cwd=tmp_path, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    for expected in RESULT.findall(example.text):
        assert expected in done.stdout.splitlines()


@pytest.mark.release
@pytest.mark.parametrize("example", [*examples("console")])
def test_a_shell(example: Example, tmp_path: Path) -> None:
    """The commands write the lines that stand below them, in whatever order, "..." for anything, and no others unless a
    line of "..." says so; and SIGTERM ends without an error what runs in the background."""
    with settled(example, tmp_path) as text:
        lines = text.splitlines(keepends=True)
        commands = [line.removeprefix(COMMAND) for line in lines if line.startswith(COMMAND)]
        assert commands
        _play("".join([*commands, END_ALL]), [line for line in lines if not line.startswith(COMMAND)], tmp_path)


def _play(script: str, expected: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    missing = [re.compile(".*".join(map(re.escape, line.split(ANYTHING)))) for line in expected if line != MORE]
    more: list[str] = []
    with (
        open(folder / "errors", "w+") as errors,
        subprocess.Popen(
            ["bash", "-ec", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as shell,
    ):
        assert shell.stdin is not None
        assert shell.stdout is not None
        overdue = Timer(DEADLINE, os.killpg, (shell.pid, signal.SIGKILL))
        overdue.start()
        try:
            while missing and (line := shell.stdout.readline()):
                found = next((one for one in missing if one.fullmatch(line)), None)
                missing.remove(found) if found else more.append(line)
            rest, _ = shell.communicate("\n")
        finally:
            overdue.cancel()
        errors.seek(0)
        said = errors.read()
    assert (missing, shell.returncode) == ([], 0), f"{more}{rest}\n{said}"
    assert MORE in expected or (more, rest) == ([], "")
