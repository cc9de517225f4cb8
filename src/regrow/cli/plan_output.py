"""How a plan is printed, by `regrow plan` and by `regrow report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from regrow.cli.options import warn
from regrow.cli.tables import print_block, say

if TYPE_CHECKING:
    from regrow.planning.answer import Plan


def suggest_reference(answer: Plan, named: str | None) -> None:
    """Name the law that the package ships, where the model is too large for the law asked and not for that one."""
    from regrow.laws import load_laws
    from regrow.laws.files import REFERENCE_NAME
    from regrow.planning.support import MOST_TIMES_DESIGNED
    from regrow.units import format_count

    if named is not None or answer.extrapolates.get("params_before", 1.0) <= MOST_TIMES_DESIGNED:
        return
    low, high = load_laws(REFERENCE_NAME)[0].ranges["params_before"]
    if low / MOST_TIMES_DESIGNED <= answer.params_before <= high * MOST_TIMES_DESIGNED:
        say(
            f"note: the law that the package ships knows models up to {format_count(high)} and answers for this one: "
            "--law reference in place of the law file, with --loss-pruned",
            err=True,
        )


def print_plans(answers: Sequence[Plan], *, verbose: bool) -> None:
    """Print each plan as its verdict and a short block.

    The two warnings that matter most go to stderr in one line, or with `verbose` each on its own.
    """
    from regrow.planning.notes import merged

    for number, answer in enumerate(answers):
        if number:
            typer.echo("")
        say(answer.judgement())
        print_block(answer.facts())
    for answer, of in zip(answers, _told_apart(answers), strict=True):
        if verbose:
            warn(f"{of}{warning}" for warning in answer.warnings)
        elif answer.warnings:
            warn([f"{of}{merged(answer.warnings)}; docs/plan.md explains them"])


def _told_apart(answers: Sequence[Plan]) -> list[str]:
    """How the warnings of each plan begin: by its rate, and by its method and benchmark where these differ."""
    if len(answers) == 1:
        return [""]
    methods = len({answer.method for answer in answers}) > 1
    benchmarks = [None if answer.scored is None else answer.scored.benchmark for answer in answers]
    return [
        f"{answer.method + ' ' if methods else ''}at {answer.pruning_rate:.3g}"
        f"{'' if name is None or len(set(benchmarks)) == 1 else ', ' + name}: "
        for answer, name in zip(answers, benchmarks, strict=True)
    ]
