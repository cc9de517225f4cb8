"""What pruning will do, decided and written down before a weight is touched. Light: no torch.

`regrow.pruning.outline` gives the counts from the architecture alone (what a dry run prints); scores then fill in the
indices.

Counts are of all parameters, tied embeddings once, because that is what has to fit and what the laws are fitted to;
the count without the embeddings stands beside it, because pruning touches them little or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.footprint import Footprint, MemoryTarget, memory_from
from regrow.methods import DEPTH, EXPERTS, parse_pattern
from regrow.pruning.spec import PruneSpec
from regrow.shapes import RATE_TOLERANCE, SHAPE_AXES, intermediate_step
from regrow.units import format_count


class Candidate(NamedTuple):
    """A width shape that a search tried, its pruning rate, and the loss (nats/token) on the calibration text."""

    hidden: int
    intermediate: int
    kv_heads: int
    pruning_rate: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """Exactly what goes and what the model is afterwards. Indices are ascending, of the original model.

    Attributes:
        method: `depth`, `width` or `N:M`.
        scorer: the measure that picked what goes.
        target_rate: the rate asked for, or that of the parameters asked for; None for N:M and for a target shape.
        target_params: the parameters asked for, where they were.
        target_memory: what it may take where it is served, where that was asked.
        target_active_params: the parameters of a token asked for, where they were.
        before, after: architectures; the same for N:M, whose zeros keep their place.
        dropped_layers: blocks that go (depth).
        kept_hidden: channels that stay (width), for the whole model.
        kept_intermediate: feed-forward neurons that stay, per block (width).
        kept_kv_heads: KV heads that stay, with their query heads, per block (width).
        kept_experts: experts that stay, with their rows of the router, per block (experts).
        candidates: the shapes a search chose from; None where there was none.

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
    target_params: int | None = None
    candidates: tuple[Candidate, ...] | None = None
    target_memory: MemoryTarget | None = None
    kept_experts: tuple[tuple[int, ...], ...] | None = None
    target_active_params: int | None = None

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
        return self.after.params - self._zeros

    @property
    def non_embedding_before(self) -> int:
        """Parameters before pruning without the input and output embeddings."""
        return self.before.non_embedding_params

    @property
    def non_embedding_after(self) -> int:
        """Parameters after pruning without the input and output embeddings, counted as `params_after` is."""
        return self.after.non_embedding_params - self._zeros

    @property
    def _zeros(self) -> int:
        """Weights that N:M sparsity sets to zero; 0 for the other methods."""
        if self.pattern is None:
            return 0
        n, m = self.pattern
        return self.before.layers * self.before.block_matrix_params // m * (m - n)

    @property
    def decided(self) -> bool:
        """Whether the plan says exactly what goes. N:M always does: masks follow from the pattern and the scores."""
        if self.pattern is not None:
            return True
        if self.method == DEPTH:
            return self.dropped_layers is not None
        if self.method == EXPERTS:
            return self.kept_experts is not None
        kept = {"hidden": self.kept_hidden, "intermediate": self.kept_intermediate, "kv_heads": self.kept_kv_heads}
        return all(indices is not None for axis, indices in kept.items() if axis in self.changes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how far the plan is from the target; empty if it is met."""
        notes = []
        units, one = ("experts of every block", "expert of each") if self.method == EXPERTS else ("blocks", "block")
        if self.target_rate is not None and abs(self.pruning_rate - self.target_rate) > RATE_TOLERANCE:
            unit = self.before.block_params
            if self.method == EXPERTS:
                unit = self.before.layers * (self.before.expert_params + self.before.hidden)
            notes.append(
                f"asked for rate {self.target_rate:.4f}, nearest in whole {units} is {self.pruning_rate:.4f} "
                f"({100 * (self.pruning_rate - self.target_rate):+.2f} points; one {one} is "
                f"{100 * unit / self.before.params:.2f})"
            )
        asked, reached = self.target_active_params, self.after.active_params
        if asked is not None and abs(reached - asked) > RATE_TOLERANCE * self.before.active_params:
            notes.append(
                f"asked for {format_count(asked)} parameters of a token, nearest in whole {units} is "
                f"{format_count(reached)}"
            )
        if self.target_rate is not None and self.after.intermediate != self.before.intermediate:
            step = intermediate_step(self.before)
            if self.after.intermediate % step:
                notes.append(
                    f"the feed-forward width {self.after.intermediate} is not a multiple of {step}, the step that "
                    "suits the hardware: a finer step was asked for, or no other shape is near the target"
                )
        return tuple(notes)

    @property
    def pruning_rate(self) -> float:
        """The rate reached (rho), 1 - after/before: what a law is fitted to, not the target."""
        return 1 - self.params_after / self.params_before

    @property
    def active_rate(self) -> float:
        """The same of the parameters that a token is computed with (`Architecture.active_params`)."""
        return 1 - self.after.active_params / self.before.active_params

    @property
    def memory_after(self) -> Footprint | None:
        """What the model takes where it is served, bytes, if a memory target was asked for.

        With the windows of the blocks that stay where it is known which go, else with the larger caches.
        """
        target = self.target_memory
        if target is None:
            return None
        if self.dropped_layers is not None and target.windows is not None:
            left = tuple(w for layer, w in enumerate(target.windows) if layer not in self.dropped_layers)
            target = replace(target, windows=left)
        return target.footprint(self.after)

    @property
    def caches_differ(self) -> bool:
        """Whether a memory target was asked for and the blocks hold caches of different sizes."""
        return self.target_memory is not None and len(set(self.target_memory.windows or ())) > 1

    @property
    def fits(self) -> bool:
        """Whether the model is within the memory target, if there is one."""
        taken = self.memory_after
        return self.target_memory is None or taken is None or taken.total <= self.target_memory.limit

    @property
    def changes(self) -> dict[str, tuple[int, int]]:
        """What changes in the architecture: name -> (before, after)."""
        was, now = asdict(self.before), asdict(self.after)
        return {name: (was[name], now[name]) for name in was if was[name] != now[name]}

    def __str__(self) -> str:
        """What goes, in a few lines."""
        shapes = (f"{name} {was} -> {now}" for name, (was, now) in self.changes.items())
        lines = [
            f"{self.method} by {self.scorer}: {self.params_before:,} -> {self.params_after:,} parameters"
            f"{' that are not zero' if self.pattern else ''}, rate {self.pruning_rate:.4f}",
            *shapes,
        ]
        if self.dropped_layers is not None:
            lines.append(f"blocks that go: {', '.join(map(str, self.dropped_layers))}")
        return "\n  ".join([*lines, *(f"! {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, with the counts; index lists as ranges, `0-4,6`."""
        return {
            "method": self.method,
            "scorer": self.scorer,
            "target_rate": self.target_rate,
            "target_params": self.target_params,
            "pruning_rate": self.pruning_rate,
            "params_before": self.params_before,
            "params_after": self.params_after,
            "non_embedding_before": self.non_embedding_before,
            "non_embedding_after": self.non_embedding_after,
            "notes": list(self.notes),
            "changes": {name: list(pair) for name, pair in self.changes.items()},
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "dropped_layers": None if self.dropped_layers is None else list(self.dropped_layers),
            "kept_hidden": None if self.kept_hidden is None else to_ranges(self.kept_hidden),
            "kept_intermediate": _each(to_ranges, self.kept_intermediate),
            "kept_kv_heads": _each(to_ranges, self.kept_kv_heads),
            "candidates": None if self.candidates is None else [tried._asdict() for tried in self.candidates],
            **self._of_experts(),
            **self._memory(),
        }

    def _memory(self) -> dict[str, Any]:
        """The memory asked for and the memory that the model takes, bytes; empty if none was asked for."""
        taken = self.memory_after
        if self.target_memory is None or taken is None:
            return {}
        return {
            "target_memory": self.target_memory.to_dict(),
            "memory_before": self.target_memory.footprint(self.before)._asdict(),
            "memory_after": taken._asdict(),
        }

    def _of_experts(self) -> dict[str, Any]:
        """What a plan of a mixture of experts says besides; nothing for a dense model."""
        if not self.before.experts:
            return {}
        return {
            "active_params_before": self.before.active_params,
            "active_params_after": self.after.active_params,
            "active_rate": self.active_rate,
            "target_active_params": self.target_active_params,
            "kept_experts": _each(to_ranges, self.kept_experts),
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
                target_params=data.get("target_params"),
                before=Architecture.from_dict(data["before"]),
                after=Architecture.from_dict(data["after"]),
                dropped_layers=None if layers is None else tuple(layers),
                kept_hidden=None if hidden is None else from_ranges(hidden),
                kept_intermediate=_each(from_ranges, data["kept_intermediate"]),
                kept_kv_heads=_each(from_ranges, data["kept_kv_heads"]),
                candidates=_each(lambda tried: Candidate(**tried), data.get("candidates")),
                kept_experts=_each(from_ranges, data.get("kept_experts")),
                target_memory=memory_from(data["target_memory"]) if data.get("target_memory") else None,
                target_active_params=data.get("target_active_params"),
            )._checked()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a prune plan ({error})", where="plan", hint="give one that regrow wrote") from None

    def _checked(self) -> PrunePlan:
        """The plan itself, once its indices are checked against `before` and `after`: a file may have been edited."""
        gone = self.before.layers - self.after.layers
        if self.dropped_layers is not None:
            _check_indices("dropped_layers", self.dropped_layers, self.before.layers, gone)
        if self.kept_hidden is not None:
            _check_indices("kept_hidden", self.kept_hidden, self.before.hidden, self.after.hidden)
        per_block = {
            "intermediate": self.kept_intermediate,
            "kv_heads": self.kept_kv_heads,
            "experts": self.kept_experts,
        }
        for axis, lists in per_block.items():
            if lists is not None and len(lists) != self.before.layers:
                raise ValueError(f"kept_{axis} has {len(lists)} lists for {self.before.layers} blocks")
            for indices in lists or ():
                _check_indices(f"kept_{axis}", indices, getattr(self.before, axis), getattr(self.after, axis))
        return self


def _check_indices(name: str, indices: Sequence[int], size: int, count: int) -> None:
    ascending = all(first < second for first, second in pairwise(indices))
    if len(indices) != count or not ascending or (indices and not (indices[0] >= 0 and indices[-1] < size)):
        raise ValueError(f"{name} does not name {count} of {size}, ascending")


def spec_of(plan: PrunePlan, **options: Any) -> PruneSpec:
    """The spec that a plan fulfils, as far as the plan holds it; `options` are fields that it lacks, e.g. `seed`."""
    target: dict[str, Any] = {}
    # a width plan does not say which axes or search led to its shape, so the shape itself is the target
    if plan.target_params is not None and plan.method in (DEPTH, EXPERTS):
        target["params"] = plan.target_params
    elif plan.target_rate is not None and plan.method in (DEPTH, EXPERTS):
        target["rate"] = plan.target_rate
    elif plan.target_active_params is not None and plan.method in (DEPTH, EXPERTS):
        target["active_params"] = plan.target_active_params
    elif plan.pattern is None:
        target["shape"] = {axis: pair[1] for axis, pair in plan.changes.items() if axis in SHAPE_AXES[plan.method]}
    return PruneSpec(method=plan.method, scorer=plan.scorer, **target, **options)


def read_plan(path: str | Path) -> PrunePlan:
    """A plan from a file: what `regrow prune --dry-run --json` prints, or a pruned model's `regrow_prune.json`.

    Raises `InputError` if the file is missing or holds no plan.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"can't read it ({error.strerror})", where=str(path), hint="give a plan file") from None
    except ValueError:
        raise InputError("not a JSON file", where=str(path), hint="give what `--dry-run --json` printed") from None
    if isinstance(data, Mapping) and isinstance(data.get("plan"), Mapping):
        data = data["plan"]
    try:
        return PrunePlan.from_dict(data)
    except InputError as error:
        raise InputError(error.what, where=str(path), hint=error.hint) from None


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
