"""The documentation as a site: it builds without a complaint, is whole, and asks no other host for anything."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import eventbus
from eventbus import errors
from eventbus.cli.app import app
from harness import DEADLINE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"`(eventbus [^`]+)`")
HELD = {
    "python": "run by test_examples.py",
    "console": "run by test_examples.py",
    "toml": "read by test_readme.py and test_bridge_command.py",
    "conf": "given to a server by test_bridge_access.py",
    "py": "of other libraries, which need not be there: it is Python",
    "sh": "of a shell, which may not be run here: a shell can read it, and its commands are there",
    "ini": "a unit of systemd: what it starts is there",
    "text": "what is shown, not typed",
}


def tool(name: str) -> ModuleType:
    """A module of docs/site."""
    spec = importlib.util.spec_from_file_location(f"docs_site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It is built as by `make docs`, where a page that is in docs/ and not in the navigation, a link to nowhere, or a
    name that the reference does not find ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=10 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_asks_no_other_host(site: Path) -> None:
    """No page has a script, a style, a font or a picture from elsewhere."""
    pages = [*site.rglob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text()
        asked = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)", text)
        asked += re.findall(r"<link\b(?![^>]*rel=\"?canonical)[^>]*\bhref=\"?([^\"\s>]+)", text)
        assert [one for one in asked if re.match(r"(?:https?:)?//", one)] == [], page


def test_the_reference_has_all_that_is_public(site: Path) -> None:
    """Each name of ``eventbus``, and each class of error."""
    pages = [page.read_text() for page in (site / "reference").glob("*.html")]
    shown = {name for page in pages for name in re.findall(r'id="([\w.]+)"', page)}
    kinds = [name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)]
    wanted = {f"eventbus.errors.{name}" for name in kinds}
    wanted |= {f"eventbus.{name}" for name in eventbus.__all__ if name not in kinds}
    assert wanted - shown == set()


def every_command() -> Iterator[tuple[Any, Any]]:
    """Each command with its context, groups too."""
    command: Any = typer.main.get_command(app)
    waiting = [(command, command.make_context("eventbus", [], resilient_parsing=True))]
    for found, context in waiting:
        yield found, context
        for name in found.list_commands(context) if hasattr(found, "list_commands") else ():
            inner = found.get_command(context, name)
            waiting.append((inner, type(context)(inner, info_name=name, parent=context)))


def test_each_command_is_there(site: Path) -> None:
    """With every word of its help: what it does, its arguments and options, and its example."""
    page = (site / "commands.html").read_text()
    text = unescape(re.sub(r"<[^>]+>", "", page)).replace("\xb6", " ")
    for command, context in every_command():
        assert context.parent is None or f">{context.command_path}<" in page
        records = [one.get_help_record(context) for one in command.get_params(context)]
        said = [part for record in records if record is not None for part in record]
        if context.parent is not None:
            said.append(command.help)
        if context.parent is not None and not hasattr(command, "list_commands"):
            said.append(command.epilog.splitlines()[-1])
        for part in said:
            assert " ".join(part.replace("\b", "").split()) in " ".join(text.split()), context.command_path


def test_the_picture() -> None:
    """docs/travel.svg is what docs/site/travel.py draws."""
    assert (ROOT / "docs" / "travel.svg").read_text() == tool("travel").drawing()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_held(page: Path) -> None:
    """Each block of code is of a language that some test runs or reads."""
    for language, text in BLOCK.findall(page.read_text()):
        assert language in HELD, text
        if language == "py":
            compile(text, page.name, "exec")
        elif language == "sh":
            subprocess.run(["bash", "-n"], input=text, text=True, timeout=DEADLINE, check=True)


def shown_commands(page: Path) -> Iterator[str]:
    """The commands that it names in a sentence, a shell's block, or a unit."""
    text = page.read_text()
    blocks = [(language, block) for language, block in BLOCK.findall(text) if language in ("sh", "ini", "text")]
    yield from COMMAND.findall(BLOCK.sub("", text))
    for _, block in blocks:
        yield from re.findall(r"^(?:ExecStart=\S*/)?(eventbus [^|>#\n]+)", block, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named(page: Path) -> None:
    """It is a command with these options, which the program would understand if it got its arguments, too."""
    root: Any = typer.main.get_command(app)
    for line in shown_commands(page):
        words = shlex.split(line.replace("…", "..."))[1:]
        context = root.make_context("eventbus", [], resilient_parsing=True)
        command = root
        while words and hasattr(command, "list_commands") and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, line
            context = type(found.make_context(words[0], [], parent=context, resilient_parsing=True))(
                found, info_name=words.pop(0), parent=context
            )
            command = found
        known = {name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)}
        options = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
        assert options - known == set(), line
