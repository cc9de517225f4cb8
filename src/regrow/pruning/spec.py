"""What the user asks of pruning. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from regrow.errors import InputError, one_of
from regrow.footprint import MemoryTarget, memory_from
from regrow.methods import DEPTH, EXPERTS, WIDTH, parse_pattern
from regrow.pruning.scorers import Scorer, find_scorer, kind_of, scorers_of
from regrow.shapes import SHAPE_AXES
from regrow.units import read_fields

#: Methods as a message lists them; any other N:M is accepted as well.
METHODS = (DEPTH, WIDTH, EXPERTS, "2:4")

#: Width shapes that are tried where nothing else is asked.
SEARCHED = 4

#: Axes that width pruning can shrink, named as in `Architecture`.
AXES = ("hidden", "intermediate", "kv_heads")


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """What to prune, how much, and by which measure.

    Depth, width and experts take one target: `rate`, `params`, `active_params`, `shape` or `memory`. N:M takes none:
    the pattern is it.

    Attributes:
        method: `depth` (drop blocks), `width` (drop neurons, KV groups, channels), `experts` (drop experts of a
            mixture) or `N:M`, e.g. `2:4`: keep N weights of every M neighbours along the input dimension.
        rate: fraction of all parameters to remove, in (0, 1), tied embeddings counted once.
        params: parameters to leave, counted the same way.
        active_params: of a mixture of experts, the parameters to leave that a token is computed with.
        shape: sizes to leave, by the names of `SHAPE_AXES`: `{"layers": 24}` for depth, `{"hidden": 768,
            "intermediate": 2048}` for width; what is not named stays whole. Held as sorted pairs.
        memory: what the model may take where it is served; the largest shape within it is left.
        scorer: measure of importance, of `regrow.pruning.scorers`; None takes the method's default.
        axes: what width pruning may shrink, of `AXES`; None takes `hidden` and `intermediate`, and KV groups only
            where no other shape reaches the target.
        multiple_of: hidden and feed-forward widths are multiples of this; None takes the rule of
            `regrow.shapes.shape_for_rate`.
        search: how many width shapes near the target are tried, each pruned and its loss measured on the calibration
            text; 1 takes the rule's shape without looking. None: `SEARCHED` where text is there to measure on, else 1.
        iterative: remove one block, measure again, remove the next (scorers that are `iterative`).
        strict: a depth plan that misses the target by more than `regrow.shapes.RATE_TOLERANCE` is an error, not a note.
        calibration_blocks: blocks of text the scores are measured on.
        calibration_length: tokens of each block that are used, at most.
        seed: picks the calibration blocks, and the order of the `random` scorer.

    Raises `InputError` for anything that cannot be.
    """

    method: str
    rate: float | None = None
    params: int | None = None
    shape: Mapping[str, int] | tuple[tuple[str, int], ...] | None = None
    memory: MemoryTarget | None = None
    scorer: str | None = None
    axes: tuple[str, ...] | None = None
    multiple_of: int | None = None
    search: int | None = None
    active_params: int | None = None
    iterative: bool = False
    strict: bool = False
    calibration_blocks: int = 32
    calibration_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pattern is None:
            one_of(self.method, METHODS, what="method", where="prune")
        else:
            n, m = self.pattern
            if not 0 < n < m:
                raise InputError(f"{self.method} keeps {n} of every {m}", where="method", hint="N is kept: 0 < N < M")
        read_fields(self, counts=("params", "active_params"), numbers=("rate",), where="prune")
        self._check_target()
        scorer = scorers_of(self.kind)[0].name if self.scorer is None else self.scorer
        object.__setattr__(self, "scorer", find_scorer(self.method, scorer).name)
        object.__setattr__(self, "axes", self._checked_axes())
        if self.search is None and not self.chooses_shape:
            object.__setattr__(self, "search", 1)
        for name, least in (("calibration_blocks", 1), ("calibration_length", 2), ("seed", 0)):
            _check_whole(name, getattr(self, name), least)
        _check_whole("search", self.shapes_tried, 1)
        self._check_options()

    def _check_target(self) -> None:
        targets = ("rate", "params", "active_params", "shape", "memory")
        given = {name: getattr(self, name) for name in targets if getattr(self, name) is not None}
        if self.pattern is not None:
            for name, value in given.items():
                what = "a memory target" if name == "memory" else f"{name} {value}"
                raise InputError(
                    f"{what} given with {self.method}", where=name, hint="the pattern sets it; leave it out"
                )
            return
        if not given:
            raise InputError(
                "no rate given",
                where="rate",
                hint=f"{self.method} pruning needs one, e.g. 0.25, or params, a shape or memory",
            )
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} given together", where="target", hint="give one of them")
        for name in ("params", "active_params"):
            if name in given:
                _check_whole(name, given[name], 1)
        if "shape" in given:
            object.__setattr__(self, "shape", self._checked_shape())
        # written so that NaN fails too
        if "rate" in given and (
            isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < 1
        ):
            raise InputError(f"rate {self.rate!r} is not between 0 and 1", where="rate", hint="0.25 removes a quarter")

    def _checked_shape(self) -> tuple[tuple[str, int], ...]:
        known = SHAPE_AXES[self.method]
        example = {DEPTH: 24, WIDTH: 768, EXPERTS: 64}[self.method]
        hint = f"{self.method} pruning sets {', '.join(known)}, e.g. {known[0]}={example}"
        try:
            sizes: dict[str, int] = dict(self.shape or ())
        except (TypeError, ValueError):
            raise InputError(f"{self.shape!r} is not a shape", where="shape", hint=hint) from None
        if not sizes:
            raise InputError("an empty shape", where="shape", hint=hint)
        for axis, size in sizes.items():
            if axis not in known:
                raise InputError(f"{axis!r} is not set by {self.method} pruning", where="shape", hint=hint)
            _check_whole(f"shape, {axis}", size, 1)
        return tuple(sorted(sizes.items()))

    def _checked_axes(self) -> tuple[str, ...] | None:
        if self.axes is None:
            return None
        if self.method != WIDTH:
            raise InputError(f"axes given with {self.method}", where="axes", hint="only width pruning has axes")
        if self.shape is not None:
            raise InputError(
                "axes given with a shape", where="axes", hint="the shape says what shrinks; leave them out"
            )
        if not self.axes:
            raise InputError("no axes given", where="axes", hint=f"choose from: {', '.join(AXES)}")
        chosen = {one_of(axis, AXES, what="axis", where="axes") for axis in self.axes}
        return tuple(axis for axis in AXES if axis in chosen)

    def _check_options(self) -> None:
        for name in ("multiple_of", "search"):
            if getattr(self, name) not in (None, 1) and (self.method != WIDTH or self.shape is not None):
                what = "a shape" if self.method == WIDTH else self.method
                raise InputError(f"{name} given with {what}", where=name, hint="only width by rate or params has it")
        if self.multiple_of is not None:
            _check_whole("multiple_of", self.multiple_of, 1)
        if self.shapes_tried > 1 and not self.needs_calibration:
            raise InputError(
                f"search given with the {self.scorer} scorer", where="search", hint="it needs calibration text"
            )
        if self.iterative and not self.entry.iterative:
            serves = " or ".join(entry.name for entry in scorers_of(DEPTH) if entry.iterative)
            raise InputError(
                f"iterative given with {self.method} by {self.scorer}",
                where="iterative",
                hint=f"it serves depth by {serves}",
            )
        if self.strict and (self.method != DEPTH or self.memory is not None):
            given = "a memory target" if self.method == DEPTH else self.method
            raise InputError(
                f"strict given with {given}", where="strict", hint="only depth by rate may miss its target"
            )

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M) for N:M sparsity, else None."""
        return parse_pattern(self.method)

    @property
    def kind(self) -> str:
        """`depth`, `width`, `experts` or `N:M`."""
        return kind_of(self.method)

    @property
    def entry(self) -> Scorer:
        """What the table of scorers says of this spec's scorer."""
        assert self.scorer is not None
        return find_scorer(self.method, self.scorer)

    @property
    def needs_calibration(self) -> bool:
        """Whether the scorer reads calibration text."""
        return self.entry.reads_text

    @property
    def scores(self) -> Literal["shared", "own"] | None:
        """Which scores it goes by: see `regrow.pruning.scorers.Scorer`. An iterative order serves its scorer alone."""
        return "own" if self.iterative else self.entry.scores

    @property
    def chooses_shape(self) -> bool:
        """Whether several width shapes meet the target and text is read on which they can be compared."""
        free = self.method == WIDTH and self.shape is None and (self.axes is None or len(self.axes) > 1)
        return free and self.needs_calibration

    @property
    def shapes_tried(self) -> int:
        """`search` as a number, where there is text."""
        return SEARCHED if self.search is None else self.search

    @property
    def refits(self) -> bool:
        """Whether carrying out a decided plan reads text, because remaining weights are solved again."""
        return self.entry.refits

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        data = asdict(self) | {
            "axes": None if self.axes is None else list(self.axes),
            "shape": None if self.shape is None else dict(self.shape),
            "memory": None if self.memory is None else self.memory.to_dict(),
        }
        # the hash of this dict names a study's cell. Newer fields at their old behaviour are left out, so that the hash
        # of an old spec does not change and runs on disk are still found
        return {name: value for name, value in data.items() if name not in _NEWER or value != _NEWER[name]}

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
        memory = data.get("memory")
        if isinstance(memory, Mapping):
            memory = memory_from(memory)
        return cls(**{**_NEWER, **data, "axes": None if axes is None else tuple(axes), "memory": memory})


#: Fields that `to_dict` leaves out at these values, which give the behaviour before the field was added. Fields of the
#: first version are always written.
_NEWER = {
    "params": None,
    "active_params": None,
    "shape": None,
    "memory": None,
    "multiple_of": None,
    "search": 1,
    "iterative": False,
    "strict": False,
}


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{value!r} is not a whole number of at least {least}", where=name)
