"""What the user asks of pruning. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regrow.errors import InputError, one_of
from regrow.methods import DEPTH, WIDTH, parse_pattern

#: Methods as a message lists them; any other N:M is accepted as well.
METHODS = (DEPTH, WIDTH, "2:4")

#: Scorers per kind of method, the default first. `random` is the baseline every other must beat.
SCORERS: dict[str, tuple[str, ...]] = {
    DEPTH: ("block-influence", "random"),
    WIDTH: ("activation", "random"),
    "N:M": ("wanda", "magnitude"),
}

#: Axes that width pruning can shrink, named as in `Architecture`.
AXES = ("hidden", "intermediate", "kv_heads")


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """What to prune, how much, and by which measure.

    Attributes:
        method: `depth` (drop blocks), `width` (drop neurons, KV groups, channels) or `N:M`, e.g. `2:4`: keep N
            weights of every M neighbours along the input dimension.
        rate: fraction of all parameters to remove, in (0, 1), tied embeddings counted once; not given for N:M, where
            it follows from the pattern.
        scorer: measure of importance; None takes the method's default (`SCORERS`).
        axes: what width pruning may shrink, of `AXES`; None takes `hidden` and `intermediate`, and KV groups only
            where no other shape reaches the rate.
        calibration_blocks: blocks of text the scores are measured on.
        calibration_length: tokens of each block that are used, at most.
        seed: picks the calibration blocks, and the order of the `random` scorer.

    Raises `InputError` for anything that cannot be.
    """

    method: str
    rate: float | None = None
    scorer: str | None = None
    axes: tuple[str, ...] | None = None
    calibration_blocks: int = 32
    calibration_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pattern is None:
            one_of(self.method, METHODS, what="method", where="prune")
            self._check_rate()
        else:
            n, m = self.pattern
            if not 0 < n < m:
                raise InputError(f"{self.method} keeps {n} of every {m}", where="method", hint="N is kept: 0 < N < M")
            if self.rate is not None:
                raise InputError(
                    f"rate {self.rate} given with {self.method}", where="rate", hint="the pattern sets it; leave it out"
                )
        choices = SCORERS[self.kind]
        scorer = choices[0] if self.scorer is None else self.scorer
        object.__setattr__(self, "scorer", one_of(scorer, choices, what=f"scorer for {self.method}", where="scorer"))
        object.__setattr__(self, "axes", self._checked_axes())
        for name, least in (("calibration_blocks", 1), ("calibration_length", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{value!r} is not a whole number of at least {least}", where=name)

    def _check_rate(self) -> None:
        if self.rate is None:
            raise InputError("no rate given", where="rate", hint=f"{self.method} pruning needs one, e.g. 0.25")
        # written so that NaN fails too
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < 1:
            raise InputError(f"rate {self.rate!r} is not between 0 and 1", where="rate", hint="0.25 removes a quarter")

    def _checked_axes(self) -> tuple[str, ...] | None:
        if self.axes is None:
            return None
        if self.method != WIDTH:
            raise InputError(f"axes given with {self.method}", where="axes", hint="only width pruning has axes")
        if not self.axes:
            raise InputError("no axes given", where="axes", hint=f"choose from: {', '.join(AXES)}")
        chosen = {one_of(axis, AXES, what="axis", where="axes") for axis in self.axes}
        return tuple(axis for axis in AXES if axis in chosen)

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M) for N:M sparsity, else None."""
        return parse_pattern(self.method)

    @property
    def kind(self) -> str:
        """`depth`, `width` or `N:M`."""
        return "N:M" if self.pattern else self.method

    @property
    def needs_calibration(self) -> bool:
        """Whether the scorer looks at activations, and so needs text."""
        return self.scorer in ("block-influence", "activation", "wanda")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self) | {"axes": None if self.axes is None else list(self.axes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PruneSpec:
        """The inverse of `to_dict`. Raises `InputError` for an unknown field (with a suggestion) or a bad value."""
        known = [field.name for field in fields(cls)]
        for name in data:
            one_of(name, known, what="field", where="prune spec")
        if "method" not in data:
            raise InputError("no method given", where="prune spec", hint=f"choose from: {', '.join(METHODS)}")
        axes = data.get("axes")
        if axes is not None and not isinstance(axes, list | tuple):
            raise InputError(f"{axes!r} is not a list", where="axes", hint=f"choose from: {', '.join(AXES)}")
        return cls(**{**data, "axes": None if axes is None else tuple(axes)})
