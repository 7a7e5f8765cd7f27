"""The file of a recording: whole lines wherever its writer dies, and on behind them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from eventbus import InvalidError, UnavailableError
from eventbus.cli import recorder as room
from eventbus.cli import recording
from eventbus.cli.recorder import recorder

KINDS = ["jsonl", "jsonl.gz", "jsonl.zst"]


def line(number: int, path: str = "/") -> bytes:
    fields = {"system": "a", "kind": "b", "path": path, "data": None, "sequence": number, "time": 0, "sender": 1}
    return json.dumps(fields, separators=(",", ":")).encode()


LINES = [line(number) for number in range(1, 7)]


def write(file: Path, lines: list[bytes]) -> int | None:
    """Two lines together each time; the number of the last event that was there before."""
    with recorder(str(file)) as into:
        for begin in range(0, len(lines), 2):
            into.add(lines[begin : begin + 2])
            into.flush()
        return into.last and into.last.sequence


def read(file: Path) -> list[bytes]:
    return [line for _, line in recording.lines(str(file))]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_byte(tmp_path: Path, kind: str) -> None:
    """However much of it was written: the next one finds the last whole line, and a recording comes of it that has
    every whole line once, and those of the next one behind them."""
    file = tmp_path / f"recording.{kind}"
    assert write(file, LINES) is None
    assert read(file) == LINES
    whole, found = file.read_bytes(), set()
    for length in range(1, len(whole) + 1):
        file.write_bytes(whole[:length])
        last = write(file, [line(8), line(9)])
        *before, second, third = read(file)
        assert before == LINES[: len(before)]
        assert last == (len(before) or None)
        assert (second, third) == (line(8), line(9))
        found.add(len(before))
    assert found == ({0, 1, 2, 3, 4, 5, 6} if kind == "jsonl" else {0, 2, 4, 6})


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_is_written_at_the_end(tmp_path: Path, kind: str) -> None:
    """Lines are compressed together, and the last ones with whatever ends it; what is not compressed never waits."""
    file = tmp_path / f"recording.{kind}"
    with suppress(KeyboardInterrupt), recorder(str(file)) as into:
        into.add(LINES[:1])
        assert into.pending == (kind != "jsonl")
        into.add(LINES[1:])
        raise KeyboardInterrupt
    assert read(file) == LINES


@pytest.mark.parametrize("kind", KINDS)
def test_long_lines(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last line that is longer than what is read at once is found whole."""
    monkeypatch.setattr(room, "CHUNK", 64)
    file = tmp_path / f"recording.{kind}"
    write(file, [line(number, "x" * 300) for number in range(1, 4)])
    assert write(file, []) == 3
    file.write_bytes(file.read_bytes()[:-3])
    assert write(file, []) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [b"a letter to my aunt", b"dear aunt,\nI am well", b"{}\n[", b"\x00" * 100])
def test_what_is_no_recording_is_kept(tmp_path: Path, kind: str, text: bytes) -> None:
    """A file of something else is refused, and stays as it is."""
    file = tmp_path / f"letter.{kind}"
    file.write_bytes(text)
    with pytest.raises(InvalidError, match="choose another file"):
        write(file, LINES)
    assert file.read_bytes() == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_name_that_says_something_else(tmp_path: Path, kind: str, other: str) -> None:
    """A recording that is compressed in another way than its name says is refused, whole or not, and stays as it is."""
    written, file = tmp_path / f"written.{other}", tmp_path / f"named.{kind}"
    write(written, LINES)
    for text in (written.read_bytes(), written.read_bytes()[:20]):
        file.write_bytes(text)
        if kind != other:
            with pytest.raises(InvalidError, match="choose another file"):
                write(file, LINES)
            assert file.read_bytes() == text
        else:
            assert write(file, LINES) == (6 if len(text) > 20 else None)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_spoiled_recording_is_kept(tmp_path: Path, kind: str) -> None:
    """Damage in the middle is no work of a killed recorder: what stands behind it is not cut off."""
    file = tmp_path / f"recording.{kind}"
    write(file, LINES)
    whole = file.read_bytes()
    spoiled = whole[:30] + bytes(20) + whole[50:]
    file.write_bytes(spoiled)
    with pytest.raises(InvalidError, match="is damaged after byte 0: choose another file"):
        write(file, LINES)
    assert file.read_bytes() == spoiled


def test_one_writer(tmp_path: Path) -> None:
    """A second one would spoil what the first writes, and is refused."""
    file = tmp_path / "recording.jsonl"
    with (
        recorder(str(file)) as into,
        pytest.raises(InvalidError, match="somebody else is recording to"),
        recorder(str(file)),
    ):
        pass
    assert (into.last, write(file, LINES), read(file)) == (None, None, LINES)


def test_zstandard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, or how to do without; no file is made."""
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match=r"pip install 'eventbus\[zstandard\]', or use a name that ends in .gz"):
        write(tmp_path / "recording.zst", LINES)
    assert not list(tmp_path.iterdir())


def test_a_full_disk() -> None:
    """It is an error of the system's, and nothing hides it."""
    with pytest.raises(OSError, match="No space left on device"):
        write(Path("/dev/full"), LINES)
