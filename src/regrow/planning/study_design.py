"""What is asked of the design of a study, and what is answered: plain data that checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.methods import DEPTH, DEPTH_AND_WIDTH, WIDTH, is_masked
from regrow.planning.cost import (
    DEFAULT_MFU,
    check_mfu,
    cost_usd,
    find_gpu,
    flops_per_token,
    pruned_model,
    say_gpu_time,
    say_usd,
)
from regrow.planning.design_model import DesignModel
from regrow.planning.information import Discrepancy
from regrow.units import check_context, check_level, format_count, plural, read_fields

if TYPE_CHECKING:
    import pandas as pd

    from regrow.footprint import MemoryTarget


@dataclass(frozen=True, kw_only=True)
class DesignSpec:
    """What is to be known, from which runs, for how much.

    Attributes:
        target: the model whose D* (criterion `gain`) is wanted.
        pruning_rate: its rate; None for N:M sparsity of a known architecture.
        memory: instead of a rate, what the pruned target may take where it is served: the rate is that of the largest
            shape within it.
        active_params: instead of a rate, of a mixture of experts, the parameters that a token of the pruned target is
            computed with, a number or text such as "2B".
        method: pruning method of target and runs.
        candidates: models to prune in the study.
        rates: pruning rates to choose from; not used for N:M.
        tokens: lengths of runs to choose from; empty for doublings from 0.2 tokens per parameter on.
        checkpoints: losses read in a run, spaced evenly in log tokens from 1/32 of its tokens.
        seeds: at most so many runs of one size and rate.
        budget_flops, budget_gpu_hours: exactly one; the controls are paid from it, too.
        controls: whether each size has an unpruned control, as long as its longest run.
        next: plan only so many runs, in the order in which to make them; None for a whole study.
        family: name under which the runs will be fitted; None for the law's.
        min_gain: nats that doubling D* must still buy.
        run_spread, point_spread: of log loss; None for the law's, or the defaults.
        discrepancy: model discrepancy: how far the law may be from the truth.
        gpu, mfu, price_usd_per_hour, context, level: as in `PlanSpec`.
    """

    target: DesignModel
    candidates: tuple[DesignModel, ...]
    method: str = "depth"
    pruning_rate: float | None = None
    memory: MemoryTarget | None = None
    active_params: float | str | None = None
    rates: tuple[float, ...] = (0.15, 0.25, 0.35)
    tokens: tuple[float, ...] = ()
    checkpoints: int = 10
    seeds: int = 2
    budget_flops: float | None = None
    budget_gpu_hours: float | None = None
    controls: bool = True
    next: int | None = None
    family: str | None = None
    min_gain: float = 0.01
    run_spread: float | None = None
    point_spread: float | None = None
    discrepancy: Discrepancy = field(default_factory=Discrepancy)
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    price_usd_per_hour: float | None = None
    context: int = 4096
    level: float = 0.9

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str):
            raise InputError(f"candidates {self.candidates!r}", where="design", hint='give a tuple: ("1B", "3B")')
        object.__setattr__(self, "target", DesignModel.of(self.target))
        object.__setattr__(self, "candidates", tuple(map(DesignModel.of, self.candidates)))
        numbers = ("pruning_rate", "rates", "budget_flops", "budget_gpu_hours", "min_gain", "mfu", "level")
        read_fields(self, counts=("active_params", "tokens", "context"), numbers=numbers, where="design")
        if self.method == DEPTH_AND_WIDTH:
            hint = f"design one for {DEPTH} or {WIDTH}: `regrow plan --method {DEPTH_AND_WIDTH}` asks the law of both"
            raise InputError(f"studies do not prune by {DEPTH_AND_WIDTH}", where="design", hint=hint)
        self._read_target()
        if not self.candidates:
            raise InputError("no candidate models", where="design", hint="name at least one")
        labels = [c.label for c in self.candidates]
        twice = next((c for c in labels if labels.count(c) > 1), None)
        if twice:
            raise InputError(f"the candidate {twice} is given twice", where="design", hint="name each model once")
        if (self.budget_flops is None) == (self.budget_gpu_hours is None):
            raise InputError("a budget in FLOPs or in GPU-hours", where="design", hint="give exactly one of them")
        if is_masked(self.method) and len(self.rates) > 1 and not all(c.architecture for c in self.candidates):
            raise InputError(
                f"the rate of {self.method} sparsity depends on the model's shape, and a candidate is only a size",
                where="design",
                hint="name models, or give the one rate they all have",
            )
        if self.pruning_rate is None and not (is_masked(self.method) and self.target.architecture):
            raise InputError("the target's pruning rate is missing", where="design", hint="e.g. a rate of 0.25")
        for rate in (*self.rates, *([] if self.pruning_rate is None else [self.pruning_rate])):
            if not 0 < rate < 1:
                raise InputError(f"a pruning rate of {rate:g}", where="design", hint="give a fraction between 0 and 1")
        if not self.rates:
            raise InputError("no pruning rates", where="design", hint="give at least one, e.g. 0.15, 0.25, 0.35")
        for what, value in (
            ("budget", self.budget_flops if self.budget_gpu_hours is None else self.budget_gpu_hours),
            ("minimum gain", self.min_gain),
            *(("number of tokens", t) for t in self.tokens),
            *(("spread", s) for s in (self.point_spread, self.run_spread) if s is not None),
        ):
            if value is None or not (np.isfinite(value) and value > 0):
                raise InputError(f"a {what} of {value:g}", where="design", hint="give a positive number")
        for what, count, least in (
            ("seeds", self.seeds, 1),
            ("checkpoints", self.checkpoints, 3),
            ("next runs", 1 if self.next is None else self.next, 1),
        ):
            if count < least:
                raise InputError(f"{count} {what}", where="design", hint=f"give at least {least}")
        check_level(self.level, where="design")
        check_context(self.context, where="design")
        check_mfu(self.mfu)
        find_gpu(self.gpu)
        cost_usd(None, price_usd_per_hour=self.price_usd_per_hour)

    def _read_target(self) -> None:
        """The rate that memory or the parameters of a token make of the target.

        Raises `InputError` for two targets, or for one without a shape.
        """
        targets = {
            "a rate": self.pruning_rate,
            "a memory target": self.memory,
            "parameters of a token": self.active_params,
        }
        given = [name for name, value in targets.items() if value is not None]
        if len(given) > 1:
            raise InputError(" and ".join(given), where="design", hint="each makes the rate: give one of them")
        if self.memory is None and self.active_params is None:
            return
        if self.target.architecture is None:
            raise InputError(f"{given[0]} for a size", where="design", hint="name the model: its shape is needed")
        model = pruned_model(
            method=self.method, pruning_rate=None, architecture=self.target.architecture, memory=self.memory,
            active_params=self.active_params,  # type: ignore[arg-type]
        )  # fmt: skip
        object.__setattr__(self, "pruning_rate", model.pruning_rate)

    @property
    def budget(self) -> float:
        """The budget in FLOPs."""
        if self.budget_flops is not None:
            return float(self.budget_flops)
        return float(self.budget_gpu_hours or 0.0) * 3600.0 * find_gpu(self.gpu).peak_flops * self.mfu

    def rate_of(self, model: DesignModel, rate: float | None) -> float:
        """The rate asked for, or what N:M sparsity makes of this model."""
        if is_masked(self.method) and model.architecture is not None:
            from regrow.shapes import prune_shape

            pruned = prune_shape(model.architecture, self.method, None)
            if pruned is not None:
                return pruned.rate
        return float(self.rates[0] if rate is None else rate)

    def flops(self, model: DesignModel, rate: float, tokens: float) -> float:
        """FLOPs of training this model, pruned at `rate` (0: the unpruned control), on so many tokens."""
        counted = flops_per_token(
            params_before=model.size,
            pruning_rate=rate,
            method="none" if rate == 0 else self.method,
            architecture=model.architecture,
            context=self.context,
        )
        return tokens * counted.per_token


@dataclass(frozen=True, kw_only=True)
class DesignRun:
    """One run of a design, made `repeats` times with other seeds; `flops` of all of them.

    `factor_after` is the expected interval once it and the runs before it are made, where the order counts.
    """

    model: str
    params_before: float
    pruning_rate: float
    tokens: float
    repeats: int
    flops: float
    factor_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How well a set of runs tells D*, and what it costs.

    The interval of D* reaches from its estimate divided by `factor` to its estimate times `factor`, at the design's
    level. `factor` is the mean over what the law may be (of its logarithm), `factor_low` and `factor_high` are the 10%
    and 90% quantiles. `factor_exact` is the same if the law holds to the letter,
    `factor_bent` if its model discrepancy is ten times the default (`regrow.planning.information.BENT`); both are None
    for a law whose effects say how far runs lie from it.
    """

    factor: float
    factor_low: float
    factor_high: float
    factor_exact: float | None
    factor_bent: float | None
    n_runs: int
    flops: float
    gpu_hours: float
    cost_usd: float | None


@dataclass(frozen=True, kw_only=True)
class OfTarget:
    """What only the target itself can tell; factors as in `Expected`, with the designed study.

    Attributes:
        factor_without_gap: while the target's loss right after pruning is predicted; None where it was given.
        factor_least: the factor that no number of runs of other models goes below.
        factor_early: once the target's own run has made `early_tokens`.
    """

    factor_without_gap: float | None
    factor_least: float
    factor_early: float
    early_tokens: float

    def sentence(self) -> str:
        """What to do about it."""
        out = ""
        if self.factor_without_gap is not None:
            out += (
                "Both take the target's loss right after pruning as known. Prune it and evaluate it once "
                f"(`regrow prune --held-out`); without that loss it is x/÷ {self.factor_without_gap:.3g}. "
            )
        return out + (
            f"No number of runs of other models tells it better than x/÷ {self.factor_least:.3g}; the first "
            f"{format_count(self.early_tokens)} tokens of the target's own run do: x/÷ {self.factor_early:.3g}."
        )


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """A proposed study. Tokens in tokens, rates in fractions, what is not known is None.

    Attributes:
        runs: what to run.
        expected: what these runs (and those already made) are expected to tell, and their cost.
        grid: the same for all sizes at all rates, once each and equally long (`grid_tokens`), at the same cost.
        before: the factor before any of these runs; None where a law of p2 or its kin has no runs.
        tokens, tokens_low, tokens_high: D* of the target: median, and the 5% to 95% quantiles of what the law may be.
        target_flops, target_gpu_hours, target_cost_usd: of the target's own run, up to the median D*.
        assumes: where the law of the search comes from.
        of_target: what only the target itself can tell; None for laws that don't say.
    """

    spec: DesignSpec
    family: str
    runs: tuple[DesignRun, ...]
    expected: Expected
    grid: Expected
    grid_tokens: float
    before: float | None
    tokens: float
    tokens_low: float
    tokens_high: float
    target_flops: float
    target_gpu_hours: float
    target_cost_usd: float | None
    assumes: str
    of_target: OfTarget | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        own = {k: getattr(self, k) for k in ("grid_tokens", "before", "family", "assumes")}
        return {
            "runs": [vars(run) for run in self.runs],
            **vars(self.expected),
            "level": self.spec.level,
            "grid": vars(self.grid),
            **own,
            "target": {
                "params_before": self.spec.target.size,
                "pruning_rate": self.spec.rate_of(self.spec.target, self.spec.pruning_rate),
                "method": self.spec.method,
                "tokens": self.tokens,
                "tokens_low": self.tokens_low,
                "tokens_high": self.tokens_high,
                "flops": self.target_flops,
                "gpu_hours": self.target_gpu_hours,
                "cost_usd": self.target_cost_usd,
            },
            "of_target": None if self.of_target is None else vars(self.of_target),
            "gpu": self.spec.gpu,
            "mfu": self.spec.mfu,
            "studies": self.studies(),
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per run of the design."""
        import pandas as pd

        return pd.DataFrame([vars(run) for run in self.runs])

    def sentence(self) -> str:
        """The answer in a few short sentences."""
        spec, e = self.spec, self.expected

        def cost(hours: float, usd: float | None) -> str:
            return say_gpu_time(hours) + (f", {say_usd(usd)}" if usd is not None else "")

        def bent(factor: float | None) -> str:
            return "" if factor is None else f", or x/÷ {factor:.3g} should the law bend"

        was = "" if self.before is None else f" (now x/÷ {self.before:.3g})"
        rate = spec.rate_of(spec.target, spec.pruning_rate)
        known = "" if self.of_target is None else f" {self.of_target.sentence()}"
        return (
            f"{plural(e.n_runs, 'run')}, {cost(e.gpu_hours, e.cost_usd)} ({spec.gpu}, MFU {spec.mfu:g}): D* of "
            f"{spec.target.label}, {spec.method} pruned at {rate:.3g}, is then known to within x/÷ {e.factor:.3g} at "
            f"{spec.level:.0%}{was}{bent(e.factor_bent)}. A grid of "
            f"{plural(self.grid.n_runs, 'equal run')} of {format_count(self.grid_tokens)} tokens for the whole budget: "
            f"x/÷ {self.grid.factor:.3g}"
            f"{bent(self.grid.factor_bent)}.{known} The target's own run to its D*, about "
            f"{format_count(self.tokens)} tokens ({format_count(self.tokens_low)} to "
            f"{format_count(self.tokens_high)}), takes {cost(self.target_gpu_hours, self.target_cost_usd)}."
        )

    def studies(self) -> list[dict[str, Any]]:
        """The design as study files (`docs/study.md`), as few as it takes; all run into one folder.

        A study gives every model the same rates and seeds, and each model one number of tokens. Models that are only
        a size stand as `FILL-IN-<size>`. The controls, as long as the longest run of their model, come first.
        """
        names = {c.label: c.name or f"FILL-IN-{c.label}" for c in self.spec.candidates}
        longest: dict[str, float] = {}
        by_seed: dict[tuple[str, float, int], list[float]] = {}
        for run in self.runs:
            model = names[run.model]
            longest[model] = max(longest.get(model, 0.0), run.tokens)
            for seed in range(run.repeats):
                by_seed.setdefault((model, run.tokens, seed), []).append(run.pruning_rate)
        # runs of one model and length whose rates agree differ in their seed only
        seeds: dict[tuple[str, float, tuple[float, ...]], list[int]] = {}
        for (model, tokens, seed), each in by_seed.items():
            seeds.setdefault((model, tokens, tuple(sorted(each))), []).append(seed)
        files: list[tuple[tuple[float, ...], list[int], dict[str, float]]] = []
        for (model, tokens, rates), numbers in seeds.items():
            # of N:M sparsity each model has its own rate, which the study does not name
            shared = () if is_masked(self.spec.method) else rates
            mine = next((models for r, n, models in files if (r, n) == (shared, numbers) and model not in models), None)
            if mine is None:
                mine = dict[str, float]()
                files.append((shared, numbers, mine))
            mine[model] = tokens
        out = [self._study(models, rates, numbers) for rates, numbers, models in files]
        controls = {**self._study(longest, (), [0]), "methods": [], "controls": True}
        return [controls, *out] if self.spec.controls else out

    def _study(self, tokens: Mapping[str, float], rates: tuple[float, ...], seeds: list[int]) -> dict[str, Any]:
        most = max(tokens.values())
        return {
            "family": self.family,
            "models": list(tokens),
            "methods": [self.spec.method],
            **({"rates": list(rates)} if rates else {}),
            "seeds": seeds,
            "controls": False,
            "train": {"tokens": round(most)},
            "train_by_model": {m: {"tokens": round(t)} for m, t in tokens.items() if t != most},
        }
