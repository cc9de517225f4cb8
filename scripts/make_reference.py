"""Write the reference pages of the documentation from the code: `docs/reference/python.md` and `cli.md`.

`make docs` runs this first. The pages are not committed, so they cannot fall behind.

    python scripts/make_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.cli import get_docs_for_click
from typer.main import get_command

import regrow
from regrow.cli.main import build_app

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def python_page() -> str:
    """Every public name, grouped by the room it lives in; mkdocstrings fills in signatures and docstrings."""
    lines = ["# Python", "", "Everything here is `regrow.NAME`; rooms that need torch are imported on first use.", ""]
    for home, names in regrow._HOMES.items():
        lines += [f"## {home}", "", *(f"::: {home}.{name}" for name in names), ""]
    return "\n".join(lines)


def cli_page() -> str:
    """Every command with its options, as `--help` gives them."""
    command = get_command(build_app())
    context = command.make_context("regrow", [], resilient_parsing=True)
    page = get_docs_for_click(obj=command, ctx=context, name="regrow", title="Command line")
    return whole_summaries(page, command).rstrip() + "\n"


def whole_summaries(page: str, group: Any, path: str = "regrow") -> str:
    """The page with the first paragraph of each command's help in the lists of commands, where typer cuts it off."""
    start = max(page.find(f"# `{path}`"), 0)  # the list of a group stands below its own heading
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        line = re.compile(rf"^\* `{re.escape(name)}`: .*$", re.MULTILINE)
        page = page[:start] + line.sub(lambda _, n=name, text=summary: f"* `{n}`: {text}", page[start:], count=1)
        if hasattr(command, "commands"):
            page = whole_summaries(page, command, f"{path} {name}")
    return page


def main() -> None:
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / "python.md").write_text(python_page())
    (REFERENCE / "cli.md").write_text(cli_page())


if __name__ == "__main__":
    main()
