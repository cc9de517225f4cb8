"""`regrow plan`: the optimal amount of tokens, and what it costs; with `--compare`, of which method and rate."""

# without `from __future__ import annotations`: typer would compile every option's annotation anew at each start
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from regrow.cli.alternatives import CompareScratch, Stages, StageTokens
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
from regrow.cli.tables import say
from regrow.units import format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.alternatives import Alternatives
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec


#: the rate at which the reference law is asked where none is given
_USUAL_RATE = 0.25


# typer makes the options from the signature; `plan_fields` reads their values from the context
def plan(
    given: typer.Context,
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
    from regrow.cli.alternatives import alternative_fields
    from regrow.cli.asking import law_source
    from regrow.cli.plan_options import compare_fields, each_rate, plan_fields
    from regrow.laws.files import load_laws
    from regrow.planning.alternatives import alternatives_to
    from regrow.planning.plan_spec import PlanSpec

    options = dict(given.params)
    _check_compare(options)
    beside = alternative_fields(options)
    asked_rates = each_rate(rate)
    laws = load_laws(law_source(law, named))
    of_scores = any(one.benchmark is not None for one in laws)
    if compare and of_scores:
        raise _no_comparison()
    if of_scores and model is None and params_before is None:
        laws = [_law_of(laws, family, method, score)]
        options["params_before"], asked_rates = _usual_model(laws[0], asked_rates)
    spec = PlanSpec(**plan_fields(options, of_scores=of_scores))
    if compare:
        from regrow.cli.comparing import print_comparison

        asked = compare_fields(options)
        print_comparison(laws, spec, asked, named=named, family=family, method=method, verbose=verbose, as_json=as_json)
        return
    wanted = [beside["stages"][-1]] if beside["stages"] else asked_rates
    used, answers = _plans(laws, spec, wanted, named=named, family=family, method=method, score=score)
    found = [alternatives_to(used, spec, answer, **beside) for answer in answers]
    _print_answers(found, named=named, verbose=verbose, as_json=as_json)


def _print_answers(found: "Sequence[Alternatives]", *, named: str | None, verbose: bool, as_json: bool) -> None:
    """Print the plans, and what each was compared with."""
    from regrow.cli.alternatives import print_alternatives
    from regrow.cli.plan_output import print_plans, suggest_reference

    if as_json:
        plans = [one.to_dict() for one in found]
        print_json({"plans": plans} if len(plans) > 1 else plans[0])
        return
    print_plans([one.plan for one in found], verbose=verbose)
    suggest_reference(found[0].plan, named)
    for one in found:
        print_alternatives(one)


def _check_compare(options: Mapping[str, Any]) -> None:
    """Raise `InputError` for options that `--compare` alone takes, or never takes."""
    from regrow.cli.plan_options import COMPARED
    from regrow.errors import InputError

    def name_of(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    if not options["compare"]:
        stray = [name_of(name) for name in COMPARED if options[name] is not None]
        if stray:
            raise InputError(f"{', '.join(stray)} without --compare", hint="add it, or leave them out")
        return
    rates = next((name for name in ("rate", "layers", "shape", "stages") if options[name]), None)
    if rates is not None:
        hint = "give the rates to compare with --rates 0.15,0.25,0.35"
        raise InputError(f"{name_of(rates)} with --compare", hint=hint)
    if options["compare_scratch"] is not None:
        raise InputError("--compare-scratch with --compare", hint="plan one method at one rate with --compare-scratch")


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
    from regrow.planning.score_plan import usual_model

    size, rate = usual_model(law)
    text = f"note: no --model: planned for {format_count(size)} parameters"
    say(f"{text}, the largest of the law's runs" + ("" if rates else f", pruned at {rate:.3g}"), err=True)
    return str(size), rates or [rate]
