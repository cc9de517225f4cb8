"""`regrow report`: one file that people forward: a page, Markdown for a pull request, a picture for a slide."""

# without `from __future__ import annotations`: typer would compile every option's annotation anew at each start
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.alternatives import CompareScratch, Stages, StageTokens
from regrow.cli.memory_options import ActiveParams, Batch, CacheDtype, Dtype, MaxMemory, TrainingContext
from regrow.cli.options import (
    AsJson,
    Baseline,
    BatchTokens,
    Context,
    Family,
    Gpu,
    LearningRate,
    Level,
    LossPruned,
    Method,
    Mfu,
    NamedLaw,
    Out,
    PlannedScorer,
    Price,
    ScoreBefore,
    ScorePruned,
    parse_scores,
    print_json,
)
from regrow.cli.plan_options import (
    BudgetHours,
    BudgetUsd,
    CompareRates,
    CriterionName,
    Layers,
    MaxSlope,
    MfuFrom,
    MinGain,
    ParamsAfter,
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

if TYPE_CHECKING:
    from regrow.laws import Law
    from regrow.report.answers import Answers
    from regrow.report.question import Question
    from regrow.runs import RunRecord

#: Without --validate or --no-validate, hold-outs are done up to this many laws and checkpoints: some seconds.
_QUICK_LAWS, _QUICK_POINTS = 4, 2000
_HOLD_OUTS = ("size", "rate", "tokens")


# typer makes the options from the signature; `plan_fields` reads their values from the context
def report(
    given: typer.Context,
    out: Out,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Runs (folders, tables) and law files (.json).", show_default=False),
    ] = None,
    named: NamedLaw = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="What to write: `html`, `md` or `png`. [default: by the ending of --out]",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str, typer.Option(help="The form to fit, where no law file is given; `auto` as in `regrow fit`.")
    ] = "auto",
    baseline: Baseline = "initial",
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Post-training after pruning",
    model: Annotated[
        str | None,
        typer.Option(help="Plan for this model: a catalogue or ladder name, a folder or a config.json."),
    ] = None,
    params_before: Annotated[
        str | None,
        typer.Option(
            help="Plan for this many parameters. [default: the largest size among the runs that they support "
            "an answer for]",
            show_default=False,
        ),
    ] = None,
    rate: Rates = None,
    layers: Layers = None,
    shape: Shape = None,
    loss_before: Annotated[
        float | None,
        typer.Option(
            help="Loss of that model before pruning, nats/token. [default: from its runs]", show_default=False
        ),
    ] = None,
    family: Family = None,
    method: Method = None,
    criterion: CriterionName = None,
    min_gain: MinGain = None,
    max_slope: MaxSlope = None,
    share: Share = None,
    loss_pruned: LossPruned = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="Plan with the laws of these benchmarks alone (a,b; `mean` for their mean). Without a law file these "
            "scores are fitted, `all` for every one.",
            show_default=False,
        ),
    ] = None,
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
    compare: Annotated[
        bool | None,
        typer.Option(
            "--compare/--no-compare",
            help="Whether to set methods and rates side by side. [default: yes, if there are two or more]",
            show_default=False,
        ),
    ] = None,
    rates: CompareRates = None,
    params_after: ParamsAfter = None,
    served_tokens: ServedTokens = None,
    sparse_speedup: SparseSpeedup = None,
    serving_mfu: ServingMfu = None,
    stages: Stages = None,
    stage_tokens: StageTokens = None,
    compare_scratch: CompareScratch = None,
    validate: Annotated[
        bool | None,
        typer.Option(
            "--validate/--no-validate",
            help="Whether to compute hold-out errors. [default: yes, if it takes seconds]",
            show_default=False,
        ),
    ] = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """The answer first, as `regrow plan` gives it; then curves, errors, exponents and a planner, in one file.

    It takes the options of `regrow plan`. Runs of sizes that a given law was not fitted to are shown as held out.

    Example: `regrow report demo demo/law.json --out report.html`

    For a larger model: `regrow report runs.csv --out report.md --model Llama-3.1-8B --rate 0.25 --loss-before 2.0`

    Or from scratch: `regrow report runs.csv law.json --rate 0.5 --compare-scratch pretraining.csv --out report.html`

    Benchmark scores: `regrow report runs.csv --score mmlu,gsm8k --target 0.70 --out report.html`

    No runs yet: `regrow report --law reference --model Llama-3.1-8B --rate 0.25 --loss-before 2.0 --out report.html`
    """
    from regrow.report import format_of, write_report
    from regrow.report.answers import answer, asked_laws

    kind, scores = format_of(out, file_format), parse_scores(score)
    known_laws, run_paths = _given_laws(paths or [], named, method=method, family=family)
    question = _question(given.params, scores, known_laws)
    runs, laws = _runs_and_laws(run_paths, known_laws, form=form, baseline=baseline, scores=scores)
    unseen = [run for run in runs if known_laws and _outside(run, laws)]
    laws = asked_laws(laws, question)
    answers = answer(laws, runs, question)
    rows, skipped = _held_out(runs, laws) if _wanted(validate, runs, laws) else ([], [])
    shapes = {} if question.architecture is None or question.model is None else {question.model: question.architecture}
    write_report(
        [run for run in runs if run not in unseen],
        laws,
        answers.plans,
        out=out,
        alternatives=answers.alternatives,
        form=kind,
        held_out=unseen,
        title=title,
        validation_rows=rows,
        notes=[*answers.notes, *(skipped if validate else ())],
        comparisons=answers.comparisons,
        comparison_asked=question.compares,
        models=shapes,
    )
    counts = {"runs": len(runs), "held_out": len(unseen), "laws": len(laws), "validated": len(rows)}
    if as_json:
        print_json({"out": str(out), "format": kind, **counts, **_answers_as_dict(answers)})
    else:
        _print_answers(answers, counts, out, verbose=verbose)


def _given_laws(
    paths: Sequence[str], named: str | None, *, method: str | None, family: str | None
) -> "tuple[list[Law], list[str]]":
    """The laws that were given, and the paths of runs. Raises `InputError` where there is neither."""
    from regrow.errors import InputError
    from regrow.laws import load_laws
    from regrow.laws.files import REFERENCE_NAME
    from regrow.laws.select import select_law
    from regrow.methods import ANY

    law_files = [path for path in paths if Path(path).suffix == ".json" and Path(path).is_file()]
    run_paths = [path for path in paths if path not in law_files]
    laws = [law for path in law_files for law in load_laws(path)]
    if named is not None:
        if law_files:
            raise InputError("a law file and --law", where="report", hint="give one of them")
        laws = load_laws(named)
        if named == REFERENCE_NAME:
            laws = [select_law(laws, family=family, method=method or ANY)]
    if not laws and not run_paths:
        hint = "give a study folder, a run folder or a table, a law file, or --law reference"
        raise InputError("no runs and no law given", where="report", hint=hint)
    return laws, run_paths


def _question(options: Mapping[str, Any], scores: list[str] | None, laws: "Sequence[Law]") -> "Question":
    """What the report is asked. Raises `InputError` for options that contradict each other."""
    from regrow.cli.alternatives import alternative_fields
    from regrow.cli.plan_options import compare_fields, each_rate, plan_fields
    from regrow.laws.pooled.scored import ALL
    from regrow.report.question import Question

    of_scores = bool(scores) or (bool(laws) and all(law.benchmark is not None for law in laws))
    return Question(
        pruning_rates=tuple(each_rate(options["rate"])),
        **{name: options[name] for name in ("family", "method", "compare")},
        # laws that are fitted here are of the benchmarks asked for, and of their mean: plan with each
        scores=() if not laws or scores == [ALL] else tuple(scores or ()),
        compared=compare_fields(options),
        **plan_fields(options, of_scores=of_scores),
        **alternative_fields(options),
    )


def _runs_and_laws(
    paths: Sequence[str], laws: "list[Law]", *, form: str, baseline: str, scores: list[str] | None
) -> "tuple[list[RunRecord], list[Law]]":
    """The runs, and the laws: those given, or fitted here, of `scores` where they are named."""
    from regrow.laws import fit
    from regrow.laws.files import as_saved
    from regrow.runs import read_runs

    of_scores = bool(scores) or any(law.benchmark is not None for law in laws)
    runs = read_runs(*paths, need_loss=not of_scores) if paths else []
    return runs, laws or [as_saved(law) for law in fit(runs, form=form, baseline=baseline, score=scores)]


def _answers_as_dict(answers: "Answers") -> dict[str, Any]:
    """Plans, the recommended one first, comparisons and notes, as plain data."""
    return {
        "plans": [one.to_dict() for one in answers.alternatives],
        "comparisons": [comparison.to_dict() for comparison in answers.comparisons],
        "notes": list(answers.notes),
    }


def _print_answers(answers: "Answers", counts: dict[str, int], out: Path, *, verbose: bool) -> None:
    """The plans as `regrow plan` prints them, and what the file holds."""
    from regrow.cli.alternatives import print_alternatives
    from regrow.cli.options import warn
    from regrow.cli.plan_output import print_plans
    from regrow.cli.tables import say
    from regrow.units import plural

    print_plans(answers.plans, verbose=verbose)
    for one in answers.alternatives:
        print_alternatives(one)
    if answers.plans:
        typer.echo("")
    shown = {"run": counts["runs"], "law": counts["laws"], "plan": len(answers.plans)}
    parts = [plural(number, name) for name, number in shown.items()]
    say(f"{', '.join(parts[:2])} and {parts[2]}, written to {out}")
    warn(answers.notes)


def _outside(run: "RunRecord", laws: "Sequence[Law]") -> bool:
    """Whether no law of the run's family was fitted to its size."""
    ranges = [law.ranges["params_before"] for law in laws if law.family == run.family]
    return bool(ranges) and all(not low <= run.params_before <= high for low, high in ranges)


def _wanted(validate: bool | None, runs: "Sequence[RunRecord]", laws: "Sequence[Law]") -> bool:
    """Whether to hold out: if asked for, else if it takes seconds."""
    if validate is not None:
        return validate
    return len(laws) <= _QUICK_LAWS and sum(len(run.curve) for run in runs) <= _QUICK_POINTS


def _held_out(runs: "Sequence[RunRecord]", laws: "Sequence[Law]") -> tuple[list[dict[str, Any]], list[str]]:
    """What the laws' forms predict of runs held out, and which hold-outs these runs are too few for."""
    from regrow.errors import InputError
    from regrow.laws import validate
    from regrow.laws.pooled.scored import MEAN

    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    kinds = {law: (law.form, law.baseline, law.loss_kind, law.benchmark is not None) for law in laws}
    for kind in dict.fromkeys(kinds.values()):
        form, baseline, loss, of_scores = kind
        methods = {(law.family, law.method) for law in laws if kinds[law] == kind}
        names = list(dict.fromkeys(law.benchmark for law in laws if law.benchmark and law.benchmark != MEAN))
        mine = [run for run in runs if run.is_control or (run.family, run.method) in methods]
        for hold_out in _HOLD_OUTS:
            try:
                found = validate(mine, hold_out, [form], baseline, loss=loss, score=names if of_scores else None)
            except InputError as error:
                skipped.append(f"hold-out {hold_out}: {error}")
                continue
            rows += [asdict(result) for result in found]
            skipped += found.skipped
    return rows, skipped
