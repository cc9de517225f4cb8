"""A fitted law: what it predicts, how sure it is, and where it leaves the data it was fitted to. numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regrow.errors import InputError, one_of
from regrow.html_table import html_table
from regrow.laws.forms import FORMS, Form, find_form
from regrow.laws.prediction import LOSS, SCORE, Prediction, predicted
from regrow.laws.samples import blocks, quantiles
from regrow.laws.setting import Column, Reference, Setting
from regrow.units import check_level, plural

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

Status = Literal["ok", "bound", "flat", "failed"]
#: an input this far past the fitted range, as a ratio, still counts as inside: counts are rounded
_INSIDE = 1.0005
#: a fitted range narrower than this ratio counts as this wide when distances outside it are measured
_LEAST_RANGE = 1.5
#: the logarithm of the largest factor by which a size's gap is taken to miss the law: fourfold, which is a judgement;
#: from few sizes the t has tails without limit
MOST_SIZE_EFFECT = math.log(4.0)
#: what must be said where a law's gaps are measured from a control that moves
CONTROL_BASELINE = (
    "this law measures gaps from the unpruned control: the loss before pruning must be the control's at these tokens, "
    "and D* is of the gap alone"
)
#: parameter counts closer than this share are of one model
SAME_SIZE = 1e-3
#: pruning rates closer than this are of one pruned model
_SAME_RATE = 0.01
#: noise values per bootstrap draw, with which the draws make the quantiles of a new run: fewer where the draws alone
#: are nearly as many samples as are needed
_NOISE_PER_DRAW, _SAMPLES = 40, 8000


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A law of one family and one pruning method.

    Attributes:
        family, method, form: what was fitted, and by which formula (`regrow.laws.forms`).
        params: the formula's parameters in natural units (parameters, tokens, nats).
        status: `ok`; `bound`: a parameter ended on its bound; `flat`: the data cannot tell some parameters apart;
            `failed`: no start converged to a finite objective.
        warnings: what a reader must know, in plain words.
        n_runs, n_points: runs and checkpoints fitted.
        metrics: in-sample `r2`, `huber`, `asd`, `mape` (fractions), None where undefined.
        ranges: smallest and largest of each input that was fitted.
        draws: run-level bootstrap refits, [draws, parameters], in the order of `params`.
        run_spread: standard deviation of log loss between runs of the same size, rate and tokens.
        point_spread: standard deviation of log loss between checkpoints of a run around the curve.
        size_spread: standard deviation of the random effect of the size, relative to the gap; 0 in files that lack it.
        baseline: `initial` or `control`: where gaps are measured from.
        loss_kind: `raw`, `averaged` or `cooled`: which of the runs' losses it was fitted to, and so predicts.
        target: `loss`, or `score:NAME` of a benchmark (`score:mean` of several): then what every method here calls a
            loss is the error 1 - score.
        fingerprint: SHA-256 (16 hex digits) of the data.
        sizes: of models that the fit has seen, by their parameters before pruning: the parameters for a new run of that
            model, [1 + draws, parameters], the first row the point estimate. Empty for laws that know no such thing.
        diagnostics: objective, starts, starts_agreed, condition, at_bound, fixed, run_dof, and what else helps trust.
    """

    family: str
    method: str
    form: str
    params: Mapping[str, float]
    status: str
    warnings: tuple[str, ...] = ()
    n_runs: int
    n_points: int
    metrics: Mapping[str, float | None]
    ranges: Mapping[str, tuple[float, float]]
    draws: np.ndarray
    run_spread: float
    point_spread: float
    size_spread: float = 0.0
    baseline: str = "initial"
    loss_kind: str = "raw"
    target: str = LOSS
    fingerprint: str = ""
    sizes: Mapping[int, np.ndarray] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def formula(self) -> Form:
        """The form behind the name."""
        return find_form(self.form)

    @property
    def theta(self) -> np.ndarray:
        """The parameters as an array, [p]."""
        return np.array([self.params[name] for name in self.formula.names], dtype=float)

    @property
    def benchmark(self) -> str | None:
        """The benchmark whose score it predicts; None for a law of losses."""
        return self.target.removeprefix(SCORE) if self.target.startswith(SCORE) else None

    @property
    def unsupported(self) -> dict[str, str]:
        """Inputs of which the fitted runs show one value only, and why: the law cannot speak of others."""
        return {str(k): str(v) for k, v in self.diagnostics.get("unsupported", {}).items()}

    @property
    def middle(self) -> Setting:
        """The middle of the fitted range of every column but the tokens."""
        return Setting(**{name: (low + high) / 2 for name, (low, high) in self.ranges.items() if name != "tokens"})

    def loss(self, x: Setting) -> np.ndarray:
        """Loss in nats/token at the point estimate, of the shape of the setting.

        Raises `InputError` for a setting without a column that the form reads, or with a value that is not possible.
        """
        return self._at_sizes(x, lambda rows, at: self._evaluate(rows[:1], at))[0]

    def loss_draws(self, x: Setting) -> np.ndarray:
        """Loss of every bootstrap refit, [draws, ...]: the uncertainty of the predicted mean of a model of this size.

        Each draw differs in what the runs leave open about the parameters, and in the random effect of the size
        (`variance_inflation`).
        """
        drawn = self._at_sizes(x, lambda rows, at: self._evaluate(rows[1:], at))
        if not self.size_spread:
            return drawn
        base = self._evaluate(self.draws, x, part="baseline")
        return base + (drawn - base) * self.variance_inflation(x)

    def variance_inflation(self, x: Setting) -> np.ndarray:
        """Factors [draws, ...] on the gap of each draw, for the random effect of the size and what the form may miss.

        exp(s t sqrt(1 + h^2)): s is `size_spread`, t a number per draw (`size_effect_numbers`), and h the distance from
        the fitted ranges of size, rate and whatever else the design of a study sets, in widths of the range on a log
        scale (root of the sum of squares; 0 inside). That trust in the form falls with h is a rule, not an estimate:
        the runs cannot show what lies outside them.
        """
        outside = [self._outside(c.name, x[c.name]) for c in self.formula.columns if c.designed]
        reach = np.sqrt(sum((h**2 for h in outside), start=np.ones(x.shape)))
        factor = self.size_spread * self.size_effect_numbers.reshape(-1, *(1,) * reach.ndim) * reach
        return np.exp(np.clip(factor, -MOST_SIZE_EFFECT, MOST_SIZE_EFFECT))

    @cached_property
    def size_effect_numbers(self) -> np.ndarray:
        """A number per draw from Student's t, [draws], as the spread is known from few sizes; fixed, so that
        predictions repeat."""
        rng = np.random.default_rng(1)
        dof = max(float(self.diagnostics.get("size_dof", 1.0)), 1.0)
        return rng.standard_normal(len(self.draws)) / np.sqrt(rng.chisquare(dof, len(self.draws)) / dof)

    @cached_property
    def noise_numbers(self) -> np.ndarray:
        """Log-loss noise of a new run's checkpoint, [draws, k]; fixed, so that predictions repeat."""
        rng = np.random.default_rng(0)
        size = (len(self.draws), int(np.clip(_SAMPLES // max(len(self.draws), 1), 1, _NOISE_PER_DRAW)))
        dof = max(float(self.diagnostics.get("run_dof", self.n_runs)), 1.0)
        chi = rng.chisquare(dof, size) / dof
        between = self.run_spread * rng.standard_normal(size) / np.sqrt(chi)
        own = rng.standard_normal(size)
        few = self.diagnostics.get("point_dof")  # of scores: their noise is estimated from few readings
        if few is not None:
            own = own / np.sqrt(rng.chisquare(max(float(few), 1.0), size) / max(float(few), 1.0))
        return between + self.point_spread * own

    def _outside(self, name: str, value: np.ndarray) -> np.ndarray:
        """Distance outside the fitted range in widths of it, on a log scale; 0 inside."""
        low, high = self.ranges[name]
        if not low > 0:
            return np.zeros_like(value)
        ratio = np.maximum(value / high, low / value)
        width = np.log(max(high / low, _LEAST_RANGE))
        return np.where(ratio > _INSIDE, np.log(np.maximum(ratio, 1.0)) / width, 0.0)

    def gap(self, x: Setting) -> np.ndarray:
        """Loss above the setting's `loss_before`, in nats/token."""
        return self.loss(x) - x.loss_before

    def slope(self, x: Setting) -> np.ndarray:
        """dL/d ln D in nats per e-fold of tokens; divide by the tokens for nats per token."""
        return self._at_sizes(x, lambda rows, at: self._evaluate(rows[:1], at, part="slope"))[0]

    def predict(
        self,
        *,
        params_before: ArrayLike | None = None,
        pruning_rate: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        loss_before: ArrayLike | None = None,
        loss_pruned: ArrayLike | None = None,
        level: float = 0.9,
        of: str = "run",
        **others: ArrayLike | None,
    ) -> Prediction:
        """The loss with its interval. What the law's form does not read may be left out.

        Each input is a number or an array; arrays are broadcast, and the losses are then arrays of that shape.

        Args:
            params_before: parameters before pruning.
            pruning_rate: fraction of the parameters removed.
            tokens: post-training tokens.
            loss_before: held-out loss of the unpruned model, nats/token.
            loss_pruned: held-out loss right after pruning, nats/token.
            level: probability of the interval.
            of: `run`, where one new run's checkpoint will lie; `mean`, where the average over runs lies.
            others: columns of a form of your own.

        Raises:
            InputError: an input that no model has, one that the form reads and that is missing, or a level outside
                (0, 1).
        """
        x = Setting(
            params_before=params_before, pruning_rate=pruning_rate, tokens=tokens, loss_before=loss_before,
            loss_pruned=loss_pruned, **others,
        )  # fmt: skip
        low, high = self.interval(x, level=level, of=of)
        far = self.extrapolates(x)
        return predicted(self.loss(x), low, high, level=level, extrapolates=far, target=self.target)

    def interval(self, x: Setting, *, level: float = 0.9, of: str = "run") -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the prediction interval, of the shape of the setting.

        The draws carry what the data leave open about the mean. A new run adds its own offset and its checkpoint's
        noise, with Student's t tails because both spreads are estimated from few runs.
        """
        one_of(of, ("run", "mean"), what="interval", where="predict")
        check_level(level, where="predict")
        noise = self.noise_numbers if of == "run" else np.zeros((len(self.draws), 1))
        tail, row = (1 - level) / 2, x.ravel()
        point = self.loss(row)
        ends = np.empty((2, len(point)))
        for block in blocks(len(point), noise.size):
            log_loss = np.log(np.maximum(self.loss_draws(row.keep(block)), 1e-12))
            samples = (log_loss[:, None] + noise[:, :, None]).reshape(-1, log_loss.shape[1])
            # a draw without limits may be past what a float can hold
            ends[:, block] = np.exp(np.minimum(quantiles(samples, tail, 1 - tail), 700))
        # the interval of a skewed bootstrap may miss its own point estimate
        low, high = np.minimum(ends[0], point), np.maximum(ends[1], point)
        return low.reshape(x.shape), high.reshape(x.shape)

    def extrapolates(self, x: Setting) -> dict[str, float]:
        """The columns of a setting that lie outside the fitted range, with the largest factor (above 1) by which."""
        out = {}
        for column in self.formula.columns:
            if column.name not in x or column.name not in self.ranges:
                continue
            low, high = self.ranges[column.name]
            smallest, largest = float(np.min(x[column.name])), float(np.max(x[column.name]))
            above = (largest / high if high > 0 else math.inf) if largest > high * _INSIDE else 1.0
            below = (low / smallest if smallest > 0 else math.inf) if smallest * _INSIDE < low else 1.0
            if max(above, below) > 1:
                out[column.name] = max(above, below)
        return out

    def intervals(self, level: float = 0.9) -> dict[str, tuple[float, float]]:
        """Bootstrap interval of every parameter."""
        tail = (1 - level) / 2
        low, high = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        return {name: (float(a), float(b)) for name, a, b in zip(self.params, low, high, strict=True)}

    def to_frame(self, level: float = 0.9) -> pd.DataFrame:
        """A table with one row per parameter: value, low, high, meaning."""
        import pandas as pd

        ends = self.intervals(level)
        rows = [
            {"parameter": p.name, "value": self.params[p.name], "low": ends[p.name][0], "high": ends[p.name][1],
             "meaning": p.meaning}
            for p in self.formula.parameters
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("parameter")

    def parameters_at(self, params_before: np.ndarray | float) -> np.ndarray:
        """Parameters for a new run of one model, [1 + draws, p]: those of the model where the fit has seen it."""
        for known, rows in self.sizes.items():
            if np.all(np.isclose(params_before, known, rtol=SAME_SIZE)):
                return rows
        return np.concatenate([self.theta[None, :], self.draws])

    def _at_sizes(self, x: Setting, evaluate: Callable[[np.ndarray, Setting], np.ndarray]) -> np.ndarray:
        """What `evaluate` gives for parameters [1 + draws, p] and a setting, with those of each model that is known."""
        every = np.concatenate([self.theta[None, :], self.draws])
        if not self.sizes or "params_before" not in x:
            return evaluate(every, x)
        size = x.params_before.ravel()
        row = x.ravel()
        parts = [(np.isclose(size, known, rtol=SAME_SIZE), rows) for known, rows in self.sizes.items()]
        rates = self.diagnostics.get("rates_of_sizes")  # of scores: what is known is one pruned model of the size
        if rates is not None and "pruning_rate" in x:
            read = np.array([rates[str(known)] for known in self.sizes])
            parts = [
                (mine & (np.abs(row.pruning_rate - rate) < _SAME_RATE), rows)
                for (mine, rows), rate in zip(parts, read, strict=True)
            ]
        parts = [(mine, rows) for mine, rows in parts if mine.any()]
        new = ~np.any([mine for mine, _ in parts], axis=0) if parts else np.ones(len(size), dtype=bool)
        if new.any():
            parts.append((new, every))
        found = [(mine, evaluate(rows, row.keep(mine))) for mine, rows in parts]
        out = np.empty((len(found[0][1]), len(size)))
        for mine, values in found:
            out[:, mine] = values
        return out.reshape(len(out), *x.shape)

    def _evaluate(
        self, theta: np.ndarray, x: Setting, *, part: Literal["value", "slope", "baseline"] = "value"
    ) -> np.ndarray:
        form = self.formula
        for column in form.columns:
            _check(form, column, x)
        scaled, row = form.from_natural(theta, Reference()), x.relative_to({}).ravel()
        out = np.empty((len(theta), len(row)))
        with np.errstate(over="ignore", under="ignore"):
            for block in blocks(len(row), len(theta)):
                out[:, block] = getattr(form, part)(scaled, row.keep(block))
        return out.reshape(len(theta), *x.shape)

    def _repr_html_(self) -> str:
        """For a notebook: the parameters with their intervals, the metrics, and what to know."""
        ends = self.intervals() if len(self.draws) else {}
        interval = {name: f"{low:.4g} to {high:.4g}" for name, (low, high) in ends.items()}
        rows = [
            (p.name, f"{self.params[p.name]:.4g}", interval.get(p.name, "-"), p.meaning)
            for p in self.formula.parameters
            if p.name in self.params
        ]
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items() if value is not None)
        what = f"{plural(self.n_runs, 'run')}, {plural(self.n_points, 'checkpoint')}, baseline {self.baseline}"
        title = f"Law {self.family}, {self.method}: {self.form}, status {self.status}, {what}"
        columns = ("parameter", "value", "90% interval", "meaning")
        notes = (f"loss = {self.formula.formula}", shown, *self.warnings)
        return html_table(columns, rows, title=title, notes=[note for note in notes if note])

    def __repr__(self) -> str:
        low_high = self.intervals() if len(self.draws) else {}
        of = f"{self.loss_kind} losses" if self.benchmark is None else f"1 - {self.target}"
        lines = [f"Law {self.family} {self.method}: {self.form}, status {self.status}, {plural(self.n_runs, 'run')}, "
                 f"{plural(self.n_points, 'checkpoint')}, baseline {self.baseline}, {of}"]  # fmt: skip
        lines.append(f"  loss = {self.formula.formula}")
        widest = max(map(len, self.params), default=0)
        for name, value in self.params.items():
            ends = f"   90% [{low_high[name][0]:.4g}, {low_high[name][1]:.4g}]" if name in low_high else ""
            lines.append(f"  {name:>{widest}} = {value:<11.5g}{ends}")
        shown = ", ".join(f"{k} {v:.4g}" for k, v in self.metrics.items() if v is not None)
        lines.append(f"  {shown}; spread of log loss: runs {self.run_spread:.2g}, checkpoints {self.point_spread:.2g}")
        lines.extend(f"  ! {warning}" for warning in self.warnings)
        return "\n".join(lines)


def _check(form: Form, column: Column, x: Setting) -> None:
    """Raise `InputError` for a column that is missing from a setting, or that has a value outside the form."""
    name = column.name
    if name not in x:
        raise InputError(f"no {name}, which the form {form.name} reads", where="predict", hint=column.hint)
    values, zero = x[name], name in form.covers_zero
    if column.is_possible(values, zero=zero):
        return
    shown = f"{values.flat[0]:g}" if values.size == 1 else "some values are out of range"
    hint = column.hint
    if not zero and column.is_possible(values, zero=True):
        others = [other.name for other in FORMS.values() if name in other.covers_zero]
        hint = f"the form {form.name} needs {name} above 0"
        hint += f"; {', '.join(others)} {'covers' if len(others) == 1 else 'cover'} 0 too" if others else ""
    raise InputError(f"{name} {shown}", where="predict", hint=hint)
