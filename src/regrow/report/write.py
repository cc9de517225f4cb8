"""The formats of a report and the file it goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from regrow.arch import Architecture
from regrow.disk import write_bytes
from regrow.errors import InputError, one_of
from regrow.laws.law import Law
from regrow.planning.alternatives import Alternatives
from regrow.planning.answer import Plan
from regrow.planning.frontier import Comparison
from regrow.report.content import Content, gather
from regrow.report.markdown import render_markdown
from regrow.report.page import render_page
from regrow.report.picture import render_picture
from regrow.runs.record import RunRecord

#: Formats by the endings of file names; the first of each is its name.
FORMATS: Mapping[str, tuple[str, ...]] = {"html": (".html", ".htm"), "md": (".md", ".markdown"), "png": (".png",)}


def format_of(out: str | Path, given: str | None = None) -> str:
    """The format asked for, or that of the file's ending. Raises `InputError` where neither says."""
    if given is not None:
        return one_of(given, FORMATS, what="format", where="report")
    ending = Path(out).suffix.lower()
    for name, endings in FORMATS.items():
        if ending in endings:
            return name
    hint = f"give --format {', '.join(FORMATS)}, or a name that ends in one of them"
    raise InputError(f"no format is known for the ending {ending!r}", where=str(out), hint=hint)


class Parts(TypedDict, total=False):
    """What a report may hold besides runs, laws and plans; all of it may be missing.

    Attributes:
        title: heading of the report.
        held_out: runs that no law was fitted on; runs whose size or rate lies outside a law's data count as such, too.
        validation_rows: results of `regrow validate`, with the keys of its `--json`.
        notes: whatever else the reader must know, in plain words.
        alternatives: plans with what they were compared with: pruning in turns, training from scratch
            (`regrow.report.Answers.alternatives`, or `regrow.planning.alternatives.alternatives_to`).
        comparisons: methods and rates side by side (`regrow.planning.compare`), after the plans.
        comparison_asked: whether the comparisons' choice is given; else they stand beside the plans without one.
        models: shapes that the planner offers besides the catalogue's, by name.
    """

    title: str
    held_out: Sequence[RunRecord]
    validation_rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    alternatives: Sequence[Alternatives]
    comparisons: Sequence[Comparison]
    comparison_asked: bool
    models: Mapping[str, Architecture]


def build_report(
    runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan] = (), **parts: Unpack[Parts]
) -> str:
    """One self-contained HTML page: no network, no trackers, no time stamp; equal inputs give equal pages.

    Args:
        runs: what was measured: fitted runs and unpruned controls.
        laws: fitted laws, one section each.
        plans: answers, shown first.
        parts: see `Parts`.

    Any of the sequences may be empty. All text that comes from outside is escaped.
    """
    content, models = _gather(runs, laws, plans, parts)
    return render_page(content, laws, plans, models)


def build_markdown(
    runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan] = (), **parts: Unpack[Parts]
) -> str:
    """The report as GitHub-flavoured Markdown, for a pull request; arguments as for `build_report`."""
    return render_markdown(_gather(runs, laws, plans, parts)[0])


def build_picture(
    runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan] = (), **parts: Unpack[Parts]
) -> bytes:
    """The answer and its curves as a PNG picture, for a slide; arguments as for `build_report`.

    Raises `InputError` where the extra `png` or a font is missing.
    """
    return render_picture(_gather(runs, laws, plans, parts)[0])


def _gather(
    runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan], parts: Parts
) -> tuple[Content, Mapping[str, Architecture]]:
    """The content of a report, and the shapes that only its planner reads."""
    models = parts.get("models", {})
    rest: dict[str, Any] = {name: value for name, value in parts.items() if name != "models"}
    return gather(runs, laws, plans, **rest), models


def write_report(
    runs: Sequence[RunRecord],
    laws: Sequence[Law],
    plans: Sequence[Plan] = (),
    *,
    out: str | Path,
    form: str | None = None,
    **parts: Unpack[Parts],
) -> Path:
    """Write a report to `out` and return its path; arguments as for `build_report`.

    The format is `form` (`html`, `md` or `png`), else that of the file's ending. Raises `InputError` where neither
    says, or where it can't be written.
    """
    kind = format_of(out, form)
    if kind == "png":
        report = build_picture(runs, laws, plans, **parts)
    else:
        report = (build_markdown if kind == "md" else build_report)(runs, laws, plans, **parts).encode("utf-8")
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, report)
    except OSError as error:
        raise InputError(
            f"can't write here ({error.strerror or error})", where=str(path), hint="choose another --out"
        ) from None
    return path
