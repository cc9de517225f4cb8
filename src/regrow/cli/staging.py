"""`regrow plan --stages`: one step to a rate against pruning and training in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.planning.stages import StageComparison

Stages = Annotated[
    str | None,
    typer.Option(
        help="Instead of a rate: rates that rise, e.g. 0.25,0.5. Compares one step to the last with pruning and "
        "training in turns, at equal tokens.",
        show_default=False,
    ),
]
StageTokens = Annotated[
    str | None,
    typer.Option(help="With --stages: tokens in all, e.g. 10M. [default: those of the plan]", show_default=False),
]


def stage_rates(stages: str | None, tokens: str | None, others: Mapping[str, Any]) -> tuple[float, ...]:
    """The rates of `--stages`; empty without. Raises `InputError` beside `others`, and for rates that do not rise."""
    from regrow.cli.options import parse_rates
    from regrow.errors import InputError

    if stages is None:
        if tokens is not None:
            raise InputError("--stage-tokens without --stages", hint="add it, e.g. --stages 0.25,0.5")
        return ()
    from regrow.planning.stages import check_rising

    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(f"--stages with {given[0]}", hint="the stages make the rate: leave one of them out")
    return check_rising(parse_rates(stages))


def compare_with_turns(
    law: Law, spec: PlanSpec, answer: Plan, rates: tuple[float, ...], tokens: str | None
) -> StageComparison:
    """One step against turns with `tokens` in all, or those of the plan. Raises `InputError` where it has none."""
    from regrow.errors import InputError
    from regrow.planning.cost import pruned_model
    from regrow.planning.stages import compare_stages
    from regrow.units import parse_count

    total = answer.tokens if tokens is None else float(parse_count(tokens, what="--stage-tokens"))
    if total is None:
        raise InputError("the plan has no number of tokens", where="--stages", hint="give them with --stage-tokens")
    reached = [
        pruned_model(
            method=law.method, pruning_rate=rate, params_before=spec.size, architecture=spec.shape
        ).pruning_rate
        for rate in rates
    ]
    return compare_stages(law, spec.setting(answer.pruning_rate), reached, total, level=spec.level)


def print_turns(found: StageComparison) -> None:
    """The comparison below a plan."""
    typer.echo("one step, and turns with as many tokens in all:")
    typer.echo(f"  {found.one.sentence()}")
    for step in found.turns:
        typer.echo(f"  in turns, {step.sentence()}")
    typer.echo(f"  {found.sentence()}")
