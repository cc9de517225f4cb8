"""The documentation against the code: its commands exist, its links lead somewhere, its quick start runs."""

import json
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
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md"), *ROOT.glob("benchmarks/*.md")])
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
_BLOCK = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")


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


def text_of(page: Path) -> str:
    """The text of a page; of a notebook its Markdown cells."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return page.read_text()


def anchors(page: Path) -> set[str]:
    """The ids that a page's headings get, on the site and on GitHub."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def dead_links(page: Path, text: str) -> list[str]:
    """Links of a page to files and headings that are not there. `make docs` writes a notebook's page beside it."""
    dead = []
    for link, anchor in _LINK.findall(text):
        if ":" in link:
            continue
        target = (page.parent / link).resolve() if link else page
        if target.parent == DOCS / "notebooks":
            target = target.with_suffix(".ipynb")
        made = target.parent == DOCS / "reference" and target.stem in ("cli", "python")
        if not made and (not target.is_file() or (anchor and anchor not in anchors(target))):
            dead.append(f"{link}#{anchor}" if anchor else link)
    return dead


def test_a_dead_link_is_found():
    page = DOCS / "index.md"
    assert dead_links(page, "[a](concepts.md#the-control) [b](notebooks/logs-to-plan.md) [c](https://x.org/y.md)") == []
    text = "[a](concepts.md#no-such) [b](nowhere.md) [c](notebooks/none.ipynb) [d](#none)"
    assert dead_links(page, text) == ["concepts.md#no-such", "nowhere.md", "notebooks/none.ipynb", "#none"]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    assert dead_links(page, text_of(page)) == []


def test_the_site_has_every_page_once():
    def pages(entries):
        for entry in entries:
            (content,) = entry.values()
            yield from [content] if isinstance(content, str) else pages(content)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) == len(set(listed))
    written = {path.name for path in DOCS.glob("*.md")} | {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    assert {name for name in listed if not name.startswith("reference/")} == written


def test_the_reference_names_every_command_and_every_public_name():
    made = runpy.run_path(str(ROOT / "scripts" / "make_reference.py"))
    cli, python = made["cli_page"](), made["python_page"]()
    for name in COMMANDS:
        assert f"## `regrow {name}`" in cli
    assert not re.findall(r"^\* `[\w-]+`: .*\.\.\.$", cli, re.MULTILINE)  # summaries are whole
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
