"""The one-file HTML page: the content of a report, its style, and a planner that evaluates the laws by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from regrow.arch import Architecture
from regrow.laws.law import Law
from regrow.planning.answer import Plan
from regrow.report import planner
from regrow.report.card import OF_DRAWS, OF_RUNS
from regrow.report.content import Content
from regrow.report.figures import Key, fitted_key
from regrow.report.svg import legend_key

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("planner.js", "planner_answer.js", "planner_chart.js", "planner_ui.js")


def render_page(
    content: Content, laws: Sequence[Law], plans: Sequence[Plan], models: Mapping[str, Architecture] | None = None
) -> str:
    """The page as text: no network, no trackers, no time stamp; all text from outside is escaped.

    The planner gets the laws themselves, and begins with the first plan. `models` are shapes that it offers besides the
    catalogue's.
    """
    data = planner.payload(laws, plans, models or {}, content.sure)
    template = _environment().get_template("page.html.j2")
    return template.render(
        content=content,
        of_draws=OF_DRAWS,
        of_runs=OF_RUNS,
        css=Markup(bare(read("style.css") + read("chart.css"))),
        planner=data is not None,
        planner_level=f"{data['level']:.0%}" if data else "",
        planner_keys=_planner_keys(data["level"]) if data else [],
        planner_json=planner.as_script(data),
        planner_js=Markup(
            "\n".join([planner.forms_script({law.form for law in laws}), *(bare(read(name)) for name in _SCRIPTS)])
        ),
    )


def _planner_keys(level: float) -> list[Key]:
    """The legend of the planner's chart."""
    return [Key(svg=legend_key(0, mark=False), text=f"expected loss, with {level:.0%} of new runs"), fitted_key()]


def read(name: str) -> str:
    """A template file as text."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def bare(script: str) -> str:
    """A script or a style sheet without comments and indentation, which a page does not need; its lines stay."""
    text = re.sub(r"/\*.*?\*/", "", script, flags=re.DOTALL)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def code(text: str) -> Markup:
    """Text with what stands between backticks as code; all else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["code"] = code
    return environment
