"""The programs in tests/c: compiled with the core and its test points, and run; each says itself what is not so."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted(path for path in (ROOT / "csrc").glob("*.c") if path.name != "_eventbus.c")
PROGRAMS = sorted((ROOT / "tests" / "c").glob("test_*.c"))
CROWDS = sorted((ROOT / "tests" / "c").glob("stress*.c"))
FLAGS = ["-std=gnu11", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread", "-DEB_TEST_POINTS=1"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FUZZ = ROOT / "tests" / "fuzz"
FUZZ_TARGETS = sorted(FUZZ.glob("fuzz_*.c"))
STRESS_SECONDS = 2
DEADLINE = 120  # seconds until a program counts as hanging


def run(*command: str | Path) -> None:
    """Runs the command without whatever sanitizer the suite itself runs under; what it printed is the error."""
    kept = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    done = subprocess.run(
        command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}", pytrace=False)


@dataclass(frozen=True)
class Compiler:
    """The flags that work here, and the core as objects."""

    flags: list[str]
    objects: list[Path]
    into: Path

    def program(self, source: Path, *more: str) -> Path:
        """Compiles and links one program; to make it itself fast, and not only the core, takes longer than it runs."""
        to = self.into / source.stem
        run("gcc", *self.flags, "-O0", *more, "-I", ROOT / "csrc", "-o", to, source, *self.objects)
        return to


def sanitizers(into: Path) -> list[str]:
    """Their flags, or none where a program that does nothing cannot be built with them or does not run."""
    source = into / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    try:
        run("gcc", *SANITIZERS, "-o", into / "nothing", source)
        run(into / "nothing")
    except pytest.fail.Exception:
        return []
    return SANITIZERS


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    into = tmp_path_factory.mktemp("c")
    flags = FLAGS + sanitizers(into)
    if os.environ.get("EVENTBUS_COVERAGE") == "1":  # kept beside what the suite itself covers of the core
        into = ROOT / "build" / "coverage" / "c"
        into.mkdir(parents=True, exist_ok=True)
        flags = [*FLAGS, "--coverage", "-O0", "-fprofile-update=atomic", "-DEB_COVERAGE=1"]
    objects = [into / f"{source.stem}.o" for source in CORE]
    for source, to in zip(CORE, objects, strict=True):
        run("gcc", *flags, "-c", "-o", to, source)
    return Compiler(flags, objects, into)


@pytest.mark.parametrize("source", PROGRAMS, ids=lambda source: source.stem)
def test_every_moment_built_by_hand_is_as_the_protocol_says(source: Path, compiler: Compiler) -> None:
    """Each check of a program in tests/c holds, and no sanitizer objects."""
    run(compiler.program(source))


@pytest.mark.parametrize("source", CROWDS, ids=lambda source: source.stem)
def test_threads_on_one_bus_hear_all_in_order(source: Path, compiler: Compiler) -> None:
    """Under load no event is torn, lost, doubled or out of order without being counted."""
    run(compiler.program(source), str(STRESS_SECONDS))


@pytest.mark.parametrize("source", FUZZ_TARGETS, ids=lambda source: source.stem)
def test_no_input_that_a_fuzzer_kept_ends_badly(source: Path, compiler: Compiler) -> None:
    """Damage of every kind that fuzzing has told apart ends with a status, and no sanitizer objects."""
    corpus = sorted((FUZZ / "corpus" / source.stem.removeprefix("fuzz_")).iterdir())
    assert corpus
    run(compiler.program(source, "-DEB_REPLAY"), *corpus)


def test_a_check_that_does_not_hold_fails_the_program(compiler: Compiler) -> None:
    """A program whose truth is none ends with its sentence."""
    source = compiler.into / "untrue.c"
    source.write_text(f'#include "{ROOT}/tests/c/check.h"\nint main(void) {{ CHECK("one is two", 1 == 2); }}\n')
    program = compiler.program(source)
    with pytest.raises(pytest.fail.Exception, match="not so: one is two"):
        run(program)
