"""`--stages` and `--compare-scratch`: what else could be done than a plan says, for `regrow plan` and its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import warn
from regrow.cli.tables import say

if TYPE_CHECKING:
    from regrow.planning.alternatives import Alternatives
    from regrow.planning.scratch import ScratchComparison
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
#: What makes a rate as the stages do, or asks another kind of law.
_NOT_BESIDE_STAGES = (
    *("rate", "layers", "shape", "max_memory", "active_params"),
    *("score", "score_before", "score_pruned"),
)


def alternative_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `regrow.planning.alternatives.alternatives_to` that were asked for: `stages`, `stage_tokens`
    and `scratch`.

    Args:
        options: values by the names of the options' parameters.

    Raises `InputError` for stages beside what makes the rate, rates that do not rise, and a curve that can't be read.
    """
    stages = _stages(options)
    tokens = options["stage_tokens"]
    if tokens is not None:
        from regrow.units import parse_count

        tokens = float(parse_count(tokens, what="--stage-tokens"))
    curve = options["compare_scratch"]
    if curve is not None:
        from regrow.planning.scratch import scratch_curve

        curve = scratch_curve(curve)
    return {"stages": stages, "stage_tokens": tokens, "scratch": curve}


def _stages(options: Mapping[str, Any]) -> tuple[float, ...]:
    """The rates of `--stages`; empty without."""
    from regrow.errors import InputError

    if options["stages"] is None:
        if options["stage_tokens"] is not None:
            raise InputError("--stage-tokens without --stages", hint="add it, e.g. --stages 0.25,0.5")
        return ()
    from regrow.cli.options import parse_rates
    from regrow.planning.stages import check_rising

    given = next((name for name in _NOT_BESIDE_STAGES if options[name]), None)
    if given is not None:
        option = f"--{given.replace('_', '-')}"
        raise InputError(f"--stages with {option}", hint="the stages make the rate: leave one of them out")
    return check_rising(parse_rates(options["stages"], where="--stages"))


def print_alternatives(found: Alternatives) -> None:
    """What a plan was compared with, below it."""
    if found.stages is not None:
        _print_stages(found.stages)
    if found.scratch is not None:
        say(f"pruned at {found.plan.pruning_rate:.3g}, or trained from scratch:")
        _print_scratch(found.scratch)


def _print_stages(found: StageComparison) -> None:
    say("one step, and turns with as many tokens in all:")
    say(f"  {found.one.sentence()}")
    for step in found.turns:
        say(f"  in turns, {step.sentence()}")
    say(f"  {found.sentence()}")


def _print_scratch(found: ScratchComparison) -> None:
    for line in found.lines():
        say(f"  {line}")
    warn(found.warnings)
