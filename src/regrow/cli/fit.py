"""`regrow fit`: runs in, laws out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, Baseline, Loss, Pool, Runs, Scores, number, parse_scores, print_json
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.laws.law import Law

#: The parameters that say most of a form with many; the others stand in the table with `--verbose`.
_MAIN = {"regrowth": ("pace", "exponent", "end")}


def fit(
    runs: Runs,
    form: Annotated[
        str,
        typer.Option(
            help="The law's form: `regrowth`, `p2`, `p2_counts`, `p2_shifted`, `p2_odds`, `chinchilla`, "
            "`compression` or "
            "`sparse`; `auto` takes `regrowth` or `p2`, whichever predicts better."
        ),
    ] = "auto",
    pool: Pool = None,
    baseline: Baseline = "initial",
    loss: Loss = "raw",
    score: Scores = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the laws to this file.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws over runs.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the starts of the fit.")] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A table with every parameter, whatever its width.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit one law per family and method.

    Example: `regrow fit demo --out law.json`

    Benchmark scores: `regrow fit runs.csv --score mmlu,gsm8k --out scores.json`
    """
    from regrow.laws import fit as run
    from regrow.laws.files import save_laws
    from regrow.runs import read_finished

    scores = parse_scores(score)
    laws = run(
        read_finished(*runs, need_loss=scores is None),
        form=form,
        pool=pool,
        baseline=baseline,
        loss=loss,
        score=scores,
        draws=draws,
        seed=seed,
    )
    if out is not None:
        save_laws(laws, out)
    if as_json:
        other = [law_summary(law) for law in laws.other_baseline]
        print_json(
            {
                "laws": [law_summary(law) for law in laws],
                "chosen": laws.chosen,
                "skipped": list(laws.skipped),
                "other_baseline": other,
            }
        )
        return
    _print_laws([*laws, *laws.other_baseline], verbose=verbose)
    if laws.chosen:
        say(laws.chosen)
    if laws.other_baseline:
        say(
            f"The unpruned controls moved: the rows with the baseline {laws.other_baseline[0].baseline} show what the "
            "choice of the baseline does, and are not written.",
            err=True,
        )
    # the benchmarks of a method mostly have the same to say
    notes = [f"{law.family}, {law.method}: {warning}" for law in laws for warning in law.warnings]
    for note in dict.fromkeys(notes):
        say(note, err=True)
    for text in laws.skipped:
        say(f"skipped: {text}", err=True)
    if out is not None:
        typer.echo(f"written to {out}")


def _print_laws(laws: Sequence[Law], *, verbose: bool) -> None:
    """The laws as a table: what differs between them and the main parameters, or with `verbose` all."""
    every = dict.fromkeys(name for law in laws for name in law.formula.shown)
    main = dict.fromkeys(name for law in laws for name in _MAIN.get(law.form, law.formula.shown))
    columns: dict[str, Callable[[Law], str]] = {
        "family, method": lambda law: f"{law.family}, {law.method}",
        "form": lambda law: law.form,
        "baseline": lambda law: law.baseline,
        "loss": lambda law: law.loss_kind if law.benchmark is None else law.target,
        "status": lambda law: law.status,
        "runs": lambda law: str(law.n_runs),
        "R^2": lambda law: number(law.metrics.get("r2")),
        "MAPE": lambda law: number(law.metrics.get("mape"), ".4f"),
        "ASD": lambda law: number(law.metrics.get("asd"), ".2e"),
    }
    usual = {"baseline": "initial", "loss": "raw"}
    if not verbose:
        columns.pop("ASD")
        for name, value in usual.items():
            if all(columns[name](law) == value for law in laws):
                columns.pop(name)
    names = list(every if verbose else main)
    rows = [
        [*(cell(law) for cell in columns.values()), *(number(law.params.get(name), ".3g") for name in names)]
        for law in laws
    ]
    print_table("", [*columns, *names], rows, spare=("loss", "baseline", "ASD"))
    left = [name for name in every if name not in names]
    if left:
        say(f"({len(left)} more parameters with --verbose or --json)", err=True)


def law_summary(law: Any) -> dict[str, Any]:
    """A law as the contract's JSON."""
    return {
        "family": law.family,
        "method": law.method,
        "form": law.form,
        "params": dict(law.params),
        "status": law.status,
        "warnings": list(law.warnings),
        "n_runs": law.n_runs,
        "n_points": law.n_points,
        "baseline": law.baseline,
        "target": law.target,
        "loss": law.loss_kind,
        "metrics": dict(law.metrics),
    }
