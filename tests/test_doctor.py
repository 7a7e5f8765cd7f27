"""``eventbus doctor``: each thing that can be wrong with a host is provoked, and found."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container import MS_BIND, MS_RDONLY, MS_REMOUNT, Container, mount, mount_shared_memory
from eventbus.cli import app as cli
from eventbus.cli import host
from eventbus.core import cgroup
from harness import SHARED_MEMORY, Fork, Line
from test_mounts import mounted

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make mounts of its own")
NOBODY = 65534


def doctor(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Its exit code, what it finds, and what it says to people."""
    texts = []
    for options in (["--json"], []):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = cli.run(["doctor", *arguments, *options])
        texts.append(out.getvalue())
    return code, json.loads(texts[0])["findings"], texts[1]


def checked(_: Line) -> tuple[int, list[dict[str, Any]], str]:
    return doctor()


def found(fork: Fork, job: Callable[[Line], Any], check: str, problem: str, remedy: str) -> None:
    """The job spoils a host of its own; then it has this one thing wrong, and people are told in one line."""

    def spoilt(line: Line) -> tuple[int, list[dict[str, Any]], str]:
        mount_shared_memory(64)
        job(line)
        return doctor()

    code, findings, text = mounted(fork, spoilt)
    assert [(one["check"], one["bus"]) for one in findings] == [(check, None)]
    assert problem in findings[0]["problem"]
    assert remedy in findings[0]["remedy"]
    assert text == f"{findings[0]['problem']}: {findings[0]['remedy']}\n"
    assert code == 1


@root_only
def test_a_sane_host(fork: Fork) -> None:
    """Nothing is found, and the exit code is 0."""

    def sane(_: Line) -> tuple[int, list[dict[str, Any]], str]:
        mount_shared_memory(64)
        return doctor()

    said = "nothing is wrong with this host and its buses, of which 0 were looked at\n"
    assert mounted(fork, sane) == (0, [], said)


@root_only
def test_no_shared_memory(fork: Fork) -> None:
    """There is no /dev/shm, and it says how to mount one."""
    found(
        fork,
        lambda _: mount(b"tmpfs", b"/dev", b"tmpfs"),
        "shm",
        "there is no shared memory at /dev/shm (No such file or directory)",
        "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
    )


@root_only
def test_read_only_shared_memory(fork: Fork) -> None:
    """It is mounted so that nothing can be made in it."""

    def read_only(_: Line) -> None:
        mount(b"/dev/shm", b"/dev/shm", None, MS_BIND)
        mount(b"none", b"/dev/shm", None, MS_REMOUNT | MS_BIND | MS_RDONLY)

    found(fork, read_only, "shm", "/dev/shm is mounted read-only", "mount -o remount,rw /dev/shm")


@root_only
def test_small_shared_memory(fork: Fork) -> None:
    """It is smaller than a bus of the usual size."""
    problem = f"/dev/shm has {8 << 20} bytes, and a bus of the usual size takes {host.NEED}"
    found(fork, lambda _: mount_shared_memory(8), "shm", problem, "docker run --shm-size")


@root_only
def test_full_shared_memory(fork: Fork) -> None:
    """It is large enough, and used up."""

    def fill(_: Line) -> None:
        with (SHARED_MEMORY / "large").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 60 << 20)

    found(fork, fill, "shm", f"/dev/shm has {4 << 20} bytes free", "remove what is abandoned there")


@root_only
def test_shared_memory_without_files(fork: Fork) -> None:
    """There is room in it, but no name is left."""

    def fill(_: Line) -> None:
        mount(b"tmpfs", bytes(SHARED_MEMORY), b"tmpfs", 0, b"size=64m,nr_inodes=2")
        (SHARED_MEMORY / "last").touch()

    found(fork, fill, "shm", "no file can be made in /dev/shm any more", "nr_inodes")


@root_only
def test_shared_memory_that_is_on_a_disk(fork: Fork) -> None:
    """What is mounted there is no tmpfs: here a ramfs stands for it."""
    found(
        fork,
        lambda _: mount(b"ramfs", bytes(SHARED_MEMORY), b"ramfs"),
        "shm",
        "/dev/shm is no tmpfs but of type ramfs",
        "mount -t tmpfs",
    )


@root_only
def test_shared_memory_of_somebody_else(fork: Fork) -> None:
    """This user may not write to it."""

    def forbid(_: Line) -> None:
        doctor()  # what it imports may be out of reach afterwards
        SHARED_MEMORY.chmod(0o755)
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)

    found(
        fork,
        forbid,
        "shm",
        f"uid {NOBODY} may not make files in /dev/shm, which is of uid 0 with mode drwxr-xr-x",
        "chmod 1777 /dev/shm",
    )


@root_only
def test_no_proc(fork: Fork) -> None:
    """Without it no bus can be opened."""
    found(fork, lambda _: mount(b"tmpfs", b"/proc", b"tmpfs"), "proc", "/proc is not mounted", "mount -t proc")


@root_only
def test_the_proc_of_others(fork: Fork) -> None:
    """A container in which /proc is the host's: processes have other pids there."""
    try:
        container = Container(fork)
    except PermissionError as error:
        pytest.skip(f"the container that this runs in forbids namespaces: {error}")
    try:
        with container.inside():
            code, findings, _ = fork(checked_alone).result()
    finally:
        container.release()
    assert [one["check"] for one in findings] == ["proc"]
    assert "/proc is that of another PID namespace" in findings[0]["problem"]
    assert code == 1


def checked_alone(_: Line) -> tuple[int, list[dict[str, Any]], str]:
    mount_shared_memory(64)
    return doctor()


LIMITS = [
    (resource.RLIMIT_NOFILE, 40, "a process may have 40 files open", "ulimit -n 1024"),
    (resource.RLIMIT_FSIZE, 1 << 20, f"a process may write files of {1 << 20} bytes", "ulimit -f unlimited"),
    (resource.RLIMIT_AS, 3 * host.NEED, f"a process may have {3 * host.NEED} bytes of addresses", "ulimit -v"),
]


@pytest.mark.parametrize(("kind", "limit", "problem", "remedy"), LIMITS)
def test_limits(kind: int, limit: int, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few descriptors, bytes of a file, addresses."""
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (limit if asked == kind else -1, -1))
    (finding,) = host.limits()
    assert (finding.check, problem in finding.problem, remedy in finding.remedy) == ("limits", True, True)


def test_files_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all that it allows are open."""
    monkeypatch.setattr(host, "PROC", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    assert [*host.limits()] == []
    (tmp_path / "sys" / "fs").mkdir(parents=True)
    for used, problems in ((900, 0), (901, 1)):
        (tmp_path / "sys" / "fs" / "file-nr").write_text(f"{used}\t0\t1000\n")
        assert [one.check for one in host.limits()] == ["limits"] * problems


@pytest.mark.parametrize("used", [0, 50 << 20])
def test_memory_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: int) -> None:
    """A container that allows less memory than a bus takes."""
    (tmp_path / "cgroup").write_text("0::/here\n")
    folder = tmp_path / "mount" / "here"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{60 << 20}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("inactive_file 0\nactive_file 0\n")
    monkeypatch.setattr(cgroup, "_OWN", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cgroup, "_MOUNT", str(tmp_path / "mount"))
    findings = [*host.memory()]
    if used == 0:
        assert findings == []
        return
    (finding,) = findings
    assert finding.check == "memory"
    assert f"it needs {host.NEED} bytes, and the control group /here allows {10 << 20} more" in finding.problem
    assert "docker run --memory" in finding.remedy


@pytest.fixture
def logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with systemd, as an ordinary user sees it."""
    for name in ("ETC", "RUN", "LINGER"):
        monkeypatch.setattr(host, name, tmp_path / name)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("anna", "", 1000, 1000, "", "/", "/bin/sh")))
    (tmp_path / "RUN" / "systemd" / "system").mkdir(parents=True)
    (tmp_path / "ETC" / "systemd" / "logind.conf.d").mkdir(parents=True)
    (tmp_path / "LINGER").mkdir()
    return tmp_path


def test_remove_ipc(logind: Path) -> None:
    """logind removes what a user leaves unless it is told not to: by default, too."""
    (finding,) = host.remove_ipc()
    assert finding.check == "remove-ipc"
    assert "when the last session of 'anna' ends, systemd-logind removes the buses" in finding.problem
    assert "loginctl enable-linger anna" in finding.remedy


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({"logind.conf": "[Login]\n#RemoveIPC=no\n"}, 1),
        ({"logind.conf": "[Login]\nRemoveIPC=no\n"}, 0),
        ({"logind.conf": "[Login]\nRemoveIPC=no\n", "logind.conf.d/1.conf": "[Login]\nRemoveIPC=yes\n"}, 1),
        ({"logind.conf": "nonsense\n", "logind.conf.d/1.conf": "[Login]\nRemoveIPC = off\n"}, 0),
        (
            {"logind.conf.d/1.conf": "[Login]\nRemoveIPC=no\n", "logind.conf.d/2.conf": "[Login]\nKillUserProcesses\n"},
            0,
        ),
    ],
)
def test_remove_ipc_as_it_is_configured(logind: Path, files: dict[str, str], problems: int) -> None:
    """Files beside the first one come after it, in the order of their names."""
    for name, text in files.items():
        (logind / "ETC" / "systemd" / name).write_text(text)
    assert len([*host.remove_ipc()]) == problems


@pytest.mark.parametrize("why", ["a system user", "no systemd", "lingers"])
def test_who_keeps_what_they_leave(logind: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Nothing is removed of system users, where there is no systemd, and of users who linger."""
    if why == "a system user":
        monkeypatch.setattr(os, "geteuid", lambda: 999)
    elif why == "no systemd":
        (logind / "RUN" / "systemd" / "system").rmdir()
    else:
        (logind / "LINGER" / "anna").touch()
    assert [*host.remove_ipc()] == []
