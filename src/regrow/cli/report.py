"""`regrow report`: one HTML file that people forward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import AsJson, Baseline, Out, print_json

if TYPE_CHECKING:
    from regrow.laws import Law
    from regrow.runs import RunRecord


def report(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Runs (folders, tables) and law files (.json).")
    ],
    out: Out,
    form: Annotated[str, typer.Option(help="The form to fit, where no law file is given.")] = "p2",
    baseline: Baseline = "initial",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Post-training after pruning",
    as_json: AsJson = False,
) -> None:
    """Measured and predicted curves, errors, exponents, and a planner, in one file without network.

    Runs of sizes that a given law was not fitted to are shown as held out.

    Example: `regrow report demo demo/law.json --out report.html`
    """
    from regrow.errors import InputError
    from regrow.laws import fit, load_laws
    from regrow.report import write_report
    from regrow.runs import read_runs

    law_files = [path for path in paths if Path(path).suffix == ".json" and Path(path).is_file()]
    run_paths = [path for path in paths if path not in law_files]
    if not run_paths:
        raise InputError("no runs given", where="report", hint="give a study folder, a run folder or a table too")
    runs = read_runs(*run_paths)
    laws = [law for path in law_files for law in load_laws(path)] or fit(runs, form=form, baseline=baseline)
    unseen = [run for run in runs if law_files and _outside(run, laws)]
    write_report([run for run in runs if run not in unseen], laws, out=out, held_out=unseen, title=title)
    if as_json:
        print_json({"out": str(out), "runs": len(runs), "held_out": len(unseen), "laws": len(laws)})
    else:
        typer.echo(f"{len(runs)} runs and {len(laws)} laws, written to {out}")


def _outside(run: RunRecord, laws: list[Law]) -> bool:
    """Whether no law of the run's family was fitted to its size."""
    ranges = [law.ranges["params_before"] for law in laws if law.family == run.family]
    return bool(ranges) and all(not low <= run.params_before <= high for low, high in ranges)
