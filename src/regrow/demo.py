"""The whole path on the embedded ladder: prune, post-train, fit on the small models, predict the largest, plan.

Nothing here is special to the demo but the sizes: it calls what any user calls, and prints whatever comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regrow.disk import write_json
from regrow.errors import RunFailed
from regrow.ladder import LLAMA, family_rungs
from regrow.laws import HoldOutResult, Law, fit, save_laws, validate
from regrow.laws.files import as_saved
from regrow.planning import Gain, Plan, PlanSpec, check_trends, plan
from regrow.report import write_report
from regrow.report.answers import answer
from regrow.runs import RunRecord, read_runs
from regrow.study.cell_plan import run_folder
from regrow.study.run import StudyResult
from regrow.study.spec import StudySpec
from regrow.training.spec import TrainSpec, default_milestones
from regrow.units import plural

#: the law that the demo reports, and the paper's for comparison
FORM, PAPER = "regrowth", "p2"
LAW_FILE = "law.json"
REPORT_FILE = "report.html"
RESULT_FILE = "result.json"
#: One constant rate for every size. A larger one makes the smallest models recover as fast as the larger, so that the
#: size's exponent is lost, and re-heats all of them (docs/demo.md has the numbers).
LEARNING_RATE = 3e-4
RATES = (0.17, 0.25, 0.33)
#: Width is pruned in the feed-forward neurons alone, at rates that leave every size enough of them. Hidden channels
#: can be pruned as well, but models of 32 to 64 channels have none to spare, and all suffer alike: their runs say
#: nothing of a model of 128 (docs/demo.md has the numbers).
WIDTH_AXES = ("intermediate",)
WIDTH_RATES = (0.10, 0.16, 0.22)
#: Of 2:4: it leaves the weights that stay as they were, as depth and width do here.
SCORERS = {"2:4": "wanda"}


def demo_study(tokens: int = 98_304) -> StudySpec:
    """The demo's grid: every Llama of the ladder, depth and width at three rates, 2:4, and an unpruned control of each.

    The first reading comes after 1/16 of the tokens: before that the optimizer is still finding its step sizes, and
    no power law describes the curve.
    """
    return StudySpec(
        family=LLAMA,
        models=tuple(rung.name for rung in family_rungs(LLAMA)),
        rates=RATES,
        scorers=SCORERS,
        train=TrainSpec(
            tokens=tokens,
            learning_rate=LEARNING_RATE,
            batch_tokens=1024,
            warmup_tokens=4096,
            eval_at=default_milestones(tokens, 8, first=1 / 16),
            held_out_blocks=32,
            save_every_tokens=0,
        ),
        rates_by_method={"width": WIDTH_RATES},
        width_axes=WIDTH_AXES,
    )


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """What the paper's law (`p2`) says of one method; fields as in `MethodResult`.

    Attributes:
        trends: the paper's claims, each with whether this law obeys it; None where the law can't tell.
    """

    law: Law
    held_out: HoldOutResult
    against_control: HoldOutResult | None
    plan: Plan
    trends: dict[str, bool | None]


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """What the demo found for one pruning method.

    Attributes:
        law: of the form `regrowth`, fitted on all methods of all sizes but the largest.
        held_out: its error on the runs of the largest size, which were never fitted.
        against_control: the same with gaps measured from the control at the same tokens; None if that can't be fitted.
        plan: the optimal tokens of the largest model, by the `gain` criterion, from its loss right after pruning.
        paper: what the paper's law says of the same runs.
    """

    law: Law
    held_out: HoldOutResult
    against_control: HoldOutResult | None
    plan: Plan
    paper: PaperResult


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Everything the demo prints. `control_drift` is by model size: nats that the unpruned control rose."""

    study: StudyResult
    methods: tuple[MethodResult, ...]
    control_drift: dict[int, float]
    out: Path


def run_demo(
    out: Path,
    *,
    study: StudySpec | None = None,
    run: Callable[[StudySpec, Path], StudyResult],
    say: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Run the demo's study (or `study`) into `out`, then fit, predict, plan and report.

    Args:
        out: receives `runs/`, `law.json`, `result.json` and `report.html`.
        run: runs the study's missing cells, e.g. `regrow.study.run_study`.
        say: called with the name of each stage.

    Raises `RunFailed` if a cell failed: a law fitted to what is left would not be the demo's.
    """
    spec = study or demo_study()
    done = run(spec, out)
    if done.failed:
        name, error = next(iter(done.failed.items()))
        raise RunFailed(
            f"{plural(len(done.failed), 'run')} failed; {name}: {error}", where=str(out), hint="run the demo again"
        )
    say("fitting the law on all sizes but the largest")
    runs = read_runs(*(run_folder(cell, out) for cell in spec.cells()))
    largest = max(run.params_before for run in runs)
    fitted = [run for run in runs if run.params_before < largest]
    unseen = [run for run in runs if run.params_before == largest]
    laws = [as_saved(law) for law in fit(fitted, form=FORM)]
    papers = {law.method: law for law in fit(fitted, form=PAPER)}
    save_laws(laws, out / LAW_FILE)
    say("predicting the largest, which was not fitted")
    forms = [FORM, PAPER]
    held_out = {(r.form, r.method): r for r in validate(runs, hold_out="size", forms=forms)}
    controlled = {(r.form, r.method): r for r in validate(runs, hold_out="size", forms=forms, baseline="control")}
    methods = [_method_result(law, papers[law.method], unseen, held_out, controlled) for law in laws]
    result = DemoResult(study=done, methods=tuple(methods), control_drift=control_drift(runs), out=out)
    write_json(out / RESULT_FILE, result_to_dict(result))
    write_report(
        fitted,
        laws,
        [m.plan for m in methods],
        out=out / REPORT_FILE,
        held_out=unseen,
        validation_rows=[asdict(found) for m in methods for found in (m.held_out, m.paper.held_out)],
        comparisons=answer(laws, runs).comparisons,
        comparison_asked=False,
        title="regrow demo: what small models say of a larger one",
    )
    return result


def _method_result(
    law: Law,
    paper: Law,
    unseen: Sequence[RunRecord],
    held_out: Mapping[tuple[str, str], HoldOutResult],
    controlled: Mapping[tuple[str, str], HoldOutResult],
) -> MethodResult:
    """What was found for the method of both laws; hold-out results are by form and method."""
    method = law.method
    of_method = [run for run in unseen if run.method == method]
    return MethodResult(
        law=law,
        held_out=held_out[FORM, method],
        against_control=controlled.get((FORM, method)),
        plan=_plan(law, of_method),
        paper=PaperResult(
            law=paper,
            held_out=held_out[PAPER, method],
            against_control=controlled.get((PAPER, method)),
            plan=_plan(paper, of_method),
            trends={trend.name: trend.holds for trend in check_trends(paper)},
        ),
    )


def _plan(law: Law, unseen: Sequence[RunRecord]) -> Plan:
    """The largest model's optimal tokens, at the middle one of the rates that it was really pruned at."""
    run = sorted(unseen, key=lambda r: r.pruning_rate)[len(unseen) // 2]
    return plan(
        law,
        PlanSpec(
            params_before=run.params_before,
            pruning_rate=run.pruning_rate,
            loss_before=run.known_loss_before,
            loss_pruned=run.start_loss if law.form == FORM else None,
            criterion=Gain(),
            context=run.details.get("sequence_length", 256),
        ),
    )


def control_drift(runs: Sequence[RunRecord]) -> dict[int, float]:
    """By model size, how far the unpruned control ended above the loss it started from, nats/token."""
    return {r.params_before: r.curve[-1].known_loss - r.known_loss_before for r in runs if r.is_control and r.curve}


def result_to_dict(result: DemoResult) -> dict[str, Any]:
    """What the demo found, as plain data: `result.json` and `regrow demo --json`."""
    return {
        "out": str(result.out),
        "law": str(result.out / LAW_FILE),
        "report": str(result.out / REPORT_FILE),
        "runs": len(result.study.ran) + len(result.study.skipped),
        "control_drift": {str(size): drift for size, drift in sorted(result.control_drift.items())},
        "methods": [
            {
                "method": m.law.method,
                **_found_to_dict(m),
                PAPER: {**_found_to_dict(m.paper), "trends": m.paper.trends},
            }
            for m in result.methods
        ],
    }


def _found_to_dict(found: MethodResult | PaperResult) -> dict[str, Any]:
    """One law, its error and its plan."""
    return {
        "form": found.law.form,
        "status": found.law.status,
        "params": dict(found.law.params),
        "warnings": list(found.law.warnings),
        "held_out": asdict(found.held_out),
        "against_control": None if found.against_control is None else asdict(found.against_control),
        "plan": found.plan.to_dict(),
    }
