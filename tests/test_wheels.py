"""Which wheels are built, and how the compiler is called for them."""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

sys.path.append(str(Path(__file__).resolve().parent.parent / "csrc"))

from wheels import environment, targets


def test_targets() -> None:
    """Each machine has one; a wheel's symbols are never newer than its tag says."""
    platforms = {target.triple: target.platform for target in targets()}
    assert platforms == {
        "aarch64-linux-gnu.2.30": "manylinux_2_31_aarch64",
        "x86_64-linux-gnu.2.30": "manylinux_2_31_x86_64",
    }


def test_names_are_those_that_pip_reads() -> None:
    """One file for all versions of Python from 3.10 on."""
    for target in targets():
        tags = parse_wheel_filename(f"eventbus-0.1.0-cp310-abi3-{target.platform}.whl")[3]
        assert tags == {Tag("cp310", "abi3", target.platform)}


def test_the_compiler_is_that_of_the_target() -> None:
    """It compiles and links, and takes no options of the one that built this Python."""
    for target in targets():
        variables = environment(target)
        assert f"-target {target.triple}" in variables["CC"]
        assert variables["LDSHARED"] == f"{variables['CC']} -shared"
        assert (variables["CFLAGS"], variables["LDFLAGS"]) == ("", "")
