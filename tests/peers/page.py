"""The page that shows what came of the libraries' suites."""

from __future__ import annotations

from collections.abc import Iterable

from peers.suites import Verdict

HEAD = """\
# Other libraries' own tests, over eventbus

Made by `make peers`, which fetches the source distributions of these libraries, puts ours in the place of theirs and
runs their tests as they are. None of their code is kept here. It ends with an error if a test does not pass and has no
reason below. broadcaster and channels itself are not among them: their source distributions (0.2.0, 0.3.0, 0.3.1;
2.4.0, 3.0.5, 4.0.0, 4.2.2, 4.3.2) hold no tests.

"""


def page(verdicts: Iterable[Verdict]) -> str:
    """The page in Markdown."""
    found = list(verdicts)
    lines = [HEAD + _row("library", "version", "suite", "passed", "not passed"), _row(*["---"] * 5)]
    for verdict in found:
        suite = verdict.suite
        lines.append(
            _row(suite.library, suite.version, suite.name, str(verdict.passed), str(len(verdict.amiss)) or "-")
        )
    for verdict in found:
        if verdict.amiss:
            lines += _reasons(verdict)
    return "\n".join(lines) + "\n"


def _reasons(verdict: Verdict) -> list[str]:
    """What did not pass, and why."""
    lines = [f"\n## {verdict.suite.library}: {verdict.suite.name}\n", _row("test", "not passed", "why")]
    lines.append(_row(*["---"] * 3))
    for test, why in verdict.suite.reasons.items():
        if explained := verdict.explained(test):
            lines.append(_row(f"`{test}`", str(len(explained)), why))
    lines += [_row(f"`{outcome.test}`", "1", "NO REASON") for outcome in verdict.unexplained]
    return lines


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
