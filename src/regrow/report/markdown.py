"""A report as GitHub-flavoured Markdown, for a pull request: sentences, tables and warnings, no charts."""

from __future__ import annotations

from collections.abc import Iterable

from regrow.report.alternatives import AlternativeSection
from regrow.report.card import Card
from regrow.report.content import Content, LawSection
from regrow.report.present import Table

#: What Markdown or HTML would read as markup. A mention would call people, a number sign link to an issue.
_PLAIN = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\`*_[]|~"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "@": "&#64;",
        "#": "&#35;",
    }
)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line: names from runs can hold anything."""
    return " ".join(text.split()).translate(_PLAIN)


def render_markdown(content: Content) -> str:
    """The content as Markdown: the answer first, then held-out errors, then each law folded away."""
    parts = [f"# {escape(content.title)}", escape(content.summary), *_answer(content)]
    if content.held_out or content.validation:
        parts.append("## Held-out errors")
        parts += [_table(table) for table in (content.held_out, content.validation) if table is not None]
    if content.laws:
        parts.append("## Laws")
        for law in content.laws:
            parts += _law(law)
    if content.controls is not None:
        parts += ["## Controls", _table(content.controls.table)]
    return "\n\n".join(part for part in (*parts, f"<sub>{escape(content.provenance)}</sub>") if part) + "\n"


def _answer(content: Content) -> Iterable[str]:
    yield "## The answer"
    if not content.cards:
        yield "No plan was asked for."
    for number, card in enumerate(content.cards):
        if number == 0:
            yield from _card(card)
        else:
            inside = "\n\n".join(part for part in _card(card) if part)
            summary = f"<summary>{escape(card.heading)}: {escape(card.headline)}</summary>"
            yield f"<details>{summary}\n\n{inside}\n\n</details>"
    if content.plans is not None:
        yield _table(content.plans)
    yield _list(f":warning: {escape(note)}" for note in content.notes)
    for scores in content.scores:
        yield f"### Scores: {escape(scores.heading)}"
        yield _list(escape(panel.heading) for panel in scores.panels)
        yield _table(scores.table)
    for title, sections in (("One step, or in turns", content.stages), ("Pruned, or from scratch", content.scratch)):
        for section in sections:
            yield from _alternative(title, section)
    for one in content.comparisons:
        yield f"### Methods and rates: {escape(one.heading)}"
        yield f"{escape(one.sentence)} {escape(one.stopping)}"
        yield _table(one.table)
        yield _list(f"not planned: {escape(reason)}" for reason in one.refused)


def _alternative(title: str, section: AlternativeSection) -> Iterable[str]:
    """What a plan was compared with, in sentences and as a table."""
    yield f"### {title}: {escape(section.heading)}"
    yield _list(escape(sentence) for sentence in section.sentences)
    yield _list(f":warning: {escape(warning)}" for warning in section.warnings)
    if section.table.rows:
        yield _table(section.table)


def _card(card: Card) -> Iterable[str]:
    """A plan: the headline and the verdict, then the lines of `regrow plan`, then how sure it is."""
    interval = f" ({escape(card.interval)})" if card.interval and not card.next_run else ""
    yield f"**{escape(card.headline)}**{interval}: {escape(card.heading)}"
    yield f"Verdict: {escape(card.judgement)}"
    rows = [f"| {escape(name)} | {escape(text)} |" for name, text in card.facts.items()]
    yield "\n".join(["| plan | |", "| :-- | :-- |", *rows])
    yield f"How sure: {escape(card.sure)}"
    yield _list(f":warning: {escape(warning)}" for warning in card.warnings)


def _law(law: LawSection) -> Iterable[str]:
    yield f"### {escape(law.heading)}"
    yield escape(law.about)
    yield f"`{law.formula}`"
    yield _list(f":warning: {escape(warning)}" for warning in law.warnings)
    yield _table(law.parameters)
    for table in (law.trends, law.checks):
        if table is not None:
            yield _table(table)
    if law.runs.rows:
        yield f"<details><summary>{escape(law.runs.label)}</summary>\n\n{_table(law.runs)}\n\n</details>"


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(table: Table) -> str:
    """The caption, then a table whose first column (and a last one of words) is left-aligned, the others right."""
    last = len(table.head) - 1
    align = [":--" if i == 0 or (i == last and table.wide_end) else "--:" for i in range(len(table.head))]
    lines = [_row(table.head), _row(align, plain=True)]
    for row in table.rows:
        cells = [escape(cell) for cell in row.cells]
        if row.held_out:
            cells[0] = f"*{cells[0]}*"
        lines.append(_row([f"**{cell}**" for cell in cells] if row.strong else cells, plain=True))
    return f"{escape(table.caption)}\n\n" + "\n".join(lines)


def _row(cells: Iterable[str], *, plain: bool = False) -> str:
    return f"| {' | '.join(cell if plain else escape(cell) for cell in cells)} |"
