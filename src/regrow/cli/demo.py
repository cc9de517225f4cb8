"""`regrow demo`: the whole path on the embedded ladder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import AsJson, number, print_json, print_table

if TYPE_CHECKING:
    from regrow.demo import DemoResult


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where runs, law and report go.")] = Path("demo"),
    tokens: Annotated[str, typer.Option(help="Post-training tokens of every run.")] = "98304",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one per CPU, at most four.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prune and post-train the embedded models, fit the law on the small ones, predict the largest, and plan.

    Live: about ten minutes on two CPU cores, nothing downloaded. Run again, it goes on where it stopped.

    Example: `regrow demo --out demo`
    """
    from regrow.cli.watching import run_watched
    from regrow.demo import demo_study, result_to_dict, run_demo
    from regrow.units import parse_count

    study = demo_study(parse_count(tokens, what="--tokens"))
    cells = study.cells()
    typer.echo(f"{len(cells)} runs of {len(study.models)} models; the largest is predicted, never fitted", err=True)
    result = run_demo(
        out,
        study=study,
        run=lambda spec, folder: run_watched(spec, folder, workers=workers),
        say=lambda line: typer.echo(line, err=True),
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
        ["method", "MAPE", "worst", "ASD", "coverage", "gap MAPE", "R^2", "MAPE vs control"],
        [
            [
                m.law.method,
                number(m.held_out.mape, ".4f"),
                number(m.held_out.max_ape, ".4f"),
                number(m.held_out.asd, ".4f"),
                number(m.held_out.coverage, ".2f"),
                number(m.held_out.gap_mape, ".3f"),
                number(m.held_out.r2, ".3f"),
                number(m.against_control.mape if m.against_control else None, ".4f"),
            ]
            for m in methods
        ],
    )
    print_table(
        "\nThe laws, fitted on the other sizes",
        ["method", "status", *methods[0].law.params],
        [[m.law.method, m.law.status, *(number(v, ".3g") for v in m.law.params.values())] for m in methods],
    )
    print_table(
        "\nThe paper's trends, as the fitted laws have them",
        ["method", *methods[0].trends],
        [
            [m.law.method, *({True: "yes", False: "no", None: "can't tell"}[v] for v in m.trends.values())]
            for m in methods
        ],
    )
    drift = ", ".join(f"{format_count(n)} {d:+.3f}" for n, d in sorted(result.control_drift.items()))
    typer.echo(f"\nControls (unpruned, same tokens) ended above their start by, in nats: {drift}\n")
    for m in methods:
        typer.echo(m.plan.sentence())
    for m in methods:
        for warning in m.law.warnings:
            typer.echo(f"  {m.law.method}: {warning}")
    typer.echo(
        f"\nlaw: {result.out / 'law.json'}\nreport: {result.out / 'report.html'}\nruns: regrow runs list {result.out}"
    )
