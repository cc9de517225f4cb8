"""What pruning will do, decided and written down before a weight is touched. Light: no torch.

`outline` gives the counts from the architecture alone (what a dry run prints); scores then fill in the indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import DEPTH, parse_pattern
from regrow.pruning.spec import PruneSpec
from regrow.shapes import layers_for_rate, shape_for_rate

__all__ = ["PrunePlan", "outline", "shape_for_rate"]


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """Exactly what goes and what the model is afterwards. Indices are ascending, of the original model.

    Attributes:
        method: `depth`, `width` or `N:M`.
        scorer: the measure that picked what goes.
        target_rate: the rate asked for; None for N:M.
        before, after: architectures; the same for N:M, whose zeros keep their place.
        dropped_layers: blocks that go (depth).
        kept_hidden: channels that stay (width), for the whole model.
        kept_intermediate: feed-forward neurons that stay, per block (width).
        kept_kv_heads: KV heads that stay, with their query heads, per block (width).

    Index fields are None where the method leaves that axis whole, or, in an outline, where scores have yet to decide.
    """

    method: str
    scorer: str
    target_rate: float | None
    before: Architecture
    after: Architecture
    dropped_layers: tuple[int, ...] | None = None
    kept_hidden: tuple[int, ...] | None = None
    kept_intermediate: tuple[tuple[int, ...], ...] | None = None
    kept_kv_heads: tuple[tuple[int, ...], ...] | None = None

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M) for N:M sparsity, else None."""
        return parse_pattern(self.method)

    @property
    def params_before(self) -> int:
        """Parameters before pruning (N0), tied embeddings counted once."""
        return self.before.params

    @property
    def params_after(self) -> int:
        """Parameters after pruning (N1); for N:M those outside the zeros that pruning makes."""
        if self.pattern is None:
            return self.after.params
        n, m = self.pattern
        return self.before.params - self.before.layers * self.before.block_matrix_params // m * (m - n)

    @property
    def pruning_rate(self) -> float:
        """The rate reached (rho), 1 - after/before: what a law is fitted to, not the target."""
        return 1 - self.params_after / self.params_before

    @property
    def changes(self) -> dict[str, tuple[int, int]]:
        """What changes in the architecture: name -> (before, after)."""
        was, now = asdict(self.before), asdict(self.after)
        return {name: (was[name], now[name]) for name in was if was[name] != now[name]}

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, with the counts; index lists as ranges, `0-4,6`."""
        return {
            "method": self.method,
            "scorer": self.scorer,
            "target_rate": self.target_rate,
            "pruning_rate": self.pruning_rate,
            "params_before": self.params_before,
            "params_after": self.params_after,
            "changes": {name: list(pair) for name, pair in self.changes.items()},
            "before": asdict(self.before),
            "after": asdict(self.after),
            "dropped_layers": None if self.dropped_layers is None else list(self.dropped_layers),
            "kept_hidden": None if self.kept_hidden is None else to_ranges(self.kept_hidden),
            "kept_intermediate": _each(to_ranges, self.kept_intermediate),
            "kept_kv_heads": _each(to_ranges, self.kept_kv_heads),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PrunePlan:
        """The inverse of `to_dict`; the counts are computed again. Raises `InputError` if this is not a plan."""
        try:
            layers, hidden = data["dropped_layers"], data["kept_hidden"]
            return cls(
                method=data["method"],
                scorer=data["scorer"],
                target_rate=data["target_rate"],
                before=Architecture(**data["before"]),
                after=Architecture(**data["after"]),
                dropped_layers=None if layers is None else tuple(layers),
                kept_hidden=None if hidden is None else from_ranges(hidden),
                kept_intermediate=_each(from_ranges, data["kept_intermediate"]),
                kept_kv_heads=_each(from_ranges, data["kept_kv_heads"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a prune plan ({error})", where="plan", hint="give one that regrow wrote") from None


def outline(before: Architecture, spec: PruneSpec) -> PrunePlan:
    """The plan as far as the architecture and the spec decide it: shapes and counts, no indices yet.

    Raises `InputError` if no shape reaches the rate, or if a matrix does not divide into groups of M.
    """
    assert spec.scorer is not None  # set by PruneSpec itself
    if spec.pattern is not None:
        _check_divisible(before, spec.pattern[1])
        after = before
    elif spec.method == DEPTH:
        assert spec.rate is not None
        after = layers_for_rate(before, spec.rate)
    else:
        assert spec.rate is not None
        after = shape_for_rate(before, spec.rate, axes=spec.axes)
    return PrunePlan(method=spec.method, scorer=spec.scorer, target_rate=spec.rate, before=before, after=after)


def _check_divisible(arch: Architecture, m: int) -> None:
    inputs = {
        "self_attn.q_proj": arch.hidden,
        "self_attn.o_proj": arch.heads * arch.head_dim,
        "mlp.down_proj": arch.intermediate,
    }
    for matrix, width in inputs.items():
        if width % m:
            raise InputError(
                f"the input dimension {width} of {matrix} does not divide into groups of {m}",
                where="N:M",
                hint="choose an M that divides it",
            )


def to_ranges(indices: Sequence[int]) -> str:
    """Ascending indices as text: `[0, 1, 2, 4]` -> `0-2,4`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def from_ranges(text: str) -> tuple[int, ...]:
    """The inverse of `to_ranges`. Raises `ValueError` for other text."""
    ends = [run.split("-") for run in text.split(",") if run]
    return tuple(index for run in ends for index in range(int(run[0]), int(run[-1]) + 1))


def _each(convert: Any, lists: Sequence[Any] | None) -> Any:
    return None if lists is None else tuple(convert(one) for one in lists)
