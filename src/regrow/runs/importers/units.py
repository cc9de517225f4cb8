"""The unit of a logged loss: nats per token, or made so, or refused.

A loss in nats per token is the logarithm of the perplexity per token; in bits it is 1/ln 2 times as much; per byte it
is divided by the bytes of a token. Nothing in a log says which one it is, so three things are looked at: what the
column is called, what a perplexity beside it says, and whether the values fit the loss of the unpruned model, which is
given in nats. Where they do not, the import is refused until the unit is stated.
"""

from __future__ import annotations

import math

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.names import unit_of_name
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.table import LARGEST_LOSS

#: A post-trained model's best loss between these multiples of the unpruned model's is not suspect.
_LOW, _HIGH = 0.6, 2.0
#: How near two numbers that a log rounds to a few digits must be to be one number.
_SAME = 0.02


def to_nats(losses: np.ndarray, rows: np.ndarray, history: History, column: str, spec: ImportSpec) -> np.ndarray:
    """Losses in nats per token.

    Args:
        losses: finite values of `column` in `rows`.

    Raises `InputError` where the unit is in doubt, or values cannot be of the unit stated.
    """
    where = history.where
    if spec.unit is None:
        _refuse_doubt(losses, rows, history, column, spec)
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
    beside = _perplexity_beside(losses, rows, history)
    if beside == "nats":
        return  # proven
    if beside == "bits":
        raise InputError(
            f"{column!r} is in bits: two to its power is the perplexity logged beside it",
            where=history.where,
            hint="--unit bits converts it",
        )
    best, before = losses.min(), spec.loss_before
    if best > _HIGH * before and abs(math.log(best) - before) < 0.5 * before:
        raise InputError(
            f"{column!r} is {best:.4g} at best, {best / before:.1f} times --loss-before; as a perplexity it would be "
            f"{math.log(best):.3g} nats, near it",
            where=history.where,
            hint="say --unit perplexity, or --unit nats",
        )
    if best < _LOW * before:
        likely = f"{before:g} as a perplexity is {math.log(before):.3g} nats, and " if before > math.e else ""
        raise InputError(
            f"{column!r} falls to {best:.4g}, far below --loss-before {before:g}",
            where=history.where,
            hint=f"{likely}--loss-before is in nats/token on the same text; for bits per byte say "
            "--unit bits-per-byte; if all is right say --unit nats",
        )


def _perplexity_beside(losses: np.ndarray, rows: np.ndarray, history: History) -> str | None:
    """`nats` or `bits` where a perplexity logged in the same rows proves it; None where there is none."""
    for name in history.columns:
        if unit_of_name(name) != "perplexity":
            continue
        perplexity = history.numbers(name)[rows]
        known = np.isfinite(perplexity) & (perplexity > 1)
        if not known.any():
            continue
        logarithm = np.log(perplexity[known])
        for unit, scale in (("nats", 1.0), ("bits", math.log(2))):
            if np.allclose(losses[known] * scale, logarithm, rtol=_SAME, atol=_SAME):
                return unit
    return None
