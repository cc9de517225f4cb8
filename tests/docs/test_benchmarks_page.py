"""benchmarks/README.md names every script, with options that it has, and repeats no number that its page lacks."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "benchmarks" / "README.md"
_COMMAND = re.compile(r"`([^`]*\bbenchmarks[./]\w+[./][\w./]+[^`]*)`")
_LINK = re.compile(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.]*\w)")


def options_of(script: Path) -> set[str]:
    """Every `--option` that the script gives its parser: read, not run, as most scripts import torch at once."""
    calls = (node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call))
    added = (call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument")
    return {str(a.value) for call in added for a in call.args if isinstance(a, ast.Constant)}


def commands() -> list[list[str]]:
    """The commands of the page in words, from `python` or `regrow` on."""
    words = (shlex.split(command) for command in _COMMAND.findall(PAGE.read_text()))
    return [line[next(i for i, word in enumerate(line) if word in ("python", "regrow")) :] for line in words]


def script_of(words: list[str]) -> Path:
    """The script that `python -m benchmarks.ROOM.NAME ...` runs."""
    assert words[:2] == ["python", "-m"]
    return ROOT / f"{words[2].replace('.', '/')}.py"


def rows() -> list[list[str]]:
    """The cells of every row of the tables that ends in what a command printed."""
    lines = (
        line for line in PAGE.read_text().splitlines() if line.startswith("| ") and re.search(r"benchmarks[./]", line)
    )
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_script_is_on_the_page():
    run = {script_of(words) for words in commands() if words[0] == "python"}
    named = {PAGE.parent / name for name in re.findall(r"`(\w+/\w+\.py)`", PAGE.read_text())}
    assert run | named >= set(ROOT.glob("benchmarks/**/*.py"))


def test_every_folder_is_named_after_a_room():
    folders = {path.parent.name for path in ROOT.glob("benchmarks/**/*.py")}
    assert folders <= {path.name for path in (ROOT / "src" / "regrow").iterdir()}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_names_a_script_and_options_that_exist(words):
    if words[0] == "regrow":  # what regrow takes is asked of regrow, in test_docs_pages
        return
    script = script_of(words)
    assert script.is_file()
    assert {word for word in words[3:] if word.startswith("--")} <= options_of(script)


def test_options_are_read_from_the_script():
    assert options_of(ROOT / "benchmarks" / "cli" / "startup.py") == {"--runs"}


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_a_row_repeats_the_numbers_of_its_page(cells):
    printed = cells[-1]
    links = [(PAGE.parent / link).resolve() for link in _LINK.findall(printed)]
    numbers = _NUMBER.findall(_LINK.sub("", printed))
    if printed.startswith("here: "):
        return
    assert links or (not numbers and printed.startswith("on no page"))
    text = "".join(link.read_text() for link in links)
    for number in numbers:
        assert re.search(rf"(?<![\w.]){re.escape(number)}(?!\w)", text), f"{number} is not on {links}"
