"""Pages do what they say: every command of their console blocks is run, and what it prints is compared.

A command in a comment (`<!-- $ regrow ... -->`) is run before the blocks that follow it; what it prints is not shown.
Words must be the same. Numbers may differ by a twentieth of themselves, as bootstrap refits depend on the machine in
their last digits. `REGROW_UPDATE_DOCS=1 pytest tests/docs/test_docs_commands.py` writes what is printed into the pages.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Pages, from docs/, and the fewest commands that each runs.
PAGES = {"../README.md": 1, "plan.md": 6, "import.md": 11, "faq.md": 2, "design.md": 4, "scores.md": 7}
_NUMBER = re.compile(r"\d[\d,]*\.?\d*(?:e[+-]?\d+)?")
_TOLERANCE = 0.05


def blocks(page: str) -> list[tuple[str, str | None]]:
    """(command as written, what it prints) of every console block; a command may go on over a final backslash.

    Of a command in a comment what it prints is None.
    """
    found: list[tuple[str, str | None]] = []
    for hidden, block in re.findall(r"<!-- \$ (.*?) -->|```console\n(.*?)```", page, re.DOTALL):
        if hidden:
            found.append((hidden, None))
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command is not None
            found.append((command[0].rstrip("\n"), part[command.end() :]))
    return found


def words(text: str) -> list[str]:
    return _NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "").rstrip(".")) for found in _NUMBER.findall(text)]


def test_the_comparison_can_fail() -> None:
    (block,) = blocks("```console\n$ regrow x \\\n  --y\nstop at 1.18M tokens (1,010 to 2e-3)\n```")
    assert block == ("regrow x \\\n  --y", "stop at 1.18M tokens (1,010 to 2e-3)\n")
    assert numbers(block[1]) == [1.18, 1010.0, 0.002]
    assert words(block[1]) == ["stop", "at", "#M", "tokens", "(#", "to", "#)"]


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_page_prints_what_the_page_says(name, monkeypatch, capsys, tmp_path: Path) -> None:
    from regrow.cli.main import main

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    path = ROOT / "docs" / name
    page = path.read_text()
    commands = blocks(page)
    assert len(commands) >= PAGES[name]
    for command, said in commands:
        monkeypatch.setattr("sys.argv", shlex.split(command.replace("\\\n", " ")))
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert not end.value.code, f"{command}: {err}"
        printed = "".join(f"{line.rstrip()}\n" for line in (out + err).splitlines())
        if said is None:
            continue
        if os.environ.get("REGROW_UPDATE_DOCS"):
            page = page.replace(f"$ {command}\n{said}", f"$ {command}\n{printed}")
            continue
        assert words(printed) == words(said), command
        assert numbers(printed) == pytest.approx(numbers(said), rel=_TOLERANCE), command
    if page != path.read_text():
        path.write_text(page)
