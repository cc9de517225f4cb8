"""The documentation against the code: its commands exist, its links lead somewhere, its quick start runs."""

import os
import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import regrow
from regrow.cli.main import COMMANDS, build_app, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)")


def commands(page: str) -> list[list[str]]:
    """The words of every `regrow` command in a page's shell blocks; a command may go on over a final backslash."""
    found = []
    for block in _BLOCK.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.removeprefix("$ ")
            if text.startswith("regrow "):
                # what follows a redirection is the shell's
                found.append(shlex.split(text.split(" > ")[0], comments=True))
    return found


def parse(words: list[str]) -> None:
    """Parse a command as the command line does, and run nothing. Raises what the command line would say."""
    group = get_command(build_app([words[1]] if words[1] in COMMANDS else COMMANDS))
    words = words[1:]
    while hasattr(group, "resolve_command"):
        # a group asked for nothing shows its help, so it is told not to look; what follows is looked at
        context = group.make_context("regrow", [], resilient_parsing=True)
        context.resilient_parsing = False
        name, group, words = group.resolve_command(context, words)
    group.make_context(name, list(words))


def test_the_parser_can_fail():
    assert commands("```sh\nregrow fit a \\\n  --form p2   # why\nls\n```") == [["regrow", "fit", "a", "--form", "p2"]]
    parse(["regrow", "fit", "a", "--form", "p2"])
    for wrong in (["regrow", "fti"], ["regrow", "fit", "a", "--from", "p2"], ["regrow", "runs", "lst", "a"]):
        with pytest.raises(Exception, match=r"No such|no such"):
            parse(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_a_page_is_one_that_exists(page):
    for words in commands(page.read_text()):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for link in _LINK.findall(page.read_text()):
        if "://" not in link:
            assert (page.parent / link).is_file(), link


def test_the_site_has_every_page_once():
    def pages(entries):
        for entry in entries:
            (content,) = entry.values()
            yield from [content] if isinstance(content, str) else pages(content)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) == len(set(listed))
    written = {path.name for path in ROOT.glob("docs/*.md")}
    assert {name for name in listed if not name.startswith("reference/")} == written


def test_the_reference_names_every_command_and_every_public_name():
    made = runpy.run_path(str(ROOT / "scripts" / "make_reference.py"))
    cli, python = made["cli_page"](), made["python_page"]()
    for name in COMMANDS:
        assert f"## `regrow {name}`" in cli
    for name in regrow.__all__:
        assert re.search(rf"^::: regrow\..*\.{name}$", python, re.MULTILINE), name


def test_the_quick_start_leads_to_an_answer(tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    ran = commands((ROOT / "docs" / "index.md").read_text())
    assert [words[1] for words in ran] == ["fit", "plan", "report"]
    for words in ran:
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
    assert "tokens" in capsys.readouterr().out
    assert os.path.getsize(tmp_path / "report.html") > 10_000
