"""The unit of a logged loss: nats per token, or made so, or refused.

A loss in nats per token is the logarithm of the perplexity per token; in bits it is 1/ln 2 times as much; per byte it
is divided by the bytes of a token; summed over accumulated batches it is their number times as much. Nothing in a log
says which one it is, so four things are looked at: what the column is called, what the perplexity of the same text
says, the other loss in the log, and whether the values fit the loss of the unpruned model, which is given in nats.
Where they do not, the import is refused until the unit is stated.
"""

from __future__ import annotations

import math
import re

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.names import HELD_OUT, first_of, is_train, unit_of_name
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.table import LARGEST_LOSS

#: A post-trained model's best loss between these multiples of the unpruned model's is not suspect.
_LOW, _HIGH = 0.6, 2.0
#: How near two numbers that a log rounds to a few digits must be to be one number.
_SAME = 0.02
#: The same for a perplexity that by its name belongs to another loss, where a near miss is likely.
_SAME_AS_ANOTHER = 0.002
#: A training loss this many times the held-out one, or more, is no mean over the batch.
_SUMMED = 1.7
#: The words of a loss and of a perplexity in a column's name: what is left says of which text.
_WORDS = re.compile(
    r"cross[_ -]?entropy(loss)?|ce[_ -]?loss|lm[_ -]?loss|loss|nll|ce|ppl|perplexity|value|mean|avg", re.IGNORECASE
)


def to_nats(losses: np.ndarray, rows: np.ndarray, history: History, column: str, spec: ImportSpec) -> np.ndarray:
    """Losses in nats per token.

    Args:
        losses: finite values of `column` in `rows`.

    Raises `InputError` where the unit is in doubt, or values cannot be of the unit stated.
    """
    where = history.where
    if spec.accumulation_steps is not None:
        if not (spec.train_loss or is_train(column)) or history.held_out:
            raise InputError(
                f"{column!r} is no training loss, and only that is summed over accumulated batches",
                where="--accumulation-steps",
                hint="leave it out",
            )
        losses = losses / spec.accumulation_steps
    if spec.unit is None:
        _refuse_doubt(losses, rows, history, column, spec)
    elif spec.unit in ("nats", "bits"):
        _refuse_disproved(losses, rows, history, column, spec.unit)
    if losses.min() <= 0:
        raise InputError(f"{column!r} falls to {losses.min():g}", where=where, hint="a loss is positive")
    if spec.unit == "perplexity":
        if losses.min() <= 1:
            raise InputError(f"{column!r} falls to {losses.min():g}", where=where, hint="a perplexity is above 1")
        losses = np.log(losses)
    elif spec.unit == "bits":
        losses = losses * math.log(2)
    elif spec.unit == "bits-per-byte":
        assert spec.bytes_per_token is not None
        losses = losses * math.log(2) * spec.bytes_per_token
    if losses.max() > LARGEST_LOSS:
        raise InputError(
            f"{column!r} rises to {losses.max():g}, not nats per token",
            where=where,
            hint="a perplexity? --unit perplexity takes its logarithm; a sum over tokens? divide it by their number",
        )
    return losses


def _refuse_doubt(losses: np.ndarray, rows: np.ndarray, history: History, column: str, spec: ImportSpec) -> None:
    """Raise `InputError` for a loss that is perhaps not in nats per token."""
    named = unit_of_name(column)
    if named is not None:
        raise InputError(
            f"{column!r} is in {named} by its name", where=history.where, hint=f"--unit {named} converts it"
        )
    beside = _perplexity_beside(losses, rows, history, column)
    if beside == "nats":
        return  # proven
    if beside == "bits":
        raise InputError(
            f"{column!r} is in bits: two to its power is the perplexity logged beside it",
            where=history.where,
            hint="--unit bits converts it",
        )
    if is_train(column) and not history.held_out:
        _refuse_sums(losses, rows, history, column)
    best, before = losses.min(), spec.known_loss_before
    if best > _HIGH * before:
        raise InputError(
            f"{column!r} is {best:.4g} at best, {best / before:.1f} times --loss-before{_explained(best, before)}",
            where=history.where,
            hint="say --unit perplexity, or --unit nats"
            + (", or --accumulation-steps where it is a sum over batches" if is_train(column) else ""),
        )
    if best < _LOW * before:
        likely = f"{before:g} as a perplexity is {math.log(before):.3g} nats, and " if before > math.e else ""
        raise InputError(
            f"{column!r} falls to {best:.4g}, far below --loss-before {before:g}",
            where=history.where,
            hint=f"{likely}--loss-before is in nats/token on the same text; for bits per byte say "
            "--unit bits-per-byte; if all is right say --unit nats",
        )


def _refuse_disproved(losses: np.ndarray, rows: np.ndarray, history: History, column: str, unit: str) -> None:
    """Raise `InputError` for a stated unit that the perplexity of the same text, logged beside the loss, disproves."""
    beside = _perplexity_beside(losses, rows, history, column)
    if beside not in (None, unit):
        raise InputError(
            f"{column!r} is in {beside}: so says the perplexity logged beside it",
            where="--unit",
            hint=f"leave --unit {unit} out" if beside == "nats" else "--unit bits converts it",
        )


def _explained(best: float, before: float) -> str:
    """What a loss far above the one before pruning may be, as the end of a sentence."""
    if best > 1 and abs(math.log(best) - before) < 0.5 * before:
        return f"; as a perplexity it would be {math.log(best):.3g} nats, near it"
    return ", and not near it as a perplexity either"


def _refuse_sums(losses: np.ndarray, rows: np.ndarray, history: History, column: str) -> None:
    """Raise `InputError` for a training loss that is a steady multiple of the held-out loss of the same log.

    The two are means over a token of the same model, so they are near each other: 8 to 1 is a sum over 8 batches.
    """
    held_out = first_of(HELD_OUT, history)
    if held_out is None:
        return
    beside = history.numbers(held_out)
    at = np.flatnonzero(np.isfinite(beside) & (beside > 0))
    if not at.size:
        return
    nearest = rows[np.argmin(np.abs(rows[None, :] - at[:, None]), axis=1)]
    ratio = np.array([losses[rows == row][0] for row in nearest]) / beside[at]
    low, high = float(ratio.min()), float(ratio.max())
    if low < _SUMMED or high > 1.3 * low:
        return
    batches = max(2, round(float(np.median(ratio))))
    raise InputError(
        f"{column!r} is {low:.3g} to {high:.3g} times the held-out {held_out!r} of the same log, as a sum over "
        f"{batches} accumulated batches is",
        where=history.where,
        hint=f"--accumulation-steps {batches} divides it; without --train-loss the held-out loss is read",
    )


def _perplexity_beside(losses: np.ndarray, rows: np.ndarray, history: History, column: str) -> str | None:
    """`nats` or `bits` where the perplexity of the same text in the same rows proves it; None where there is none.

    Only a perplexity of the loss's own text proves bits. Where there is none of its own, one of another name may prove
    nats, as closely as it is printed.
    """
    found = [name for name in history.columns if unit_of_name(name) == "perplexity" and history.has(name)]
    own = [name for name in found if _text_of(name) == _text_of(column)]
    for name in own or found:
        perplexity = history.numbers(name)[rows]
        known = np.isfinite(perplexity) & (perplexity > 1)
        if not known.any():
            continue
        logarithm = np.log(perplexity[known])
        same = _SAME if own else _SAME_AS_ANOTHER
        for unit, scale in (("nats", 1.0), ("bits", math.log(2))) if own else (("nats", 1.0),):
            if np.allclose(losses[known] * scale, logarithm, rtol=same, atol=same):
                return unit
    return None


def _text_of(name: str) -> tuple[str, ...]:
    """Which text a column is of: its name without the words of a loss or perplexity."""
    words = re.split(r"[/_ .-]+", _WORDS.sub(" ", name.lower()))
    return tuple(word for word in words if word)
