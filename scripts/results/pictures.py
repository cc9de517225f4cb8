"""The pictures of the page."""

from __future__ import annotations

from collections.abc import Iterator

from regrow.laws import fit
from regrow.planning import plan
from regrow.report.content import gather
from regrow.report.picture import picture_svg
from regrow.runs import CONTROL
from results import stopping
from results.evidence import Evidence
from results.fits import plan_spec


def pictures(seen: Evidence) -> Iterator[tuple[str, str]]:
    """Name and SVG: D* of the long runs; of each family and method, `p2` without the largest size, and its runs."""
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
