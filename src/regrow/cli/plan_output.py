"""How a plan is printed, by `regrow plan` and by `regrow report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from regrow.cli.options import warn
from regrow.cli.tables import print_block, say

if TYPE_CHECKING:
    from regrow.planning.answer import Plan


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
    several = len(answers) > 1
    for answer in answers:
        of = f"at {answer.pruning_rate:.3g}: " if several else ""
        if verbose:
            warn(f"{of}{warning}" for warning in answer.warnings)
        elif answer.warnings:
            warn([f"{of}{merged(answer.warnings)}; docs/plan.md explains them"])
