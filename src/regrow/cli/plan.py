"""`regrow plan`: the optimal amount of tokens, and what it costs; with `--compare`, of which method and rate."""

# without `from __future__ import annotations`: typer would compile every option's annotation anew at each start
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.memory_options import Batch, CacheDtype, Dtype, MaxMemory, TrainingContext
from regrow.cli.options import (
    AsJson,
    Context,
    Family,
    Gpu,
    LawFile,
    Level,
    LossBefore,
    LossPruned,
    Method,
    Mfu,
    ModelName,
    NamedLaw,
    Price,
    print_json,
    warn,
)
from regrow.cli.plan_options import (
    BudgetHours,
    BudgetUsd,
    CriterionName,
    Layers,
    MaxSlope,
    MfuFrom,
    MinGain,
    ParamsBefore,
    Rates,
    Shape,
    Share,
    Target,
    Teacher,
)
from regrow.cli.tables import print_block, say

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec


#: the rate at which the reference law is asked where none is given
_USUAL_RATE = 0.25


def plan(
    loss_before: LossBefore,
    law: LawFile = None,
    named: NamedLaw = None,
    model: ModelName = None,
    params_before: ParamsBefore = None,
    rate: Rates = None,
    layers: Layers = None,
    shape: Shape = None,
    family: Family = None,
    method: Method = None,
    criterion: CriterionName = None,
    min_gain: MinGain = None,
    max_slope: MaxSlope = None,
    share: Share = None,
    loss_pruned: LossPruned = None,
    target: Target = None,
    budget_hours: BudgetHours = None,
    budget_usd: BudgetUsd = None,
    gpu: Gpu = "h100",
    price: Price = None,
    mfu: Mfu = None,
    mfu_from: MfuFrom = None,
    teacher: Teacher = None,
    max_memory: MaxMemory = None,
    context: Context = "4096",
    training_context: TrainingContext = None,
    batch: Batch = None,
    dtype: Dtype = None,
    cache_dtype: CacheDtype = None,
    level: Level = 0.9,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Rank all methods of the law file at --rates, for the same size or budget."),
    ] = False,
    rates: Annotated[
        str | None, typer.Option(help="compare: pruning rates. [default: 0.15,0.25,0.35]", show_default=False)
    ] = None,
    params_after: Annotated[
        str | None, typer.Option(help="compare: the most parameters to deploy, e.g. 6B.", show_default=False)
    ] = None,
    served_tokens: Annotated[
        str | None,
        typer.Option(help="compare: tokens that the model will serve, e.g. 1T; adds their cost.", show_default=False),
    ] = None,
    sparse_speedup: Annotated[
        float | None,
        typer.Option(
            help="compare: how many times faster N:M kernels serve than dense ones. [default: 1]", show_default=False
        ),
    ] = None,
    serving_mfu: Annotated[
        float | None, typer.Option(help="compare: MFU of serving, a fraction. [default: --mfu]", show_default=False)
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every warning in full.")] = False,
    as_json: AsJson = False,
) -> None:
    """How many tokens to post-train on, with an interval, and what they cost.

    Example: `regrow plan law.json --model Llama-3.1-8B --rate 0.25 --loss-before 2.0 --price 2.5`

    No runs yet: `regrow plan --law reference --model Llama-3.1-8B --method depth --layers 24 --loss-before 2.0`

    For a card: `regrow plan law.json --model Llama-3.1-8B --max-memory 12GB --context 32k --batch 2 --loss-before 2.0`

    Which method: `regrow plan law.json --compare --model Llama-3.1-8B --loss-before 2.0 --params-after 6B`
    """
    from regrow.cli.asking import find_shape, law_source
    from regrow.cli.memory_options import contexts, memory_target
    from regrow.cli.plan_options import criterion_of, model_name, sizes_kept, teacher_of, utilisation
    from regrow.errors import InputError
    from regrow.laws.files import load_laws
    from regrow.planning.plan_spec import PlanSpec
    from regrow.units import parse_count

    only = {
        "rates": rates,
        "params_after": params_after,
        "served_tokens": served_tokens,
        "sparse_speedup": sparse_speedup,
        "serving_mfu": serving_mfu,
    }
    stray = [f"--{name.replace('_', '-')}" for name, value in only.items() if value is not None]
    if stray and not compare:
        raise InputError(f"{', '.join(stray)} without --compare", hint="add it, or leave them out")
    if compare and (rate or layers or shape or max_memory):
        given = "--rate" if rate else "--layers" if layers else "--shape" if shape else "--max-memory"
        raise InputError(f"{given} with --compare", hint="give the rates to compare with --rates 0.15,0.25,0.35")
    stop = {
        "min_gain": min_gain,
        "max_slope": max_slope,
        "share": share,
        "target": target,
        "budget_hours": budget_hours,
        "budget_usd": budget_usd,
    }
    served, trained = contexts(context, training_context, max_memory)
    spec = PlanSpec(
        architecture=None if model is None else find_shape(model),
        model=None if model is None else model_name(model),
        params_before=None if params_before is None else parse_count(params_before, what="--params-before"),
        sizes=sizes_kept(layers, shape),
        memory=memory_target(
            max_memory, context=served, batch=batch, dtype=dtype, cache_dtype=cache_dtype, model=model
        ),
        loss_before=loss_before,
        loss_pruned=loss_pruned,
        criterion=criterion_of(criterion, stop, loss_pruned),
        gpu=gpu,
        **utilisation(mfu, mfu_from, gpu),
        teacher=teacher_of(teacher),
        price_usd_per_hour=price,
        context=trained,
        level=level,
    )
    laws = load_laws(law_source(law, named))
    if compare:
        from regrow.cli.comparing import print_comparison

        print_comparison(laws, spec, only, family=family, method=method, as_json=as_json)
    else:
        answers = _plans(laws, spec, rate or [], named=named, family=family, method=method)
        if as_json:
            several = {"plans": [answer.to_dict() for answer in answers]}
            print_json(several if len(answers) > 1 else answers[0].to_dict())
        else:
            _say(answers, verbose=verbose)


def _plans(
    laws: "Sequence[Law]",
    spec: "PlanSpec",
    rates: list[float],
    *,
    named: str | None,
    family: str | None,
    method: str | None,
) -> "list[Plan]":
    """A plan for each rate, or one for the shape given."""
    from dataclasses import replace

    from regrow.laws.files import ANY, REFERENCE_NAME
    from regrow.laws.law import select_law
    from regrow.planning.plan import plan as run

    wanted: list[float | None] = [*rates] or [None]
    if named == REFERENCE_NAME:
        method = method or ANY
        if not rates and not spec.sizes and spec.memory is None and ":" not in method:
            say(f"note: no --rate: FLOPs and parameters are those of a rate of {_USUAL_RATE}", err=True)
            wanted = [_USUAL_RATE]
    law = select_law([*laws], family=family, method=method)
    return [run(law, replace(spec, pruning_rate=rate)) for rate in wanted]


def _say(answers: "Sequence[Plan]", *, verbose: bool) -> None:
    """Each plan as its verdict and a short block; the two notes that matter most in one line on stderr, or each on
    its own with `verbose`."""
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
