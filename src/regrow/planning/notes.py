"""What has to be said beside an answer, the most important first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from regrow.laws.law import CONTROL_BASELINE
from regrow.planning.support import tokens_in_words
from regrow.units import format_factor

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting

#: Kinds of models that a family's name may tell.
_KINDS = ("llama", "mistral", "qwen", "gemma", "olmo", "granite", "exaone", "smollm3")
#: An input this little outside the fitted range, as a ratio, is no news.
_NO_NEWS = 1.05
#: How notes begin that weigh more than what the law has to say of itself, the weightiest first.
_ORDER = (
    "the recipe",
    "no run was pruned",
    "extrapolates",
    "the law is of the family",
    "the loss right after pruning",
    "in ",
    "the law's fit is",
    "the ",
)


def other_family(law: Law, architecture: Architecture | None) -> list[str]:
    """A warning where the law's family names one kind of model and the architecture is of another."""
    named = [kind for kind in _KINDS if kind in law.family.lower()]
    if architecture is None or not named or any(kind in architecture.model_type for kind in named):
        return []
    kind = architecture.model_type
    return [f"the law is of the family {law.family}, the model a {kind}: a law holds within its family"]


def no_gap(loss_before: float, loss_pruned: float | None, *, score: bool = False) -> list[str]:
    """A warning where the loss right after pruning is not above the loss before it, both in nats/token; of a `score`,
    both errors."""
    if loss_pruned is None or loss_pruned > loss_before:
        return []
    gap = loss_pruned - loss_before
    if score:
        return [
            f"the score right after pruning is {-100 * gap:.3g} points above the parent's: nothing is to recover; if "
            "the two are in the wrong order, exchange --score-before and --score-pruned"
        ]
    return [
        f"the loss right after pruning is {-gap:.3g} nats below the loss before it: there is no gap to close, and what "
        "is predicted is what the training text alone does; if the two are in the wrong order, exchange --loss-before "
        "and --loss-pruned"
    ]


def beyond(law: Law, x: Setting, factors: Mapping[str, float]) -> list[str]:
    """In words, which columns of a single setting lie outside the fitted ranges, and by what factor."""
    notes: list[tuple[float, str]] = []
    for column in law.formula.columns:
        if factors.get(column.name, 1.0) > _NO_NEWS:
            low, high = law.ranges[column.name]
            side, edge = ("above the largest", high) if x[column.name] > high else ("below the smallest", low)
            times = format_factor(factors[column.name])
            # a law of scores has the parent's error in the place of the loss before pruning
            parent = column.name == "loss_before" and law.benchmark is not None
            spoken = "parent's error, 1 - score," if parent else column.spoken
            worth = float(law.diagnostics.get("recipe_times", 1.0)) if column.name == "tokens" else 1.0
            note = f"extrapolates: the {spoken} is {times} times {side} fitted, {tokens_in_words(edge, worth)}"
            notes.append((-factors[column.name], note))
    return [note for _, note in sorted(notes)]


def about(law: Law) -> list[str]:
    """What every plan with this law has to say."""
    notes = [] if law.status == "ok" else [f"the law's fit is {law.status}, so take its numbers with care"]
    notes += [f"the law: {warning}" for warning in law.warnings]
    return [*notes, *([CONTROL_BASELINE] if law.baseline == "control" else [])]


def ranked(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes, those first that change this answer most: how far it stands outside the runs, then doubts about
    it, and what the law says of itself last."""

    def weight(note: str) -> int:
        place = next((i for i, start in enumerate(_ORDER) if note.startswith(start)), len(_ORDER) - 2)
        return len(_ORDER) if note.startswith("the law: ") else place

    return tuple(sorted(dict.fromkeys(notes), key=weight))


def merged(notes: Iterable[str], *, shown: int = 2) -> str:
    """The first notes in one line, and how many more there are; empty where there are none."""
    every = tuple(notes)
    if not every:
        return ""
    more = len(every) - shown
    rest = f" ({more} more with --verbose)" if more > 0 else ""
    return "; ".join(note.removeprefix("the law: ") for note in every[:shown]) + rest
