"""`regrow demo`: the whole path on the embedded ladder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, number, print_json
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.demo import DemoResult, MethodResult, PaperResult


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where runs, law and report go.")] = Path("demo"),
    tokens: Annotated[str, typer.Option(help="Post-training tokens of every run, e.g. 100k.")] = "98304",
    workers: Annotated[int | None, typer.Option(help="Processes. [default: one per CPU, at most four]")] = None,
    as_json: AsJson = False,
) -> None:
    """Prune and post-train the embedded models, fit the law on the small ones, predict the largest, and plan.

    Live: about ten minutes on two CPU cores, nothing downloaded. Run again, it goes on where it stopped.

    Example: `regrow demo --out demo`
    """
    need_training("regrow demo")
    from regrow.cli.watching import run_watched
    from regrow.demo import demo_study, result_to_dict, run_demo
    from regrow.units import parse_count, plural

    study = demo_study(parse_count(tokens, what="--tokens"))
    cells = study.cells()
    say(
        f"{plural(len(cells), 'run')} of {plural(len(study.models), 'model')}; the largest is predicted, never fitted",
        err=True,
    )
    result = run_demo(
        out,
        study=study,
        run=lambda spec, folder: run_watched(spec, folder, workers=workers),
        say=lambda line: say(line, err=True),
    )
    if as_json:
        print_json(result_to_dict(result))
        return
    _print(result)


def _print(result: DemoResult) -> None:
    from regrow.units import format_count

    methods = result.methods
    size = format_count(methods[0].plan.params_before)
    print_table(
        f"\nPredicted from smaller models: the {size} model, never fitted (errors are fractions of the loss)",
        ["method", "form", "MAPE", "worst", "ASD", "coverage", "width", "MAPE vs control", "D*", "verdict"],
        [_row(m.law.method, found) for m in methods for found in (m, m.paper)],
    )
    print_table(
        "\nThe laws, fitted on the other sizes: regrowth, one fit for all methods",
        ["method", "status", *methods[0].law.formula.shown],
        [[m.law.method, m.law.status, *(number(m.law.params[n], ".3g") for n in m.law.formula.shown)] for m in methods],
    )
    print_table(
        "\np2, the paper's law: a fit of each method",
        ["method", "status", *methods[0].paper.law.params, *methods[0].paper.trends],
        [
            [
                m.law.method,
                m.paper.law.status,
                *(number(v, ".3g") for v in m.paper.law.params.values()),
                *({True: "yes", False: "no", None: "can't tell"}[v] for v in m.paper.trends.values()),
            ]
            for m in methods
        ],
    )
    drift = ", ".join(f"{format_count(n)} {d:+.3f}" for n, d in sorted(result.control_drift.items()))
    typer.echo(f"\nControls (unpruned, same tokens) ended above their start by, in nats: {drift}\n")
    for m in methods:
        say(m.plan.sentence())
    for m in methods:
        for warning in m.law.warnings:
            typer.echo(f"  {m.law.method}: {warning}")
    typer.echo(
        f"\nlaw: {result.out / 'law.json'}\nreport: {result.out / 'report.html'}\nruns: regrow runs list {result.out}"
    )


def _row(method: str, found: MethodResult | PaperResult) -> list[str]:
    """What one law predicted of the largest model."""
    from regrow.report.present import bound
    from regrow.units import format_count

    held, plan = found.held_out, found.plan
    stop = bound(plan) if plan.tokens is None else f"{format_count(plan.tokens)} ({plan.interval()})"
    return [
        method,
        held.form,
        number(held.mape, ".4f"),
        number(held.max_ape, ".4f"),
        number(held.asd, ".4f"),
        number(held.coverage, ".2f"),
        number(held.width, ".3f"),
        number(found.against_control.mape if found.against_control else None, ".4f"),
        stop,
        plan.verdict,
    ]
