"""The one-file HTML page: the content of a report, its style, and a planner that evaluates the laws by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regrow.laws.law import Law
from regrow.planning.answer import Plan
from regrow.report import planner
from regrow.report.content import Content

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("planner.js", "planner_answer.js", "planner_chart.js", "planner_ui.js")


def render_page(content: Content, laws: Sequence[Law], plans: Sequence[Plan]) -> str:
    """The page as text: no network, no trackers, no time stamp; all text from outside is escaped.

    The planner gets the laws themselves, and begins with the first plan.
    """
    data = planner.payload(laws, plans)
    template = _environment().get_template("page.html.j2")
    return template.render(
        content=content,
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
