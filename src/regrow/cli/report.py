"""`regrow report`: one file that people forward: a page, Markdown for a pull request, a picture for a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, Baseline, Gpu, Mfu, Out, Price, print_json

if TYPE_CHECKING:
    from regrow.laws import Law
    from regrow.runs import RunRecord

#: Without --validate or --no-validate, hold-outs are done up to this many laws and checkpoints: some seconds.
_QUICK_LAWS, _QUICK_POINTS = 4, 2000
_HOLD_OUTS = ("size", "rate", "tokens")


def report(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Runs (folders, tables) and law files (.json).")
    ],
    out: Out,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="`html`, `md` or `png`. [by the ending of --out]", show_default=False),
    ] = None,
    form: Annotated[str, typer.Option(help="The form to fit, where no law file is given.")] = "p2",
    baseline: Baseline = "initial",
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Post-training after pruning",
    model: Annotated[str | None, typer.Option(help="Plan for this model: a catalogue name or a config.json.")] = None,
    params_before: Annotated[
        str | None,
        typer.Option(help="Plan for this many parameters. [the largest size among the runs]", show_default=False),
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Pruning rate to plan for; may be given several times.")
    ] = None,
    loss_before: Annotated[
        float | None,
        typer.Option(help="Loss of that model before pruning, nats/token. [from its runs]", show_default=False),
    ] = None,
    gpu: Gpu = "h100",
    mfu: Mfu = None,
    price: Price = None,
    served_tokens: Annotated[
        str | None, typer.Option(help="Tokens that the model will serve, e.g. 1T; adds their cost.")
    ] = None,
    validate: Annotated[
        bool | None,
        typer.Option(
            "--validate/--no-validate",
            help="Whether to compute hold-out errors. [yes, if it takes seconds]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measured and predicted curves, errors, exponents, plans, and in HTML a planner, in one file without network.

    Runs of sizes that a given law was not fitted to are shown as held out.

    Example: `regrow report demo demo/law.json --out report.html`

    For a larger model: `regrow report runs.csv --out report.md --model Llama-3.1-8B --rate 0.25 --loss-before 2.0`
    """
    from regrow.cli.asking import find_shape
    from regrow.errors import InputError
    from regrow.laws import fit, load_laws
    from regrow.planning.cost import DEFAULT_MFU
    from regrow.report import format_of, write_report
    from regrow.report.answers import Question, answer
    from regrow.runs import read_runs
    from regrow.units import parse_count

    kind = format_of(out, file_format)
    question = Question(
        architecture=None if model is None else find_shape(model),
        params_before=None if params_before is None else parse_count(params_before, what="--params-before"),
        pruning_rates=tuple(rate or ()),
        loss_before=loss_before,
        gpu=gpu,
        mfu=DEFAULT_MFU if mfu is None else mfu,
        price_usd_per_hour=price,
        served_tokens=None if served_tokens is None else parse_count(served_tokens, what="--served-tokens"),
    )
    law_files = [path for path in paths if Path(path).suffix == ".json" and Path(path).is_file()]
    run_paths = [path for path in paths if path not in law_files]
    if not run_paths:
        raise InputError("no runs given", where="report", hint="give a study folder, a run folder or a table too")
    runs = read_runs(*run_paths)
    laws = [law for path in law_files for law in load_laws(path)] or fit(runs, form=form, baseline=baseline)
    unseen = [run for run in runs if law_files and _outside(run, laws)]
    answers = answer(laws, runs, question)
    rows, skipped = _held_out(runs, laws) if _wanted(validate, runs, laws) else ([], [])
    write_report(
        [run for run in runs if run not in unseen],
        laws,
        answers.plans,
        out=out,
        form=kind,
        held_out=unseen,
        title=title,
        validation_rows=rows,
        notes=[*answers.notes, *(skipped if validate else ())],
        comparisons=answers.comparisons,
    )
    told = {
        "out": str(out),
        "format": kind,
        "runs": len(runs),
        "held_out": len(unseen),
        "laws": len(laws),
        "plans": [plan.to_dict() for plan in answers.plans],
        "validated": len(rows),
        "notes": list(answers.notes),
    }
    if as_json:
        print_json(told)
        return
    counts = [(len(runs), "run"), (len(laws), "law"), (len(answers.plans), "plan")]
    said = [f"{number} {name}{'' if number == 1 else 's'}" for number, name in counts]
    typer.echo(f"{', '.join(said[:2])} and {said[2]}, written to {out}")
    for note in answers.notes:
        typer.echo(f"warning: {note}", err=True)


def _outside(run: RunRecord, laws: Sequence[Law]) -> bool:
    """Whether no law of the run's family was fitted to its size."""
    ranges = [law.ranges["params_before"] for law in laws if law.family == run.family]
    return bool(ranges) and all(not low <= run.params_before <= high for low, high in ranges)


def _wanted(validate: bool | None, runs: Sequence[RunRecord], laws: Sequence[Law]) -> bool:
    if validate is not None:
        return validate
    return len(laws) <= _QUICK_LAWS and sum(len(run.curve) for run in runs) <= _QUICK_POINTS


def _held_out(runs: Sequence[RunRecord], laws: Sequence[Law]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the laws' forms say of runs held out, and which hold-outs these runs are too few for."""
    from regrow.errors import InputError
    from regrow.laws import validate

    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for kind in dict.fromkeys((law.form, law.baseline, law.loss_kind) for law in laws):
        form, baseline, loss = kind
        methods = {(law.family, law.method) for law in laws if (law.form, law.baseline, law.loss_kind) == kind}
        mine = [run for run in runs if run.is_control or (run.family, run.method) in methods]
        for hold_out in _HOLD_OUTS:
            try:
                found = validate(mine, hold_out, [form], baseline, loss=loss)
            except InputError as error:
                skipped.append(f"hold-out {hold_out}: {error}")
                continue
            rows += [asdict(result) for result in found]
            skipped += found.skipped
    return rows, skipped
