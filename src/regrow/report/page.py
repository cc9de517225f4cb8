"""The one-file HTML page: the content of a report, its style, and a planner that evaluates the laws by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regrow.arch import Architecture
from regrow.laws.law import Law
from regrow.planning.answer import Plan
from regrow.report import planner
from regrow.report.card import OF_DRAWS, OF_RUNS
from regrow.report.content import Content

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("planner.js", "planner_answer.js", "planner_chart.js", "planner_ui.js")


def render_page(
    content: Content, laws: Sequence[Law], plans: Sequence[Plan], models: Mapping[str, Architecture] | None = None
) -> str:
    """The page as text: no network, no trackers, no time stamp; all text from outside is escaped.

    The planner gets the laws themselves, and begins with the first plan. `models` are shapes that it offers besides the
    catalogue's.
    """
    data = planner.payload(laws, plans, models or {})
    template = _environment().get_template("page.html.j2")
    return template.render(
        content=content,
        of_draws=OF_DRAWS,
        of_runs=OF_RUNS,
        css=Markup(read("style.css") + read("chart.css")),
        planner=data is not None,
        planner_json=planner.as_script(data),
        planner_js=Markup("\n".join([planner.forms_script(), *(read(name) for name in _SCRIPTS)])),
    )


def read(name: str) -> str:
    """A template file as text."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
