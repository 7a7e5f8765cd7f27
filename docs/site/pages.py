"""What the site has beside docs/: the README as its first page, the help of all commands, the changes, the tables."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import manual

ROOT = Path(__file__).resolve().parent.parent.parent
BESIDE = ("benchmarks/bridge/relay.py", *(f"benchmarks/results/*.{ending}" for ending in ("md", "png")))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them to the pages of docs/."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    files.append(File.generated(config, "commands.md", content=manual.page()))
    for path in (path for pattern in BESIDE for path in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between docs/ and what lies beside it in the repository: in the site all of it is in one folder."""
    if page.file.src_uri in ("index.md", "changelog.md"):
        return re.sub(r"(\]\(|src=\")docs/", r"\1", markdown)
    return markdown if "/" in page.file.src_uri else markdown.replace("](../", "](")
