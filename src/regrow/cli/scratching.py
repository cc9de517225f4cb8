"""`regrow plan --compare-scratch`: prune, or train a model of the same size from scratch?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import warn

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.planning.scratch import ScratchComparison

CompareScratch = Annotated[
    str | None,
    typer.Option(
        metavar="CURVE",
        help="Compare with a model of the pruned size that is trained from scratch: a table of pretraining runs "
        "(columns params, tokens, loss), or a stated curve, E + A/N^alpha + B/D^beta, as "
        "E=1.69,A=406.4,alpha=0.34,B=410.7,beta=0.28.",
        show_default=False,
    ),
]


def against_scratch(law: Law, spec: PlanSpec, answer: Plan, curve: str) -> ScratchComparison:
    """The comparison for a plan. Raises `InputError` for a law of scores, and for a curve that can't be read."""
    from regrow.errors import InputError
    from regrow.planning.scratch import compare_scratch, scratch_curve

    if law.benchmark is not None:
        raise InputError("--compare-scratch with a law of scores", hint="the curve from scratch is one of losses")
    return compare_scratch(
        law,
        spec.setting(answer.pruning_rate),
        answer.params_after,
        scratch_curve(curve),
        tokens=answer.tokens if answer.tokens_reason is None else None,
        level=spec.level,
    )


def print_scratch(found: ScratchComparison) -> None:
    """The comparison below a plan."""
    for line in found.lines():
        typer.echo(f"  {line}")
    warn(found.warnings)
