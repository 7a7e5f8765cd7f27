"""Whose bus it is, who still has it, and what this process may do with it: a sentence each."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, ClosedError, InvalidError, UnavailableError
from eventbus.core import cgroup, native
from eventbus.core.holders import holders
from harness import DEADLINE, Fork, Line, arm, roster_of, take


def run(script: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A program of its own, with the released build."""
    command = [sys.executable, *options, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


# --- who it is ---


def test_identity(name: str) -> None:
    """It is the same in all processes and attachments, and another one for another bus of the name."""
    with eventbus.open(name, capacity=4096) as bus, eventbus.open(name) as other:
        assert len(bus.identity) == 32
        assert int(bus.identity, 16) >= 0
        assert bus.identity == other.identity == bus.stats().identity
        first = bus.identity
    with eventbus.open(name, capacity=4096) as bus:
        assert bus.identity != first
    with pytest.raises(ClosedError):
        bus.identity  # noqa: B018


def test_a_bus_that_a_thread_has_left_meanwhile_names_nobody(bus: Bus) -> None:
    """Whoever makes a sentence about a full ring may find the bus left: then it is without pids, and no other error."""
    handle = bus._handle
    assert handle is not None
    assert holders(handle.roster_fd) == [os.getpid()]
    bus.close()
    assert holders(handle.roster_fd) == []


def fill(bus: Bus) -> None:
    """Sends more than the ring holds."""
    for _ in range(20):
        bus.send("a", "k", "/p", "x" * 500, timeout=DEADLINE)


def test_a_removed_bus_says_so(name: str) -> None:
    """Its name gone, or another bus's by now, it is closed, its statistics say so, and a send that would wait fails."""
    others: list[Bus] = []
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("a"):
        assert not bus.closed
        assert not bus.stats().removed
        eventbus.unlink(name)
        for _ in range(2):
            assert bus.closed
            assert bus.stats().removed
            with pytest.raises(ClosedError, match=r"was removed \(eventbus.unlink\)"):
                fill(bus)
            others.append(eventbus.open(name, capacity=4096))
        assert not others[0].closed
        for other in others:
            other.close()


def keep_open(line: Line, name: str) -> None:
    """Has the bus open until it is told to end."""
    with eventbus.open(name):
        line.say()
        line.hear()


def test_a_bus_that_was_shut_down_names_who_has_it(fork: Fork, name: str) -> None:
    """Whoever wants to use it is told which process still has it, and what to do."""
    with eventbus.open(name, capacity=4096) as bus:
        child = fork(keep_open, name)
        child.hear()
        bus.shutdown()
        with (
            eventbus.open(name) as late,
            pytest.raises(ClosedError, match=rf"process {child.pid} still has it") as caught,
        ):
            late.subscribe("a")
        assert caught.value.details["pids"] == [child.pid]
        assert "eventbus.unlink()" in caught.value.message
        child.say()
        child.result()


def test_holders(fork: Fork, bus: Bus) -> None:
    """Who has a slot, or anything of the bus, is named by its pid."""
    fd = bus._handle.roster_fd  # type: ignore[union-attr]
    with bus.subscribe("a"):
        child = fork(keep_open, bus.name)
        child.hear()
        assert holders(fd) == sorted([os.getpid(), child.pid])
        assert holders(fd, 0) == [os.getpid()]
        assert holders(fd, 1) == []
        child.say()
        child.result()


def stop_in_the_group(line: Line, name: str) -> None:
    """A member that is stopped while it has its group's lock."""
    with eventbus.open(name) as bus, bus.subscribe("jobs", group="g") as member:
        line.say()
        line.hear()
        arm("group_locked", signal.SIGSTOP)
        member.receive(0)


def test_who_keeps_a_groups_lock_is_named(fork: Fork, bus: Bus) -> None:
    """A member that waits for a second in vain is told which process to look at."""
    with bus.subscribe("jobs", group="g") as member:
        child = fork(stop_in_the_group, bus.name)
        child.hear()
        child.say()
        child.wait_stopped()
        with pytest.raises(UnavailableError, match=f"process {child.pid} keeps the lock of the group 'g'") as caught:
            all(member.receive(0.1) is None for _ in range(1000))
        assert caught.value.details == {"pid": child.pid, "group": "g"}
        child.go_on()
        child.result()
        bus.send("jobs", "job", "/1")
        assert take(member).path == "/1"


# --- memory, rights, interpreters ---


def test_a_ring_larger_than_the_control_group_allows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error with the sizes and the remedy, before the kernel kills; what can be reclaimed counts as free."""
    (tmp_path / "cgroup").write_text("0::/here\n")
    here = tmp_path / "mount" / "here"
    here.mkdir(parents=True)
    monkeypatch.setattr(cgroup, "_OWN", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cgroup, "_MOUNT", str(tmp_path / "mount"))
    (here / "memory.max").write_text(f"{64 << 20}\n")
    (here / "memory.current").write_text(f"{60 << 20}\n")
    (here / "memory.stat").write_text(f"anon 1\ninactive_file {1 << 20}\nactive_file {1 << 20}\n")
    with pytest.raises(OSError, match=r"the control group /here allows 6291456 more.*smaller capacity") as caught:
        eventbus.open(name)
    assert caught.value.errno == 12
    assert not roster_of(name).exists()
    with eventbus.open(name, capacity=1 << 20):
        pass
    (here / "memory.max").write_text("max\n")
    with eventbus.open(name):
        pass


def test_a_control_group_of_version_1(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both segments together must fit; of a group without a limit only that is read."""
    (tmp_path / "cgroup").write_text("9:cpu,memory:/here\n8:pids:/there\n")
    here = tmp_path / "mount" / "memory" / "here"
    here.mkdir(parents=True)
    monkeypatch.setattr(cgroup, "_OWN", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cgroup, "_MOUNT", str(tmp_path / "mount"))
    size = native.ring_bytes(1 << 20) + native.roster_bytes(8)
    (here / "memory.usage_in_bytes").write_text("4096\n")
    (here / "memory.stat").write_text("cache 4096\ninactive_file 1\ntotal_inactive_file 0\ntotal_active_file 0\n")
    (here / "memory.limit_in_bytes").write_text(f"{4096 + size - 1}\n")
    with pytest.raises(OSError, match=rf"it needs {size} bytes, and the control group /here allows {size - 1} more"):
        eventbus.open(name, capacity=1 << 20, max_subscribers=8)
    (here / "memory.limit_in_bytes").write_text(f"{4096 + size}\n")
    with eventbus.open(name, capacity=1 << 20, max_subscribers=8):
        pass
    (here / "memory.limit_in_bytes").write_text(f"{(1 << 63) - 4096}\n")
    (here / "memory.usage_in_bytes").write_text(f"{(1 << 63) - 4096}\n")  # nobody looks
    with eventbus.open(name, capacity=1 << 20, max_subscribers=8):
        pass


OF_NOBODY = """
import os, sys, eventbus
os.setgroups([]); os.setgid(12345); os.setuid(12345)
os.umask(0o777)
with eventbus.open(sys.argv[1]) as bus, bus.subscribe("a") as sub, eventbus.open(sys.argv[1]) as other:
    other.send("a", "b", "/c")
    assert sub.receive(5) is not None
    print(oct(os.stat(f"/dev/shm/eventbus.{sys.argv[1]}.ring").st_mode & 0o777))
"""


@pytest.mark.release
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_umask_that_takes_everything(name: str) -> None:
    """The modes are what was asked for, whatever the umask, and its owner can use what it has made."""
    done = run(OF_NOBODY, name)
    assert (done.returncode, done.stdout) == (0, "0o600\n"), done.stderr


def fork_and_send(bus: Bus) -> str:
    """What a child says of its inherited bus."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            bus.send("a", "k", "/p")
        except ClosedError as error:
            os.write(write, error.message.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as pipe:
        return pipe.read()


def drop_privileges(line: Line, bus: Bus) -> list[str]:
    """What the calls say, here and in a child, after privileges were dropped."""
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
    said = []
    assert bus.send("a", "k", "/p")
    try:
        bus.subscribe("a")
    except PermissionError as error:
        said.append(str(error))
    said.append(fork_and_send(bus))
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may drop privileges")
def test_privileges_dropped(fork: Fork, bus: Bus) -> None:
    """A bus that was opened before goes on sending; what needs more says what happened and what to do."""
    subscribing, sending = fork(drop_privileges, bus).result()
    for said in (subscribing, sending):
        assert "before privileges were dropped" in said
        assert "12345" in said
    assert "eventbus.open()" in sending


SECOND = """
import sys, eventbus
bus = eventbus.open(sys.argv[1]); sub = bus.subscribe("a")
try:
    import _interpreters
    found = _interpreters.run_string(_interpreters.create("legacy"), "import eventbus")
    said = str(found.formatted if found is not None else "imported")
except ImportError:
    import _xxsubinterpreters as interpreters
    try:
        interpreters.run_string(interpreters.create(isolated=False), "import eventbus")
        said = "imported"
    except interpreters.RunFailedError as error:
        said = str(error)
bus.send("a", "b", "/c")
print(isinstance(sub.receive(1), eventbus.Event), said)
"""


@pytest.mark.release
def test_a_second_interpreter(name: str) -> None:
    """It is refused at import with a sentence, and the first one's types stay its own."""
    done = run(SECOND, name)
    assert done.stdout.startswith("True "), done
    assert "ImportError" in done.stdout
    assert "one interpreter per process" in done.stdout.replace("\n", " ")


@pytest.mark.release
def test_a_free_threaded_build(name: str) -> None:
    """It is refused at import with a sentence."""
    done = run("import sys; sys.abiflags = 't'; import eventbus", name)
    assert done.returncode == 1
    assert "ImportError: eventbus does not run on a free-threaded build" in done.stderr


# --- small things ---


@pytest.mark.parametrize("timeout", [10**400, -(10**400), float("nan"), float("-inf"), True, "1"])
def test_a_timeout_that_is_none(bus: Bus, timeout: object) -> None:
    """Whatever cannot be a number of seconds is an InvalidError, in every call, and pickles."""
    with bus.subscribe("a") as sub:
        for call in (
            lambda: sub.receive(timeout=timeout),  # type: ignore[arg-type]
            lambda: bus.send("a", "k", "/p", 1, timeout=timeout),  # type: ignore[arg-type]
            lambda: bus.wait_for_subscribers(5, timeout=timeout),  # type: ignore[arg-type]
            lambda: bus.request("a", "k", "/p", timeout=timeout),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidError, match="timeout"):
                call()


def test_an_error_pickles_whatever_is_in_its_details() -> None:
    """What cannot be pickled, or is not there in the other process, comes as it is written."""
    error = InvalidError("a bad event", event=lambda: None, sizes=[1, object()], pair=(1, "two"), name="x")
    seen = pickle.loads(pickle.dumps(error))
    assert (type(seen), seen.message) == (InvalidError, "a bad event")
    assert seen.details["event"].startswith("<function")
    assert seen.details["sizes"][0] == 1
    assert seen.details["sizes"][1].startswith("<object")
    assert (seen.details["pair"], seen.details["name"]) == ((1, "two"), "x")
