"""The pictures of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regrow.laws import fit
from regrow.planning import plan
from regrow.report.collapse import collapse_chart
from regrow.report.content import gather
from regrow.report.page import read
from regrow.report.picture import FONTS, flat_style, picture_svg
from regrow.runs import CONTROL
from results import stopping
from results.evidence import Evidence
from results.fits import plan_spec


def pictures(seen: Evidence) -> Iterator[tuple[str, str]]:
    """Name and SVG: the collapse; D* of the long runs; of each group, `p2` without the largest size, and its runs."""
    yield "results_collapse.svg", collapse_picture(seen) + "\n"
    yield "results_stopping.svg", stopping.picture(seen.stops, stopping.GAINS[0]) + "\n"
    for family, method in dict.fromkeys((run.family, run.method) for run in seen.base if not run.is_control):
        runs = [run for run in seen.base if run.family == family and run.method in (method, CONTROL)]
        largest = max(run.params_before for run in runs)
        fitted = [run for run in runs if run.params_before < largest]
        unseen = [run for run in runs if run.params_before == largest and not run.is_control]
        (law,) = fit(fitted, form="p2")
        middle = sorted(unseen, key=lambda run: run.pruning_rate)[len(unseen) // 2]
        title = f"{family}, {method}: the largest model, predicted from the smaller ones"
        content = gather(fitted, [law], [plan(law, plan_spec(middle))], held_out=unseen, title=title)
        yield f"results_{family}_{method.replace(':', 'of')}.svg", picture_svg(content) + "\n"


def collapse_picture(seen: Evidence) -> str:
    """The report's picture of all methods of both families, with its legend on top."""
    chart, keys = collapse_chart(seen.laws["regrowth"], seen.base, "collapse")
    legend, x = "", 16.0
    for key in keys:
        small = str(key.svg).replace("<svg ", SMALL, 1)
        legend += f'<g transform="translate({x:.0f} 12)">{small}<text x="36" y="11">{key.text}</text></g>'
        x += 46 + 5.6 * len(key.text)
    for i, colour in enumerate(re.findall(r"--c\d: (#[0-9a-f]{6});", read("style.css").split("@media", 1)[0])):
        legend = legend.replace(f"var(--c{i})", colour)
    body = str(chart).replace("<svg ", '<svg width="560" height="320" ', 1)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 580 360" font-size="11" '
        f'font-family="{FONTS}"><style>{flat_style()}</style><rect width="580" height="360" fill="#ffffff"/>{legend}'
        f'<g transform="translate(10 32)">{body}</g></svg>'
    )


SMALL = '<svg width="32" height="14" '
