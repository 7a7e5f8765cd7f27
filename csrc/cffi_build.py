"""Builds the compiled module from csrc/: run by setup.py, never at run time."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent
LEAVES = ["status.c", "wait.c", "names.c", "process.c", "notes.c", "locks.c", "segment.c", "ring.c", "bell.c"]
LEAVES += [
    "window.c",
    "figures.c",
    "apart.c",
    "group.c",
    "own_gate.c",
    "views.c",
    "timetable.c",
    "roster.c",
    "pages.c",
    "claims.c",
    "matching.c",
    "batch.c",
    "verdicts.c",
]
FLOWS = [
    "news.c",
    "settle.c",
    "bus.c",
    "porch.c",
    "rouse.c",
    "vigil.c",
    "hearing.c",
    "bystanders.c",
    "parking.c",
    "queue.c",
]
FLOWS += ["late.c", "wake.c", "room.c", "share.c"]
FLOWS += ["attachment.c", "schedule.c", "publish.c", "inspect.c", "make_group.c", "backlog.c", "linger.c", "keeper.c"]
FLOWS += ["peek.c", "single.c", "held.c", "relay.c", "member.c", "doze.c", "lend.c", "subscription.c"]
TESTING = os.environ.get("EVENTBUS_TEST_POINTS") == "1"
SANITIZE = os.environ.get("EVENTBUS_SANITIZE", "")  # "address,undefined" in `make asan`
COVERAGE = os.environ.get("EVENTBUS_COVERAGE") == "1"
COMPILER = os.environ.get("CC") or sysconfig.get_config_var("CC") or ""

FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
FLAGS += ["-D_FILE_OFFSET_BITS=64"]  # where words have 32 bits
LINKS = ["-pthread", "-lrt"]  # shm_unlink, before glibc 2.34
if "gcc" in COMPILER and not (TESTING or SANITIZE or COVERAGE):
    FLAGS += ["-flto"]  # what one event needs of several files is one function then
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    LINKS += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    FLAGS += ["--coverage", "-O0", "-fprofile-update=atomic", "-DEB_COVERAGE=1"]
    LINKS += ["--coverage"]


def declarations(header: Path) -> str:
    """The header without its preprocessor lines: what cffi reads."""
    return "\n".join(line for line in header.read_text().splitlines() if not line.startswith("#"))


def build() -> FFI:
    """The declarations and the sources, with the test points if EVENTBUS_TEST_POINTS=1."""
    headers = ["eventbus.h", "direct.h", "lent.h"] + (["testing.h"] if TESTING else [])
    sources = [*LEAVES, *FLOWS] + (["testing.c"] if TESTING else [])
    ffi = FFI()
    for header in headers:
        ffi.cdef(declarations(CSRC / header))
    ffi.set_source(
        "eventbus._eventbus",
        "\n".join(f'#include "{header}"' for header in headers),
        sources=[str((CSRC / source).relative_to(CSRC.parent)) for source in sources],
        include_dirs=[str(CSRC.relative_to(CSRC.parent))],
        define_macros=[("EB_TEST_POINTS", "1")] if TESTING else [],
        extra_compile_args=FLAGS,
        extra_link_args=LINKS,
        py_limited_api=True,
    )
    return ffi


ffibuilder = build()
