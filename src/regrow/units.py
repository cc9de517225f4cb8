"""Sizes as people write them: `8B`, `350M`, `128k`, `12GB`; and the way back, for tables and sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Real
from typing import Any

from regrow.errors import InputError

_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_COUNT = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([kmbgt]?)", re.IGNORECASE)

#: A count is whole to this share of it: products of floats are not whole to the bit.
_ROUNDING = 1e-6

_BYTES = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def check_rate(rate: float, *, where: str | None = None) -> float:
    """`rate` if it is a fraction in (0, 1), else `InputError`."""
    if not 0 < rate < 1:
        raise InputError(f"pruning rate {rate:g}", where=where, hint="it is a fraction between 0 and 1, both excluded")
    return rate


def check_level(level: float, *, where: str = "--level") -> float:
    """The probability of an interval. Raises `InputError` outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(f"level {level:g}", where=where, hint="give a fraction between 0 and 1, such as 0.9")
    return level


def check_price(usd: float | None, *, where: str = "--price") -> float | None:
    """The price of a GPU-hour in USD, or None. Raises `InputError` if it is negative or not finite."""
    if usd is not None and not (math.isfinite(usd) and usd >= 0):
        raise InputError(f"price {usd:g} USD per GPU-hour", where=where, hint="a price is not negative")
    return usd


def check_context(tokens: int, *, where: str = "--context") -> int:
    """Tokens of context. Raises `InputError` below 1."""
    if tokens < 1:
        raise InputError(f"a context of {tokens} tokens", where=where, hint="give at least 1")
    return tokens


def check_loss(loss: float, *, where: str = "--loss-before") -> float:
    """A loss in nats/token. Raises `InputError` if it is not positive and finite."""
    if not (math.isfinite(loss) and loss > 0):
        raise InputError(f"a loss of {loss:g}", where=where, hint="give nats per token, e.g. 2.1")
    return loss


def parse_count(text: str | float, *, what: str = "count") -> int:
    """A positive whole number from `8B`, `350M`, `1e9`, `300_000` or a number.

    Raises `InputError` for anything else, and for a number that is not whole beyond rounding (`2.5`, `1.2345k`).
    """
    found = _COUNT.fullmatch(str(text).strip())
    value = float(found[1].replace("_", "")) * _SUFFIXES[found[2].lower()] if found else math.nan
    if not math.isfinite(value) or value < 1:
        raise InputError(f"{text!r} is not a positive number", where=what, hint="write it like 8B, 350M, 300k or 1e9")
    if abs(value - round(value)) > _ROUNDING * value:
        raise InputError(
            f"{text!r} is not a whole number", where=what, hint="it is a count: write it like 8B, 300k or 2"
        )
    return round(value)


def read_fields(spec: Any, *, counts: Iterable[str] = (), numbers: Iterable[str] = (), where: str) -> None:
    """Make numbers of the fields of a frozen spec that are text: counts as in `8B`, others as in `0.25` or `3e-4`.

    Of a tuple or a list every element is read, and the field becomes a tuple. None stays. Raises `InputError` with the
    name of a field that is no number.
    """
    for kind, names in ((_as_count, counts), (_as_number, numbers)):
        for name in names:
            value = getattr(spec, name)
            several = isinstance(value, list | tuple)
            read = tuple(kind(v, name, where) for v in value) if several else kind(value, name, where)
            if read is not value:
                object.__setattr__(spec, name, read)


def _as_count(value: Any, name: str, where: str) -> Any:
    if isinstance(value, str):
        return parse_count(value, what=f"{where}, {name}")
    return _as_number(value, name, where)


def _as_number(value: Any, name: str, where: str) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            value = value[:40]
    elif value is None or isinstance(value, Real):
        return value
    raise InputError(f"{value!r} is not a number", where=f"{where}, {name}", hint="give a number, such as 0.25")


def format_count(value: float) -> str:
    """Three significant digits with a suffix: 8.03B, 302k, 512."""
    if not math.isfinite(value):
        return str(value)
    for suffix, unit in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def parse_bytes(text: str | float, *, what: str = "bytes") -> int:
    """A positive number of bytes from `12GB` (10^9), `12GiB` (2^30), `800M` or a number; else `InputError`."""
    found = _BYTES.fullmatch(str(text).strip())
    value = math.nan
    if found:
        power = "kmgt".index(found[2].lower()) + 1 if found[2] else 0
        value = float(found[1].replace("_", "")) * (1024.0 if found[3] else 1000.0) ** power
    if not math.isfinite(value) or value < 1:
        raise InputError(f"{text!r} is no amount of memory", where=what, hint="write it like 12GB, 800MB or 24GiB")
    return round(value)


def plural(count: int, noun: str, many: str | None = None) -> str:
    """A count with its noun: `1 run`, `2 runs`, `1,200 runs`; `many` where an s is not enough."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def format_si(value: float, unit: str) -> str:
    """Three digits with an SI prefix: `78.3 GB`, `5.58 GFLOP/s`."""
    prefixes = ("", "k", "M", "G", "T", "P", "E", "Z")
    step = 0
    while abs(value) >= 999.5 and step < len(prefixes) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.3g} {prefixes[step]}{unit}"


def format_factor(value: float) -> str:
    """A ratio above 1 with a thousands separator and three significant digits, or as many as tell it from 1: 1.003."""
    digits = 3 if value >= 1.01 else 4
    return f"{float(f'{value:.{digits}g}'):,.10g}"


def format_duration(seconds: float) -> str:
    """Seconds for people: `41 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
