"""`regrow plan`: the optimal amount of tokens, and what it costs; with `--compare`, of which method and rate."""

# without `from __future__ import annotations`: typer would compile every option's annotation anew at each start
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regrow.cli.memory_options import ActiveParams, Batch, CacheDtype, Dtype, MaxMemory, TrainingContext
from regrow.cli.options import (
    AsJson,
    BatchTokens,
    Context,
    Family,
    Gpu,
    LawFile,
    LearningRate,
    Level,
    LossBefore,
    LossPruned,
    Method,
    Mfu,
    ModelName,
    NamedLaw,
    PlannedScorer,
    Price,
    ScoreBefore,
    ScoreName,
    ScorePruned,
    print_json,
)
from regrow.cli.plan_options import (
    BudgetHours,
    BudgetUsd,
    Compare,
    CompareRates,
    CriterionName,
    Layers,
    MaxSlope,
    MfuFrom,
    MinGain,
    ParamsAfter,
    ParamsBefore,
    Rates,
    ServedTokens,
    ServingMfu,
    Shape,
    Share,
    SparseSpeedup,
    Target,
    Teacher,
    Verbose,
)
from regrow.cli.scratching import CompareScratch
from regrow.cli.staging import Stages, StageTokens
from regrow.cli.tables import say
from regrow.units import format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.planning.scratch import ScratchComparison
    from regrow.planning.stages import StageComparison


#: the rate at which the reference law is asked where none is given
_USUAL_RATE = 0.25


def plan(
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
    loss_before: LossBefore = None,
    loss_pruned: LossPruned = None,
    score: ScoreName = None,
    score_before: ScoreBefore = None,
    score_pruned: ScorePruned = None,
    learning_rate: LearningRate = None,
    batch_tokens: BatchTokens = None,
    scorer: PlannedScorer = None,
    target: Target = None,
    budget_hours: BudgetHours = None,
    budget_usd: BudgetUsd = None,
    gpu: Gpu = "h100",
    price: Price = None,
    mfu: Mfu = None,
    mfu_from: MfuFrom = None,
    teacher: Teacher = None,
    max_memory: MaxMemory = None,
    active_params: ActiveParams = None,
    context: Context = "4096",
    training_context: TrainingContext = None,
    batch: Batch = None,
    dtype: Dtype = None,
    cache_dtype: CacheDtype = None,
    level: Level = 0.9,
    compare: Compare = False,
    rates: CompareRates = None,
    params_after: ParamsAfter = None,
    served_tokens: ServedTokens = None,
    sparse_speedup: SparseSpeedup = None,
    serving_mfu: ServingMfu = None,
    stages: Stages = None,
    stage_tokens: StageTokens = None,
    compare_scratch: CompareScratch = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """How many tokens to post-train on, with an interval, and what they cost.

    Example: `regrow plan law.json --model Llama-3.1-8B --rate 0.25 --loss-before 2.0 --price 2.5`

    No runs yet: `regrow plan --law reference --model Llama-3.1-8B --method depth --layers 24 --loss-before 2.0`

    For a card: `regrow plan law.json --model Llama-3.1-8B --max-memory 12GB --context 32k --batch 2 --loss-before 2.0`

    Of a mixture: `regrow plan law.json --model Qwen3-30B-A3B --method depth --active-params 2.5B --loss-before 2.0`

    In turns: `regrow plan law.json --model Llama-3.1-8B --stages 0.25,0.5 --stage-tokens 10B --loss-before 2.0`

    Another recipe than the runs': `regrow plan law.json --model Llama-3.1-8B --rate 0.25 --loss-before 2.0 --lr 1e-5
    --batch-tokens 1M`

    Or from scratch: `regrow plan law.json --params-before 8B --rate 0.5 --loss-before 2.0 --compare-scratch pre.csv`

    Benchmark scores: `regrow plan scores.json --score-before 0.72 --score-pruned 0.31 --target 0.70`

    Which rate and method: `regrow plan law.json --compare --model Llama-3.1-8B --loss-before 2.0 --rates 0.15,0.25`
    """
    from regrow.cli.asking import law_source, planned_recipe
    from regrow.cli.plan_options import compare_fields, each_rate, plan_fields
    from regrow.cli.scratching import against_scratch
    from regrow.cli.staging import compare_with_turns, stage_rates
    from regrow.laws.files import load_laws
    from regrow.planning.plan_spec import PlanSpec
    from regrow.planning.recipe import in_recipe

    asked_rates = each_rate(rate)
    only = {
        "rates": rates,
        "params_after": params_after,
        "served_tokens": served_tokens,
        "sparse_speedup": sparse_speedup,
        "serving_mfu": serving_mfu,
    }
    never = {"--rate": rate, "--layers": layers, "--shape": shape}
    _check_compare(compare, only=only, never=never)
    makes_rate = {"--max-memory": max_memory, "--active-params": active_params}
    alone = {**never, **makes_rate, "--compare": compare, "--score-before": score_before}
    turns = stage_rates(stages, stage_tokens, alone)
    laws = load_laws(law_source(law, named))
    of_scores = any(one.benchmark is not None for one in laws)
    if compare and of_scores:
        raise _no_comparison()
    if of_scores and model is None and params_before is None:
        laws = [_law_of(laws, family, method, score)]
        params_before, asked_rates = _usual_model(laws[0], asked_rates)
    spec = PlanSpec(
        loss_before=loss_before,
        score_before=score_before,
        score_pruned=score_pruned,
        others=planned_recipe(learning_rate, batch_tokens, scorer),
        **plan_fields(
            model=model,
            params_before=params_before,
            layers=layers,
            shape=shape,
            loss_pruned=loss_pruned,
            criterion=criterion,
            stop={
                "min_gain": min_gain,
                "max_slope": max_slope,
                "share": share,
                "target": target,
                "budget_hours": budget_hours,
                "budget_usd": budget_usd,
            },
            costs={"gpu": gpu, "price": price, "mfu": mfu, "mfu_from": mfu_from, "teacher": teacher},
            memory={
                "max_memory": max_memory,
                "context": context,
                "training_context": training_context,
                "batch": batch,
                "dtype": dtype,
                "cache_dtype": cache_dtype,
            },
            active_params=active_params,
            level=level,
            of_scores=of_scores,
        ),
    )
    if compare:
        from regrow.cli.comparing import print_comparison

        asked = compare_fields(**only)  # type: ignore[arg-type]
        print_comparison(laws, spec, asked, named=named, family=family, method=method, verbose=verbose, as_json=as_json)
        return
    used, answers = _plans(
        laws, spec, [turns[-1]] if turns else asked_rates, named=named, family=family, method=method, score=score
    )
    used = in_recipe(used, spec.others)
    found = compare_with_turns(used, spec, answers[0], turns, stage_tokens) if turns else None
    curve = compare_scratch
    scratches = [None if curve is None else against_scratch(used, spec, answer, curve) for answer in answers]
    _print_answers(answers, found, scratches, named=named, verbose=verbose, as_json=as_json)


def _print_answers(
    answers: "Sequence[Plan]",
    turns: "StageComparison | None",
    scratches: "Sequence[ScratchComparison | None]",
    *,
    named: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Print the plans, each with its comparisons with pruning in turns and with training from scratch."""
    from regrow.cli.plan_output import print_plans, suggest_reference
    from regrow.cli.scratching import print_scratch
    from regrow.cli.staging import print_turns

    if as_json:
        more = {} if turns is None else {"stages": turns.to_dict()}
        plans = [
            {**answer.to_dict(), **more, **({} if scratch is None else {"scratch": scratch.to_dict()})}
            for answer, scratch in zip(answers, scratches, strict=True)
        ]
        print_json({"plans": plans} if len(plans) > 1 else plans[0])
        return
    print_plans(answers, verbose=verbose)
    suggest_reference(answers[0], named)
    if turns is not None:
        print_turns(turns)
    for answer, scratch in zip(answers, scratches, strict=True):
        if scratch is not None:
            say(f"pruned at {answer.pruning_rate:.3g}, or trained from scratch:")
            print_scratch(scratch)


def _check_compare(compare: bool, *, only: Mapping[str, Any], never: Mapping[str, Any]) -> None:
    """Raise `InputError` for options that `--compare` alone takes, or never takes."""
    from regrow.errors import InputError

    stray = [f"--{name.replace('_', '-')}" for name, value in only.items() if value is not None]
    if stray and not compare:
        raise InputError(f"{', '.join(stray)} without --compare", hint="add it, or leave them out")
    given = [name for name, value in never.items() if value]
    if given and compare:
        raise InputError(f"{given[0]} with --compare", hint="give the rates to compare with --rates 0.15,0.25,0.35")


def _no_comparison() -> Exception:
    from regrow.errors import InputError

    hint = "plan each method with --method, and compare the tokens"
    return InputError("--compare with laws of scores", hint=hint)


def _plans(
    laws: "Sequence[Law]",
    spec: "PlanSpec",
    rates: list[float],
    *,
    named: str | None,
    family: str | None,
    method: str | None,
    score: str | None,
) -> "tuple[Law, list[Plan]]":
    """The law that is asked, and a plan for each rate, or one for the shape given."""
    from dataclasses import replace

    from regrow.laws.files import REFERENCE_NAME
    from regrow.methods import ANY
    from regrow.planning.plan import plan as run

    wanted: list[float | None] = [*rates] or [None]
    if named == REFERENCE_NAME:
        method = method or ANY
        if not rates and not spec.sets_rate and ":" not in method:
            say(f"note: no --rate: FLOPs and parameters are those of a rate of {_USUAL_RATE}", err=True)
            wanted = [_USUAL_RATE]
    law = _law_of(laws, family, method, score)
    return law, [run(law, replace(spec, pruning_rate=rate)) for rate in wanted]


def _law_of(laws: "Sequence[Law]", family: str | None, method: str | None, score: str | None) -> "Law":
    from regrow.laws.select import select_law

    return select_law([*laws], family=family, method=method, score=score)


def _usual_model(law: "Law", rates: list[float] | None) -> tuple[str, list[float]]:
    """The model of a plan by score that names none: the largest of the law's runs, and how that was pruned."""
    known = law.diagnostics.get("rates_of_sizes") or {}
    size = max((int(one) for one in known), default=round(law.ranges["params_before"][1]))
    rate = float(known.get(str(size), sum(law.ranges["pruning_rate"]) / 2))
    text = f"note: no --model: planned for {format_count(size)} parameters"
    say(f"{text}, the largest of the law's runs" + ("" if rates else f", pruned at {rate:.3g}"), err=True)
    return str(size), rates or [rate]
