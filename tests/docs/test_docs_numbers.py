"""Numbers in the prose of a page are those of its own commands, or of a table that other tests hold.

`test_docs_commands` holds what the console blocks print, and prose quotes it: a number of three digits or more must
stand in a block of the same page, in a command or in what it prints, or in `ELSEWHERE` with its source.
"""

from __future__ import annotations

import re

import pytest
from test_docs_commands import PAGES, ROOT, numbers

#: Numbers that no block of the page prints, by page, and where they come from.
ELSEWHERE: dict[str, dict[float, str]] = {
    "../README.md": {14_000.0: "8.03B of the catalogue over 575k of the runs, in thousands"},
    "plan.md": {
        0.244: "nine blocks of Llama-3.1-8B, held by tests/cli/test_plan_command.py",
        0.217: "eight blocks of Llama-3.1-8B, held by tests/cli/test_plan_command.py",
        2026.0: "the year of a paper",
        2022.0: "the year of a paper",
        50_000.0: "read off the curve of examples/larger_run.csv, rounded",
    },
    "faq.md": {
        135.0: "parameters of SmolLM2-135M, in millions",
        0.6931: "the natural logarithm of 2",
        512.0: "a context, for an example",
        2048.0: "a context, for an example",
        42.1: "exp(3.7412), of a block",
        39.0: "exp(3.6628), of a block",
    },
    "design.md": {
        1.45: "benchmarks/planning/design.py, as the page says",
        1.11: "benchmarks/planning/design.py, as the page says",
        1.69: "benchmarks/planning/design.py, as the page says",
    },
    "scores.md": {
        197.0: "tokens of the last reading in studies/scores-llama.jsonl, in thousands",
        1.66: "python -m benchmarks.laws.scores, as the page says",
        82.5: "the table of the published run, as the page says",
    },
}
#: Prose may round what a block prints.
_ROUNDED = 0.005
#: With its unit: 98,304 or 3.0494 or 0.244; what belongs to a name (Llama-3.1-8B, 2:4, docs/x1.md) is no number.
_QUOTED = re.compile(r"(?<![\w./:#-])\d[\d,]*\.?\d*(?![\w]*[-:/_]\w|\w*\.\w)")
_SCALES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2}


def prose(page: str) -> str:
    """The page without its blocks, code, links, tables and comments."""
    page = re.sub(r"```.*?```|<!--.*?-->", " ", page, flags=re.DOTALL)
    page = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", page)
    return "\n".join(line for line in page.splitlines() if not line.lstrip().startswith("|"))


def shown(page: str) -> set[float]:
    """The numbers of the page's blocks."""
    found = set()
    for block in re.findall(r"```.*?```|`[^`]*`", page, re.DOTALL):
        found |= set(numbers(block))
    return found


def quoted(text: str) -> list[float]:
    """The numbers of three digits or more in prose."""
    found = []
    for match in _QUOTED.finditer(text):
        digits = match[0].rstrip(",.")
        if len(re.sub(r"[,.]", "", digits).lstrip("0")) >= 3:
            found.append(float(digits.replace(",", "")))
    return found


def is_shown(number: float, known: set[float]) -> bool:
    """Whether a block has this number, as it stands, rounded, as a percentage or with a suffix."""
    scales = [1.0, *(scale for scale in _SCALES.values()), *(1 / scale for scale in _SCALES.values())]
    return any(abs(number * scale - other) <= _ROUNDED * abs(other) for scale in scales for other in known)


def test_a_stale_number_is_found() -> None:
    page = "The loss is 3.185, D* 409k, 5.4 times.\n```console\n$ regrow x --a 3.1848\n```\n`409k` of Llama-3.1-8B, 2:4"
    assert quoted(prose(page)) == [3.185, 409.0]
    assert all(is_shown(number, shown(page)) for number in (3.185, 409.0))
    assert not is_shown(3.25, shown(page))
    assert quoted("98,304 tokens, 0.02 nats, 0.244, docs/x123.md, v1.234-x, 2025") == [98304.0, 0.244, 2025.0]


@pytest.mark.parametrize("name", PAGES)
def test_prose_quotes_what_the_commands_print(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    known, elsewhere = shown(page), ELSEWHERE.get(name, {})
    stale = [number for number in quoted(prose(page)) if not is_shown(number, known) and number not in elsewhere]
    assert not stale, f"{name}: no command of the page prints {stale}"
    used = quoted(prose(page))
    assert not [number for number in elsewhere if number not in used], f"{name}: no longer quoted"


def test_the_readme_quotes_the_table_of_results() -> None:
    def rows(text: str, heading: str) -> list[list[str]]:
        table = text[text.index(heading) :].split("\n\n")[0]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]

    results = {row[0]: row[1:] for row in rows((ROOT / "docs" / "results.md").read_text(), "| | `regrowth` | `p2` |")}
    quoted_rows = rows((ROOT / "README.md").read_text(), "| held out | `regrowth` | `p2` |")
    assert len(quoted_rows) >= 5
    for name, *values in quoted_rows:
        (found,) = [row for label, row in results.items() if name in label][:1]
        assert values == found, name
