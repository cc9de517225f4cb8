"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.tables import say
from regrow.units import check_level, check_loss, check_price, check_rate

if TYPE_CHECKING:
    from rich.console import Console


def _checked(check: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    """A callback of an option that is not checked where it is left out."""

    def callback(value: Any) -> Any:
        return None if value is None else check(value, **options)

    return callback


def _score_option(value: float) -> float:
    from regrow.runs.scores import check_fraction

    check_fraction(value, what="a score", where="--score-before, --score-pruned")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; progress goes to stderr.")]
Runs = Annotated[
    list[str], typer.Argument(help="Study folders, run folders or tables (CSV, Parquet).", show_default=False)
]
LawFile = Annotated[
    str | None,
    typer.Argument(metavar="law.json", help="A law file, as `regrow fit --out` writes it.", show_default=False),
]
NamedLaw = Annotated[
    str | None,
    typer.Option("--law", help="Instead of a law file: `reference` is the law that the package ships."),
]
ModelName = Annotated[
    str | None, typer.Option(help="A name such as Llama-3.1-8B or tiny-llama-3m, a folder or a config.json.")
]
Family = Annotated[str | None, typer.Option(help="Family of the law, if the file holds several.")]
Method = Annotated[
    str | None,
    typer.Option(
        help="Pruning method, if the file holds laws of several. One without runs (`experts`, `depth+width`, `4:8`, "
        "`any`) takes --loss-pruned."
    ),
]
Baseline = Annotated[
    str,
    typer.Option(
        help="Measure gaps from the `initial` loss of the unpruned model, or from its `control` run at the same tokens."
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(
        help="Fit one regrowth law for the runs of each `method`, of each `family`, or for `all`. [default: family]"
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        "--loss", help="Which losses to fit: `raw`, `averaged` (of averaged weights) or `cooled` (after a cool-down)."
    ),
]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--score",
        metavar="NAME",
        help="Fit a benchmark's score in the place of the loss: several names (a,b) or `all` share a fit.",
        show_default=False,
    ),
]
ScoreName = Annotated[
    str | None,
    typer.Option("--score", metavar="NAME", help="Benchmark of the law, if the file holds several; `mean` for all."),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Tokenise the text again and do not cache it (the cache is $REGROW_CACHE or ~/.cache/regrow).",
    ),
]
#: Options about a model to be pruned and the GPUs it is trained on; each is checked when it is read.
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        help="Pruning rate: the share of the parameters to remove, a fraction. Not needed for N:M.",
        callback=_checked(check_rate, where="--rate"),
    ),
]
LossBefore = Annotated[
    float | None,
    typer.Option(
        "--loss-before",
        help="Held-out loss before pruning, nats/token. [required for a law of losses]",
        callback=_checked(check_loss),
        show_default=False,
    ),
]
ScoreBefore = Annotated[
    float | None,
    typer.Option(
        "--score-before", help="Of a law of scores: the parent's score, a fraction.", callback=_checked(_score_option)
    ),
]
ScorePruned = Annotated[
    float | None,
    typer.Option(
        "--score-pruned",
        help="Of a law of scores: the score right after pruning, a fraction.",
        callback=_checked(_score_option),
    ),
]
LossPruned = Annotated[
    float | None,
    typer.Option(
        "--loss-pruned",
        help="Held-out loss right after pruning, nats/token; the form regrowth and the criterion recovery need it.",
        callback=_checked(check_loss, where="--loss-pruned"),
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr", help="Peak learning rate of the planned run. [default: as the law's runs]", show_default=False
    ),
]
BatchTokens = Annotated[
    str | None,
    typer.Option(
        "--batch-tokens",
        help="Tokens of one optimizer step of the planned run, e.g. 1M. [default: as the law's runs]",
        show_default=False,
    ),
]
PlannedScorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="How it is pruned: sparsegpt and least-squares solve weights again, and leave less to win back. "
        "[default: as the law's runs]",
        show_default=False,
    ),
]
Level = Annotated[
    float, typer.Option("--level", help="Probability of the intervals, a fraction.", callback=_checked(check_level))
]
Gpu = Annotated[
    str,
    typer.Option(
        "--gpu",
        help="The GPU whose hours are counted: a100, h100, h100-pcie, h100-nvl, h200, b200, l40s, l4, "
        "rtx-4090, mi250x, mi300x or mi325x.",
    ),
]
Price = Annotated[
    float | None,
    typer.Option("--price", help="USD per GPU-hour. Without it no cost is computed.", callback=_checked(check_price)),
]
Mfu = Annotated[
    float | None,
    typer.Option(
        "--mfu", help="Share of the GPU's peak FLOP/s that training reaches. [default: 0.4]", show_default=False
    ),
]
Context = Annotated[
    str,
    typer.Option(
        "--context",
        help="Tokens in a training sequence, which set the cost of attention; with --max-memory those of a served one. "
        "E.g. 4096 or 32k (32,000).",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Where the result is written.")]


def console() -> Console:
    """The console for progress and tables meant for people: stderr, so that stdout stays clean."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout. What is not a finite number is null: JSON has no NaN."""
    typer.echo(json.dumps(_finite(content), indent=1, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        whole = hasattr(value, "dtype") and number.is_integer() and "int" in str(value.dtype)
        return int(number) if whole else (number if abs(number) < float("inf") else None)
    return value


def warn(warnings: Iterable[str]) -> None:
    """Each warning on a line of its own, on stderr."""
    for warning in warnings:
        say(f"warning: {warning}", err=True)


def number(value: float | None, spec: str = ".3f") -> str:
    """A number for a table; a dash where it is missing."""
    return "-" if value is None or value != value else format(value, spec)


def parse_rates(text: str, *, where: str = "--rates") -> tuple[float, ...]:
    """Rates as in `0.15,0.25,0.35`; raises `InputError` for what are no numbers."""
    from regrow.errors import InputError

    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(
            f"{text!r} is no rate", where=where, hint="write it like 0.25, several like 0.15,0.25"
        ) from None


def parse_scores(names: list[str] | None) -> list[str] | None:
    """The benchmarks of `--score`, which may be repeated and may hold several names; None without the option."""
    return None if not names else [part.strip() for name in names for part in name.split(",") if part.strip()]
