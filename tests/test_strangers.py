"""Strangers under a bus's name: buses of other builds, and what is no bus. Refused with a sentence, and left alone.

The other builds are real: a core with another format, other limits or other words, compiled here, at work on a bus.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import eventbus
from eventbus import SegmentError
from eventbus.core.inspection import inspect_bus, list_names
from harness import SHARED_MEMORY, Fork, Line, ring_of, roster_of

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=gnu11", "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-pthread", "-D_FILE_OFFSET_BITS=64"]
SECONDS = 60  # a deadline that fails
OTHER = 12_345  # a user that owns nothing


class Build(NamedTuple):
    """How a build differs: a text of a header and what stands there instead, further flags, and what it is told by."""

    header: str
    text: str
    instead: str
    flags: tuple[str, ...]
    reason: str


BUILDS = {
    "another format": Build("layout.h", "#define EB_FORMAT ", "#define EB_FORMAT 1 + ", (), "another format"),
    "fewer subscribers": Build("eventbus.h", "EB_SUBSCRIBERS_LIMIT = 1024", "EB_SUBSCRIBERS_LIMIT = 512", (), "limits"),
    # This one leaves every size as it is.
    "shorter labels": Build("eventbus.h", "EB_LABEL_LIMIT = 63", "EB_LABEL_LIMIT = 62", (), "limits"),
    "words of 32 bits": Build("eventbus.h", "", "", ("-m32",), "limits"),
}


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    """The builds that were compiled already."""
    return {}


@pytest.fixture(params=BUILDS)
def stranger(request: pytest.FixtureRequest, programs: dict[str, Path], tmp_path_factory: Any) -> Path:
    """The program tests/c/stranger.c with a core of another build."""
    what: str = request.param
    if what not in programs:
        into = tmp_path_factory.mktemp("stranger")
        if "-m32" in BUILDS[what].flags and not can_compile("-m32", into):
            pytest.skip("this compiler makes no programs of 32 bits: apt-get install gcc-multilib")
        programs[what] = compiled(BUILDS[what], into)
    return programs[what]


def reason_of(stranger: Path) -> str:
    """What the build is told by."""
    return (stranger.parent / "reason").read_text()


def can_compile(flag: str, into: Path) -> bool:
    """Whether the compiler makes programs with this flag."""
    (into / "nothing.c").write_text("int main(void) { return 0; }\n")
    command = ["gcc", flag, "-o", str(into / "nothing"), str(into / "nothing.c")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compiled(build: Build, into: Path) -> Path:
    """The program of a build, from a copy of the core that differs in one place."""
    core = into / "csrc"
    shutil.copytree(ROOT / "csrc", core, ignore=shutil.ignore_patterns("_eventbus.c", "testing.*", "__pycache__"))
    header = core / build.header
    text = header.read_text()
    assert build.text in text
    header.write_text(text.replace(build.text, build.instead, 1) if build.text else text)
    sources = [ROOT / "tests" / "c" / "stranger.c", *sorted(core.glob("*.c"))]
    command = ["gcc", *FLAGS, *build.flags, "-I", core, "-o", into / "stranger", *sources]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (into / "reason").write_text(build.reason)
    return into / "stranger"


def digest(name: str) -> list[str]:
    """All bytes of both segments, in short."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ring_of(name), roster_of(name))]


@contextmanager
def running(stranger: Path, verb: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """The program at work; killed if it still is at the end."""
    command = [str(stranger), verb, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that the program says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def still_works(process: subprocess.Popen[str]) -> bool:
    """Whether it sends and hears one event more."""
    assert process.stdin is not None
    process.stdin.write("x")
    process.stdin.flush()
    return answer(process) == "works"


OPENINGS: list[dict[str, Any]] = [
    {},
    {"role": "subscriber"},
    {"persist": True},
    {"capacity": 1 << 20, "max_subscribers": 8},
]


def refused(name: str, reason: str) -> None:
    """Every way to open the bus is a SegmentError that says what is there and what to do."""
    for options in OPENINGS:
        with pytest.raises(SegmentError, match=rf"{name}.*{reason}.*eventbus.unlink\(\)") as caught:
            eventbus.open(name, **options)
        assert caught.value.details["version"] is True
        assert not caught.value.retryable


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The command line's exit code and what it said."""
    from eventbus.cli import app as cli

    capsys.readouterr()
    status = cli.run(list(arguments))
    return status, *capsys.readouterr()


def shown(name: str, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``ls`` shows the name in this state; ``stat`` is one sentence that names the bus."""
    status, out, errors = command("ls", capsys=capsys)
    assert (status, errors) == (0, "")
    assert [line.rstrip().endswith(state) for line in out.splitlines() if line.split()[0] == name] == [True]
    status, out, errors = command("stat", name, capsys=capsys)
    assert (status, out, errors.count("\n")) == (1, "", 1)
    assert name in errors


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "abandoned"])
def test_a_bus_of_another_build(stranger: Path, name: str, alive: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by a sentence, shown as of another version, not touched, and its own processes go on."""
    with running(stranger, "make", name) as process:
        assert answer(process) == "works"
        if not alive:
            process.send_signal(signal.SIGKILL)
            assert process.wait(SECONDS) == -signal.SIGKILL
        before = digest(name)
        refused(name, reason_of(stranger))
        shown(name, "other version", capsys)
        assert digest(name) == before
        assert not alive or still_works(process)
        assert command("unlink", name, capsys=capsys) == (0, "", "")
        with eventbus.open(name) as bus, bus.subscribe("**") as sub:
            assert not alive or still_works(process)  # in its own segments, which have lost their name
            assert bus.send("a", "b", "/c")
            assert sub.receive(0) is not None


def open_and_wait(line: Line, name: str) -> None:
    """Is attached until it is killed."""
    with eventbus.open(name, capacity=1 << 16, persist=True) as bus, bus.subscribe("**"):
        bus.send("a", "b", "/c", 7)
        line.say("open")
        line.hear()


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "abandoned"])
def test_a_bus_of_ours_for_another_build(stranger: Path, fork: Fork, name: str, alive: bool) -> None:
    """The other build refuses this library's bus by the same sentence and does not touch it."""
    child = fork(open_and_wait, name)
    child.hear()
    if not alive:
        child.kill()
    before = digest(name)
    with running(stranger, "join", name) as process:
        said = answer(process)
        assert said.startswith("refused: ")
        assert reason_of(stranger) in said
        assert process.wait(SECONDS) == 0
    assert digest(name) == before
    with eventbus.open(name) as bus, bus.subscribe("**", start="oldest") as sub:
        assert [event.data for event in sub.receive_many(2, 0)] == [7]
    child.kill()
    eventbus.unlink(name)


def test_two_builds_side_by_side(stranger: Path, name: str) -> None:
    """Under names of their own an older and a newer library work at the same time."""
    other = f"{name}-other"
    with (
        running(stranger, "make", other) as process,
        eventbus.open(name, capacity=1 << 16) as bus,
        bus.subscribe("**") as sub,
    ):
        assert answer(process) == "works"
        for number in range(100):
            assert bus.send("a", "b", "/c", number)
            assert still_works(process)
            event = sub.receive(0)
            assert event is not None
            assert event.data == number
    eventbus.unlink(other)


def test_a_bus_of_the_same_build(name: str, tmp_path: Path) -> None:
    """The program is no stranger when its core is this one: it joins the bus, and each hears what the other sends."""
    same = compiled(BUILDS["words of 32 bits"]._replace(flags=()), tmp_path)
    with eventbus.open(name) as bus, bus.subscribe("a") as sub, running(same, "join", name) as process:
        assert answer(process) == "works"
        event = sub.receive(0)
        assert event is not None
        assert (event.kind, event.path, event.data) == ("b", "/c", 7)


# --- what is no bus ---


def make_socket(path: Path) -> None:
    """A socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a symbolic link": lambda path: path.symlink_to("eventbus.nowhere"),
    "a FIFO": lambda path: os.mkfifo(path, 0o600),
    "a socket": make_socket,
}


@contextmanager
def present(path: Path, what: str) -> Iterator[None]:
    """Something that is no file stands there."""
    NO_FILES[what](path)
    before = path.lstat()
    try:
        yield
        assert os.path.samestat(before, path.lstat())
    finally:
        if stat.S_ISDIR(path.lstat().st_mode):
            path.rmdir()
        else:
            path.unlink()


@pytest.mark.parametrize("what", NO_FILES)
def test_no_file_as_the_roster(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no file is named and left alone, waited for by nobody, and hides no other bus from ``ls``."""
    with eventbus.open(name + "-beside"), present(roster_of(name), what):
        for options in OPENINGS:
            with pytest.raises(SegmentError, match=f"{roster_of(name)} is {what}"):
                eventbus.open(name, **options)
        shown(name, "damaged", capsys)
        assert name + "-beside" in list_names()
    assert not ring_of(name).exists()


@pytest.mark.parametrize("what", NO_FILES)
def test_no_file_as_the_ring_of_a_live_bus(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same of the ring: neither a subscriber nor ``stat`` waits for the writer of a FIFO."""
    with eventbus.open(name) as bus, bus.subscribe("**") as sub:
        ring_of(name).rename(ring_of(name + "-aside"))
        with present(ring_of(name), what):
            for options in OPENINGS:
                with pytest.raises(SegmentError, match=f"{ring_of(name)} is {what}"):
                    eventbus.open(name, **options)
            shown(name, "damaged", capsys)
        ring_of(name + "-aside").rename(ring_of(name))
        assert bus.send("a", "b", "/c")
        assert sub.receive(0) is not None


@pytest.mark.parametrize("what", NO_FILES)
def test_unlink_removes_what_is_no_file_but_a_directory(what: str, name: str) -> None:
    """`unlink` takes away what stands in a bus's place; a directory is an error that names it."""
    NO_FILES[what](roster_of(name))
    if what == "a directory":
        with pytest.raises(IsADirectoryError, match=f"cannot be removed.*{roster_of(name)}"):
            eventbus.unlink(name)
        roster_of(name).rmdir()
    else:
        eventbus.unlink(name)
    assert not os.path.lexists(roster_of(name))


def test_a_directory_as_what_an_old_ring_would_be(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A new bus cannot take its ring's place: an error that names it, and no roster is left behind."""
    ring_of(name).mkdir()
    with pytest.raises(IsADirectoryError, match=str(ring_of(name))):
        eventbus.open(name)
    assert not roster_of(name).exists()
    shown_state = inspect_bus(name)
    assert shown_state is not None
    assert (shown_state.state, str(ring_of(name)) in shown_state.reason) == ("damaged", True)
    ring_of(name).rmdir()


def test_random_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was never a bus is refused, shown, and stays as it is until it is unlinked."""
    for path in (ring_of(name), roster_of(name)):
        path.write_bytes(b"some text, of whatever origin\n" * 1000)
        path.chmod(0o600)
    before = digest(name)
    refused(name, "mark of an eventbus segment")
    shown(name, "other version", capsys)
    assert digest(name) == before
    assert command("unlink", name, capsys=capsys) == (0, "", "")
    assert not roster_of(name).exists()


def test_a_ring_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A ring without a roster takes space, so it is shown as abandoned; `unlink` removes it, `open` replaces it."""
    for _ in range(2):
        ring_of(name).write_bytes(b"\0" * 5000)
        shown(name, "abandoned", capsys)
        assert command("unlink", name, capsys=capsys) == (0, "", "")
        assert name not in list_names()
    ring_of(name).write_bytes(b"\0" * 5000)
    with eventbus.open(name) as bus:
        assert bus.send("a", "b", "/c")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
@pytest.mark.parametrize("attached", [True, False])
def test_a_file_of_another_owner(name: str, attached: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Another user's file under the name is not trusted, whatever it holds, and not touched."""
    if attached:
        bus = eventbus.open(name)
    else:
        roster_of(name).write_bytes(b"")
    os.chown(roster_of(name), OTHER, OTHER)
    os.chmod(roster_of(name), 0o600)
    before = roster_of(name).read_bytes()
    with pytest.raises(SegmentError, match=f"uid {OTHER}.*does not trust"):
        eventbus.open(name)
    shown(name, "not trusted", capsys)
    assert roster_of(name).read_bytes() == before
    if attached:
        bus.close()
    else:
        eventbus.unlink(name)


def squat(_: Line, name: str) -> str:
    """As another user, where the sticky bit keeps one from removing what is not one's own: what came of opening."""
    os.setgroups([])
    os.setgid(OTHER)
    os.setuid(OTHER)
    try:
        eventbus.open(name)
    except OSError as error:
        return f"{type(error).__name__}: {error}; left: {roster_of(name).exists()}"
    return "open"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_somebody_elses_ring_in_the_way(fork: Fork, name: str) -> None:
    """A ring that this user may not remove is a sentence that names it, and no roster is left behind."""
    ring_of(name).write_bytes(b"")
    outcome = fork(squat, name).result()
    assert outcome.startswith("PermissionError")
    assert str(ring_of(name)) in outcome
    assert outcome.endswith("left: False")
    ring_of(name).unlink()
    assert not list(SHARED_MEMORY.glob(f"eventbus.{name}.*"))
