"""`regrow plan`: the optimal amount of tokens, and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.options import AsJson, Family, LawFile, Method, print_json


def plan(
    law: LawFile,
    loss_before: Annotated[float, typer.Option(help="Held-out loss before pruning, nats/token.")],
    model: Annotated[str | None, typer.Option(help="A catalogue name such as Llama-3.1-8B, or a config.json.")] = None,
    params_before: Annotated[
        str | None, typer.Option(help="Parameters before pruning, where no model is named.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Pruning rate; not asked for N:M.")] = None,
    family: Family = None,
    method: Method = None,
    criterion: Annotated[str, typer.Option(help="`gain`, `slope`, `recovery`, `target` or `budget`.")] = "gain",
    min_gain: Annotated[float | None, typer.Option(help="gain: nats that the next doubling must buy. [0.01]")] = None,
    max_slope: Annotated[float | None, typer.Option(help="slope: nats per million tokens.")] = None,
    share: Annotated[float | None, typer.Option(help="recovery: share of the recoverable gap. [0.9]")] = None,
    loss_pruned: Annotated[float | None, typer.Option(help="recovery: the loss right after pruning.")] = None,
    target: Annotated[float | None, typer.Option(help="target: the loss to reach, nats/token.")] = None,
    budget_hours: Annotated[float | None, typer.Option(help="budget: GPU-hours.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="budget: money, with --price.")] = None,
    gpu: Annotated[str, typer.Option(help="Which GPU the hours are of.")] = "h100",
    price: Annotated[float | None, typer.Option(help="USD per GPU-hour; without it there is no cost.")] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of the GPU's peak that training reaches. [0.4]")] = None,
    context: Annotated[int, typer.Option(help="Tokens in a training sequence, for the cost of attention.")] = 4096,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.9,
    as_json: AsJson = False,
) -> None:
    """How many tokens to post-train on, with an interval, and what they cost.

    Example: `regrow plan law.json --model Llama-3.1-8B --method depth --rate 0.25 --loss-before 2.0 --price 2.5`
    """
    from regrow.arch import find_architecture
    from regrow.laws.files import load_laws
    from regrow.laws.law import select_law
    from regrow.planning import DEFAULT_MFU, PlanSpec, criterion_from
    from regrow.planning import plan as run
    from regrow.units import parse_count

    spec = PlanSpec(
        architecture=None if model is None else find_architecture(model),
        params_before=None if params_before is None else parse_count(params_before, what="--params-before"),
        pruning_rate=rate,
        loss_before=loss_before,
        criterion=criterion_from(
            criterion,
            min_gain=min_gain,
            max_slope=max_slope,
            share=share,
            loss_pruned=loss_pruned,
            loss=target,
            gpu_hours=budget_hours,
            usd=budget_usd,
        ),
        gpu=gpu,
        mfu=DEFAULT_MFU if mfu is None else mfu,
        price_usd_per_hour=price,
        context=context,
        level=level,
    )
    answer = run(select_law(load_laws(law), family=family, method=method), spec)
    if as_json:
        print_json(answer.to_dict())
        return
    typer.echo(answer.sentence())
    for warning in answer.warnings:
        typer.echo(f"warning: {warning}", err=True)
