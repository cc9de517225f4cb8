"""Sizes as people write them: `8B`, `350M`, `1.5e9`, `128k`; and the way back, for tables and sentences."""

from __future__ import annotations

import math
import re

from regrow.errors import InputError

_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_COUNT = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([kmbgt]?)", re.IGNORECASE)


def parse_count(text: str | float, *, what: str = "count") -> int:
    """A positive whole number from `8B`, `350M`, `1e9`, `300_000` or a number.

    Raises `InputError` for anything else; fractions of a unit are rounded.
    """
    found = _COUNT.fullmatch(str(text).strip())
    value = float(found[1].replace("_", "")) * _SUFFIXES[found[2].lower()] if found else math.nan
    if not math.isfinite(value) or value < 1:
        raise InputError(f"{text!r} is not a positive number", where=what, hint="write it like 8B, 350M, 300k or 1e9")
    return round(value)


def format_count(value: float) -> str:
    """Three significant digits with a suffix: 8.03B, 302k, 512."""
    if not math.isfinite(value):
        return str(value)
    for suffix, unit in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def format_factor(value: float) -> str:
    """A ratio above 1 with a thousands separator and three significant digits, or as many as tell it from 1: 1.003."""
    digits = 3 if value >= 1.01 else 4
    return f"{float(f'{value:.{digits}g}'):,.10g}"
