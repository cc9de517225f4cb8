"""Numbers for the page's script: arrays as bytes in base64, as short as their digits allow."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

#: The largest number of 16 bits, and the least one that a float of 32 bits tells to six digits.
_SHORT, _LEAST_SINGLE = 32767, 1e-37
_MOST_WHOLE = 1e15


def draws(rows: np.ndarray, place: Callable[[str], int]) -> dict[str, Any]:
    """Draws [n, parameters]: a column for each parameter that varies, and the values of the others.

    A law file rounds draws to six digits, and those a float of half the size still tells.
    """
    varying = np.flatnonzero((rows != rows[:1]).any(axis=0))
    sent = rows[:, varying]
    rounded = np.array([float(f"{value:.6g}") for value in sent.ravel()]).reshape(sent.shape)
    short = bool((rounded == sent).all()) and bool((np.abs(sent[sent != 0]) > _LEAST_SINGLE).all())
    columns = {str(i): place(packed(rows[:, i], "<f4" if short else "<f8")) for i in varying}
    usual = [_short(value) for value in rows[0]] if len(rows) else []
    return {"count": len(rows), "draws": columns, "usual": usual, "sixDigits": short}


def _short(value: float) -> float:
    """A whole number without a point: a law has many zeros."""
    return int(value) if value.is_integer() and abs(value) < _MOST_WHOLE else float(value)


def noise(values: np.ndarray, place: Callable[[str], int]) -> dict[str, Any]:
    """Noise [n, k] in 16 bits each, on a scale that is even near zero and logarithmic in the tails.

    Its ends of an interval are off by less than a thousandth of its spread.
    """
    scale = float(np.median(np.abs(values))) or 1.0
    bent = np.arcsinh(values / scale)
    most = float(np.max(np.abs(bent), initial=0.0)) or 1.0
    return {"noise": place(packed(np.round(bent / most * _SHORT), "<i2")), "noiseScale": scale, "noiseMost": most}


def packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")
