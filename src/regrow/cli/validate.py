"""`regrow validate`: how well a law predicts what it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import AsJson, Baseline, Loss, Pool, Runs, Scores, number, parse_scores, print_json
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.laws.validation import HoldOutResults

#: What stands beside the law of a score, and how the table calls it.
_BESIDE = {"from_loss": "from loss", "last": "last", "power": "power"}


def validate(
    runs: Runs,
    hold_out: Annotated[
        str, typer.Option(help="What to leave out of the fit: `size`, `rate`, `tokens`, `run`, `method` or `family`.")
    ] = "size",
    form: Annotated[
        list[str] | None,
        typer.Option(help="A form to validate, as in `regrow fit`; may be repeated. [default: all forms, ranked]"),
    ] = None,
    pool: Pool = None,
    baseline: Baseline = "initial",
    loss: Loss = "raw",
    score: Scores = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the starts of the fit.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit without some runs or points, predict them, and report the error on them.

    Example: `regrow validate demo --hold-out size`

    Benchmark scores: `regrow validate runs.csv --hold-out tokens --score all`
    """
    from dataclasses import asdict

    from regrow.laws import rank_forms
    from regrow.laws import validate as run
    from regrow.runs import read_finished

    scores = parse_scores(score)
    records = read_finished(*runs, need_loss=scores is None)
    results = run(records, hold_out, form or None, baseline, loss=loss, score=scores, pool=pool, seed=seed)
    if as_json:
        print_json({"results": [asdict(result) for result in results], "skipped": list(results.skipped)})
        return
    if scores is not None:
        _print_scores(results, hold_out)
        return
    print_table(
        f"held out: {hold_out}",
        [
            "family, method",
            "form",
            "status",
            "MAPE",
            "worst",
            "ASD",
            "coverage",
            "points",
            "last",
            "power",
            "chinchilla",
        ],
        [
            [
                f"{r.family}, {r.method}",
                r.form,
                r.status,
                number(r.mape, ".4f"),
                number(r.max_ape, ".4f"),
                number(r.asd, ".2e"),
                number(r.coverage, ".2f"),
                str(r.n_points),
                *(number(r.baselines.get(name), ".4f") for name in ("last", "power", "chinchilla")),
            ]
            for r in results
        ],
        spare=("points", "ASD", "chinchilla", "power"),
    )
    say("MAPE of the baselines: the last loss seen, a power law of each run alone, the form chinchilla.")
    for text in results.skipped:
        say(f"skipped: {text}", err=True)
    if len({r.form for r in results}) > 1:
        for (family, method), ranked in rank_forms(results).items():
            typer.echo(f"{family}, {method}: lowest held-out error with {ranked[0][0]} ({ranked[0][1]:.4f})")


def _print_scores(results: HoldOutResults, hold_out: str) -> None:
    """The table of laws of scores; errors in points, hundredths of a score."""

    def points(value: float | None) -> str:
        return number(None if value is None else 100 * value, ".2f")

    print_table(
        f"held out: {hold_out}; errors in points",
        ["family, method", "benchmark", "status", "error", "coverage", "readings", *_BESIDE.values()],
        [
            [
                f"{r.family}, {r.method}",
                r.target.removeprefix("score:"),
                r.status,
                points(r.mae),
                number(r.coverage, ".2f"),
                str(r.n_points),
                *(points(r.baselines.get(name)) for name in _BESIDE),
            ]
            for r in results
        ],
    )
    say(
        "Beside it: the score by the predicted loss and the family's link from loss to score; the last score seen (of "
        "a run not seen, the nearest run's gap); a power law of each run alone."
    )
    both = [(r.mae, other) for r in results if (other := r.baselines.get("from_loss")) is not None]
    if both:
        ours, other = (float(sum(errors)) / len(both) for errors in zip(*both, strict=True))
        better = "The direct route" if ours <= other else "The route from the loss"
        say(
            f"{better} erred less: {points(min(ours, other))} points against {points(max(ours, other))}; the direct "
            f"one did in {sum(a <= b for a, b in both)} of {len(both)}."
        )
    for text in results.skipped:
        say(f"skipped: {text}", err=True)
