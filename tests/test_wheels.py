"""Which wheels are built, and how the compiler is called for them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

sys.path.append(str(Path(__file__).resolve().parent.parent / "csrc"))

from wheels import MACHINES, check, environment, targets

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"
RUNNERS = {"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}
IMAGES = {"manylinux": "slim-bookworm", "musllinux": "alpine"}


def test_targets() -> None:
    """Each machine has one; a wheel's symbols are never newer than its tag says."""
    platforms = {target.triple: target.platform for target in targets()}
    assert platforms == {
        "aarch64-linux-gnu.2.30": "manylinux_2_31_aarch64",
        "aarch64-linux-musl": "musllinux_1_2_aarch64",
        "x86_64-linux-gnu.2.30": "manylinux_2_31_x86_64",
        "x86_64-linux-musl": "musllinux_1_2_x86_64",
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


@pytest.fixture(name="jobs")
def made_jobs() -> dict[str, Any]:
    """Those of the workflow, by name."""
    jobs: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return jobs


def runs(job: dict[str, Any]) -> str:
    """What its steps run, one a line."""
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_workflow_builds_what_make_builds(jobs: dict[str, Any]) -> None:
    """It has no list of wheels of its own, and publishes nothing that was not tried."""
    assert "make wheels" in runs(jobs["build"])
    assert set(jobs["publish"]["needs"]) == {"smoke", "sdist"}
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]


def test_workflow_tries_each_wheel(jobs: dict[str, Any]) -> None:
    """On a runner of its machine, in an image of its C library, with each version of Python that it may be for."""
    matrix = jobs["smoke"]["strategy"]["matrix"]
    assert matrix["runner"] == [RUNNERS[machine] for machine in MACHINES]
    assert set(matrix["image"]) == {IMAGES[target.platform.partition("_")[0]] for target in targets()}
    supported = SpecifierSet(metadata("eventbus")["Requires-Python"])
    minors = [int(version.removeprefix("3.")) for version in matrix["python"]]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert supported.contains(f"3.{minors[0]}")
    assert not supported.contains(f"3.{minors[0] - 1}")


@pytest.mark.parametrize("shown", ["manylinux_2_34_x86_64", "linux_x86_64"])
def test_another_tag_ends_the_build(shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that auditwheel takes for another Linux than its name says is not released."""
    auditwheel = tmp_path / "auditwheel"
    auditwheel.write_text(f"""#!/bin/sh\necho '{{"overall_tag": "{shown}"}}'\n""")
    auditwheel.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=f"by its name and for {shown} by what auditwheel sees"):
        check(Path("some.whl"), "manylinux_2_31_x86_64")


@pytest.mark.release
def test_sdist_holds_the_sources(tmp_path: Path) -> None:
    """What a build needs, and the package; nothing that a build or a test left."""
    run = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(run, check=True, capture_output=True, text=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.[ch]")} - {"csrc/_eventbus.c"}
    sources |= {str(path.relative_to(ROOT)) for path in (ROOT / "eventbus").rglob("*.py")}
    assert sources | {"LICENSE", "README.md", "CHANGELOG.md", "setup.py", "csrc/cffi_build.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops - {"", "PKG-INFO", "setup.cfg", "MANIFEST.in", "pyproject.toml", "eventbus.egg-info"} <= {
        *("LICENSE", "README.md", "CHANGELOG.md", "setup.py", "csrc", "eventbus"),
    }
    assert [name for name in names if name.endswith((".so", ".o", ".pyc", "_eventbus.c"))] == []
