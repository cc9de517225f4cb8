"""Prune, or train a model of the same size from scratch? The tokens at which the two are even.

A pruned model starts with what its parent knows; a model from scratch has to learn it. With few tokens pruning leads,
and its lead shrinks as tokens grow (Xu et al. 2026, arXiv 2606.14150, at rates of 0.5 to 0.8 of Llama-3.1-8B). Both
have the same shape, so a token costs both the same. What the parent cost is spent already and is not counted.

The curve of training from scratch is Chinchilla's, L = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, arXiv
2203.15556): N parameters in all, D tokens, nats per token. Its losses must be of the held-out text of the law's runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.setting import Setting
from regrow.planning.curves import Curves
from regrow.planning.recipe import in_recipe
from regrow.planning.solve import ends, last_crossings
from regrow.planning.support import MOST_TIMES_TOKENS, interval_in_words, supported_tokens, too_far
from regrow.units import format_count, parse_count, plural

if TYPE_CHECKING:
    import pandas as pd

    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.runs import RunRecord

_STATED = ("E", "A", "alpha", "B", "beta")
_COLUMNS = ("params", "tokens", "loss")
_WHERE = "--compare-scratch"
#: Points between the fewest and the most tokens at which the two curves are compared.
_GRID = 600


@dataclass(frozen=True, kw_only=True)
class ScratchCurve:
    """The loss of a model that is trained from scratch.

    Attributes:
        loss: of `params` and tokens [n]: losses [1 + draws, n] in nats/token, the curve itself first.
        how: where it is from, in words.
        most: tokens beyond which it is not trusted; infinity for a curve that was stated.
        sizes: parameters of the smallest and the largest fitted model; None for a curve that was stated.
    """

    loss: Callable[[float, np.ndarray], np.ndarray]
    how: str
    most: float = math.inf
    sizes: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ScratchComparison:
    """Pruning against training from scratch. Tokens in tokens, losses in nats/token; what is not known is None.

    Attributes:
        params: of both models.
        curve: of training from scratch.
        break_even: tokens from which on a model from scratch is as good; `low`, `high` of coverage `level`. None, and
            an end None, where the runs support no number: `reason` says why.
        lead: how far the pruned model is below the one from scratch after `tokens`.
        scratch_loss: of the model from scratch after `tokens`.
        match: tokens that training from scratch takes to the pruned model's loss after `tokens`.
        supported: the tokens between which the two were compared; None where they could not be.
    """

    params: float
    curve: ScratchCurve
    break_even: float | None
    low: float | None
    high: float | None
    reason: str
    tokens: float | None
    lead: float | None
    scratch_loss: float | None
    match: float | None
    level: float
    supported: tuple[float, float] | None
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The answer in a few lines."""
        model = f"a model of {format_count(self.params)} parameters trained from scratch"
        if self.break_even is None:
            text = [f"{model}: {self.reason}"]
        else:
            between = interval_in_words(self.low, self.high, self.level, self.supported)
            text = [f"{model} is as good after {format_count(self.break_even)} tokens ({between})"]
        if self.tokens is not None and self.lead is not None:
            ahead = "ahead" if self.lead > 0 else "behind"
            line = f"after {format_count(self.tokens)} tokens the pruned model is {abs(self.lead):.3f} nats {ahead}"
            if self.match is not None:
                line += f"; from scratch that loss takes {format_count(self.match)} tokens"
            text.append(line)
        return [*text, f"curve from scratch: {self.curve.how}"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "curve"}
        plain["supported"] = None if self.supported is None else list(self.supported)
        return {**plain, "how": self.curve.how, "warnings": list(self.warnings)}


def stated_curve(text: str) -> ScratchCurve:
    """The curve of `E=1.69,A=406.4,alpha=0.34,B=410.7,beta=0.28`. Raises `InputError` for other text."""
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        one_of(name, _STATED, what="coefficient", where=_WHERE)
        if name in values:
            raise InputError(f"{name} is given twice", where=_WHERE, hint="give each coefficient once")
        try:
            values[name] = float(number)
        except ValueError:
            values[name] = math.nan
        if not equals or not math.isfinite(values[name]) or values[name] < 0:
            raise InputError(f"{part.strip()!r} is no coefficient", where=_WHERE, hint="write it like alpha=0.34")
    missing = [name for name in _STATED if name not in values]
    if missing:
        raise InputError(f"{', '.join(missing)} missing", where=_WHERE, hint=f"it takes {', '.join(_STATED)}")
    e, a, alpha, b, beta = (values[name] for name in _STATED)
    if not (alpha and beta):
        hint = "an exponent is positive, e.g. alpha=0.34: with 0 the loss would never fall"
        raise InputError(f"{'beta' if alpha else 'alpha'} is 0", where=_WHERE, hint=hint)
    # the loss of one parameter after one token, the largest that the curve gives
    if not 0 < e + a + b < math.inf:
        hint = "give E, A and B in nats"
        raise InputError(f"E + A + B is {e + a + b:g}, which is no loss", where=_WHERE, hint=hint)

    def loss(params: float, tokens: np.ndarray) -> np.ndarray:
        return (e + a * params**-alpha + b * np.asarray(tokens, dtype=float) ** -beta)[None, :]

    return ScratchCurve(loss=loss, how=f"stated: {text}")


def fitted_curve(path: str | Path) -> ScratchCurve:
    """The curve fitted to a table (CSV or Parquet) of pretraining runs: columns `params`, `tokens`, `loss`, and `run`.

    Each row is a reading. Rows of one `run` are not independent; without the column every row is a run of its own, as
    the end of a run whose learning rate had come down. Raises `InputError` for a table without them, and for runs that
    no curve can be fitted to.
    """
    from regrow.laws.fitting import fit

    (law,) = fit(_pretraining_runs(_pretraining_table(path)), "chinchilla")
    if law.status == "failed":
        raise InputError(f"no curve fits these runs ({'; '.join(law.warnings)})", where=str(path), hint="add runs")

    def loss(params: float, tokens: np.ndarray) -> np.ndarray:
        return Curves(law, Setting(params_before=params, pruning_rate=0.0)).loss(tokens)

    return ScratchCurve(
        loss=loss,
        how=f"fitted to {plural(law.n_runs, 'run')} in {Path(path).name}",
        most=MOST_TIMES_TOKENS * law.ranges["tokens"][1],
        sizes=law.ranges["params_before"],
    )


def _pretraining_table(path: str | Path) -> pd.DataFrame:
    """The table in a file. Raises `InputError` if a column is missing or holds anything but positive numbers."""

    from regrow.runs.table import read_table

    if not Path(path).is_file():
        what = "no such table"
        if Path(path).exists():
            what = "a folder, not a table" if Path(path).is_dir() else "not a file that holds a table"
        hint = "name a CSV or Parquet file, or state E=...,A=...,alpha=...,B=...,beta=..."
        raise InputError(what, where=f"{_WHERE} {path}", hint=hint)
    table = read_table(Path(path))
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise InputError(
            f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            where=str(path),
            hint=f"a table of pretraining runs has {', '.join(_COLUMNS)}, and run",
        )
    for column in _COLUMNS:
        numbers = _numbers(table[column], counts=column != "loss")
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            row = int(np.flatnonzero(~(np.isfinite(numbers) & (numbers > 0)))[0]) + 2
            raise InputError(f"{column} in row {row} is no positive number", where=str(path), hint="mend the row")
        table[column] = numbers
    return table


def _numbers(column: pd.Series, *, counts: bool) -> pd.Series:
    """A column as numbers, NaN for what is none; counts may have suffixes, as 350M."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    if not counts or not numbers.isna().any():
        return numbers

    def read(value: object) -> float:
        try:
            return float(parse_count(str(value)))
        except InputError:
            return math.nan

    return numbers.where(numbers.notna(), column.map(read))


def _pretraining_runs(table: pd.DataFrame) -> list[RunRecord]:
    """The runs of a pretraining table, as records; their method is `scratch`."""

    from regrow.runs import CurvePoint, RunRecord

    named = table["run"].astype(str) if "run" in table.columns else table.index.astype(str)
    records = []
    for key, rows in table.groupby([named, table["params"]], sort=False):
        run, params = cast("tuple[str, float]", key)
        curve = [CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(rows["tokens"], rows["loss"], strict=True)]
        size = int(params)
        records.append(
            RunRecord(
                run=f"{run}-{size}",
                family="pretraining",
                method="scratch",
                params_before=size,
                params_after=size,
                pruning_rate=0.0,
                loss_before=curve[-1].loss,
                curve=tuple(sorted(curve, key=lambda p: p.tokens)),
            )
        )
    return records


def scratch_curve(text: str) -> ScratchCurve:
    """The curve that `--compare-scratch` names: stated coefficients, or a table of pretraining runs."""
    return stated_curve(text) if "=" in text and not Path(text).exists() else fitted_curve(text)


def compare_scratch(
    law: Law, setting: Setting, params: float, curve: ScratchCurve, *, tokens: float | None, level: float = 0.9
) -> ScratchComparison:
    """Compare a pruned model with one of `params` parameters that is trained from scratch.

    Args:
        setting: the pruned model, without tokens.
        tokens: of the plan, where there are any.
    """
    refused = too_far(law, law.extrapolates(setting.at(law.ranges["tokens"][0])))
    if refused:
        return _unknown(curve, params, refused, level)
    support = supported_tokens(law)
    first, most = max(support.first, 1.0), min(support.most, curve.most)
    grid = np.geomspace(first, most, _GRID)
    pruned, scratch = _paired(Curves(law, setting).loss(grid), curve.loss(params, grid))
    found = np.array([_first_even(grid, row) for row in scratch / pruned])
    point = found[0] if first < found[0] < np.inf else None
    low, high = ends(found[1:], level) if len(found) > 1 else (math.nan, math.nan)
    reason = ""
    if point is None:
        reason = f"pruning leads up to {format_count(most)} tokens, as far as the runs support an answer"
        if found[0] <= first:
            reason = f"it is as good from the first reading of the law's runs on ({format_count(first)} tokens)"
    at: dict[str, float | None] = {"lead": None, "scratch_loss": None, "match": None}
    if tokens is not None:
        own = float(Curves(law, setting).point().loss(np.array([tokens]))[0, 0])
        theirs = float(curve.loss(params, np.array([tokens]))[0, 0])
        match = float(last_crossings(lambda t: curve.loss(params, t)[:1] / own, np.array([[1.0]]))[0])
        at = {"lead": theirs - own, "scratch_loss": theirs, "match": match if match <= curve.most else None}
        at["match"] = None if at["match"] is None or not math.isfinite(match) else match
    return ScratchComparison(
        params=params,
        curve=curve,
        break_even=point,
        low=None if point is None or not first < low < np.inf else float(low),
        high=None if point is None or not first < high < np.inf else float(high),
        reason=reason,
        tokens=tokens,
        level=level,
        supported=(first, most) if len(found) > 1 else None,
        warnings=_beyond(curve, params),
        **at,
    )


def _unknown(curve: ScratchCurve, params: float, reason: str, level: float) -> ScratchComparison:
    """The comparison for a model of which the law says nothing."""
    return ScratchComparison(
        params=params, curve=curve, reason=reason, level=level, break_even=None, low=None, high=None, tokens=None,
        lead=None, scratch_loss=None, match=None, supported=None,
    )  # fmt: skip


def against_scratch(law: Law, spec: PlanSpec, answer: Plan, curve: ScratchCurve) -> ScratchComparison:
    """A plan against training a model of the pruned size from scratch.

    Args:
        law, spec: what the plan was made with.

    Raises `InputError` for a law of scores.
    """
    if law.benchmark is not None:
        raise InputError("--compare-scratch with a law of scores", hint="the curve from scratch is one of losses")
    return compare_scratch(
        in_recipe(law, spec.others),
        spec.setting(answer.pruning_rate),
        answer.params_after,
        curve,
        tokens=answer.tokens if answer.tokens_reason is None else None,
        level=spec.level,
    )


def _paired(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both, the point first, then each draw of one beside a draw of the other; a single row serves all."""
    if len(one) == 1 or len(other) == 1:
        rows = max(len(one), len(other))
        return np.broadcast_to(one, (rows, one.shape[1])), np.broadcast_to(other, (rows, other.shape[1]))
    rows = min(len(one), len(other))
    return one[:rows], other[:rows]


def _first_even(grid: np.ndarray, ratio: np.ndarray) -> float:
    """The first tokens at which the ratio of losses [n] comes to 1, log-log between points; infinity if it does not."""
    under = np.flatnonzero(ratio <= 1.0)
    if not under.size:
        return math.inf
    at = int(under[0])
    if at == 0:
        return float(grid[0])
    high, low = math.log(ratio[at - 1]), math.log(ratio[at])
    share = high / (high - low) if high > low else 1.0
    return float(math.exp(math.log(grid[at - 1]) + share * (math.log(grid[at]) - math.log(grid[at - 1]))))


def _beyond(curve: ScratchCurve, params: float) -> tuple[str, ...]:
    if curve.sizes is None or curve.sizes[0] / 1.01 <= params <= curve.sizes[1] * 1.01:
        return ()
    low, high = map(format_count, curve.sizes)
    return (
        f"the curve from scratch was fitted to {low} to {high} parameters, the pruned model has {format_count(params)}",
    )
