"""Which parameters the data can tell apart: read from the design (sizes, rates, tokens), never from the losses.

What cannot be identified is held at a stated value with a sentence that says so. A group that cannot carry its form
at all is refused with what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.forms import P2, Chinchilla, Compression, Form, P2Counts, Reference, Sparse
from regrow.laws.observations import Observations
from regrow.methods import is_masked
from regrow.units import format_count

#: holds a parameter, by name, at a value
Fix = Callable[..., None]

#: sizes and rates closer than this ratio count as one: embeddings shift a nominal rate a little between sizes
_SAME = 1.02
#: log rates that move less than this once their trend with size is taken out cannot carry an exponent of their own
_LEAST_RATE_SPREAD = 0.05
#: gamma where the runs do not show it
_GAMMA_HELD = -1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Bounds and held values of one fit, all [p] in scaled units.

    Attributes:
        free: which parameters are fitted.
        held: the value of those that are not.
        simpler: nested alternatives, simplest first, each the names it holds at zero; a simpler one is preferred unless
            the data refute it.
        flat: whether something was held because the data cannot identify it.
        unsupported: inputs of which the runs show one value only, and why, by name; the law cannot speak of others.
        notes: what was held and why, in plain words.
    """

    free: np.ndarray
    held: np.ndarray
    simpler: tuple[tuple[str, ...], ...] = ()
    flat: bool = False
    unsupported: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without(self, form: Form, names: tuple[str, ...]) -> Design:
        """The nested design in which these parameters are zero."""
        out = self.free.copy()
        out[[form.index(n) for n in names]] = False
        return replace(self, free=out, simpler=())


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, each taking with it those up to 2% above it."""
    out: list[float] = []
    for value in np.unique(values):
        if not out or value > out[-1] * _SAME:
            out.append(float(value))
    return np.array(out)


def design(form: Form, seen: Observations, ref: Reference, hold: Mapping[str, float] | None = None) -> Design:
    """Decide what this group can identify.

    Args:
        hold: exponents to hold at given values in natural units, or coefficients to hold at zero, by name.

    Raises:
        InputError: too few token counts or checkpoints for the form, or an unusable `hold`.
    """
    where = f"{seen.where}, form {form.name}"
    free, held = np.ones(len(form.names), dtype=bool), np.zeros(len(form.names))
    notes: list[str] = []

    def fix(name: str, value: float = 0.0) -> None:
        free[form.index(name)], held[form.index(name)] = False, value

    units = form.scales(np.zeros((1, len(form.names))), ref) if any((hold or {}).values()) else {}
    wanted: dict[str, float] = {}
    for name, value in (hold or {}).items():
        one_of(name, form.names, what="parameter to hold", where=where)
        parameter = form.parameters[form.index(name)]
        if name == "D_s":
            raise InputError(f"{name} held at {value:g}", where=where, hint="the form p2 is the one without it")
        if isinstance(form, P2Counts) and name in form.beforehand:
            raise InputError(f"{name} held", where=where, hint="it is fitted to the losses before pruning alone")
        if value != 0 and parameter.linear:
            raise InputError(f"{name} held at {value:g}", where=where, hint="a coefficient can be held at 0 only")
        if not math.isfinite(value):
            raise InputError(f"{name} held at {value:g}", where=where, hint="give a number")
        wanted[name] = float(value) / (float(units[name][0]) if value and name in units else 1.0)
        if abs(wanted[name]) > 10 * max(abs(parameter.lower), abs(parameter.upper)):
            raise InputError(
                f"{name} held at {value:g}",
                where=where,
                hint=f"it is looked for between {parameter.lower:g} and {parameter.upper:g}",
            )
    flat, simpler = False, tuple[tuple[str, ...], ...]()
    if isinstance(form, P2):
        flat, simpler = _p2(form, seen, fix, notes)
    elif isinstance(form, Chinchilla):
        flat = _chinchilla(seen, fix, notes)
    elif isinstance(form, Compression):
        flat = _compression(seen, fix, notes)
    elif isinstance(form, Sparse):
        flat = _sparse(seen, fix, notes)
    if isinstance(form, P2Counts):
        for name in form.beforehand:
            free[form.index(name)] = False
    for name, value in wanted.items():  # what the user holds wins over what the design would hold
        fix(name, value)
    if not all(free[form.index(name)] for names in simpler for name in names):
        simpler = ()  # the user has chosen
    levels = distinct(seen.tokens[seen.tokens > 0])
    if "tokens" in form.uses and levels.size < 3:
        raise InputError(
            f"{levels.size} different token counts", where=where, hint="a curve needs checkpoints at 3 or more"
        )
    # the nested alternative needs fewer
    least = int(free.sum()) - max(map(len, simpler), default=0) + 1
    if len(seen) < least:
        raise InputError(
            f"{len(seen)} checkpoints for {least - 1} parameters", where=where, hint=f"give at least {least}"
        )
    alone = _one_value_only(form, seen, hold or {})
    return Design(free=free, held=held, simpler=simpler, flat=flat, unsupported=alone, notes=tuple(notes))


def _one_value_only(form: Form, seen: Observations, hold: Mapping[str, float]) -> dict[str, str]:
    """Inputs with one value in the runs, so that what the form says of others is not in the data.

    An exponent that the user holds is the user's word for it. The rate of N:M sparsity follows from the model's size.
    """
    out = {}
    sizes, rates = distinct(seen.params_before), distinct(seen.pruning_rate)
    if isinstance(form, Chinchilla) and distinct(seen.params_before * (1 - seen.pruning_rate)).size > 1:
        return {}  # it sees the size after pruning only, which both make
    if sizes.size == 1 and "params_before" in form.uses and not {"delta", "alpha", "b_N"} & set(hold):
        out["params_before"] = f"the runs have one model size, {format_count(sizes[0])}"
    if rates.size == 1 and "pruning_rate" in form.uses and not is_masked(seen.method) and not {"gamma"} & set(hold):
        out["pruning_rate"] = f"the runs have one pruning rate, {rates[0]:.3g}"
    return out


def _p2(form: Form, seen: Observations, fix: Fix, notes: list[str]) -> tuple[bool, tuple[tuple[str, ...], ...]]:
    sizes, rates, flat = distinct(seen.params_before), distinct(seen.pruning_rate), False
    if (seen.pruning_rate <= 0).any():
        raise InputError(
            "a pruning rate of 0", where=seen.where, hint="give unpruned runs the method none: they are controls"
        )
    log_n, log_r = np.log(seen.params_before), np.log(seen.pruning_rate)
    if sizes.size == 1:
        for name in ("N_C", "alpha", "delta"):
            fix(name)
        flat = True
        notes.append(
            "one model size: alpha and delta are held at 0 and N_C is part of E; the law does not support other sizes"
        )
        left = log_r - log_r.mean()
    else:
        trend = np.stack([np.ones_like(log_n), log_n - log_n.mean()], axis=1)
        left = log_r - trend @ np.linalg.lstsq(trend, log_r, rcond=None)[0]
    if left.std() < _LEAST_RATE_SPREAD:
        # the gap proportional to the rate: nothing pruned costs nothing, and a rate that saturates with the size (2:4,
        # where embeddings stay) is not read as a trend that goes on
        fix("gamma", _GAMMA_HELD)
        flat = True
        if sizes.size > 1 and rates.size > 1:
            notes.append(
                "the rate moves only with the size: gamma and delta cannot be told apart; gamma is held at -1 (a gap "
                "proportional to the rate), and the law supports other sizes on the same trend, not other rates"
            )
        else:
            notes.append(
                "one pruning rate: gamma is held at -1 (a gap proportional to the rate); the law does not support "
                "other rates"
            )
    if sizes.size == 2:
        fix("N_C")
        fix("alpha")
        flat = True
        notes.append(
            "two model sizes: N_C and E cannot be told apart; N_C is held at 0 and predictions at other sizes lean on "
            "delta alone; how lucky a size is can't be told from two, so their intervals are a lower limit"
        )
    return flat, (("N_C", "alpha"),) if sizes.size > 2 else ()


def _chinchilla(seen: Observations, fix: Fix, notes: list[str]) -> bool:
    levels = distinct(seen.params_before * (1 - seen.pruning_rate))
    if levels.size > 2:
        return False
    if levels.size == 1:
        fix("A")
        fix("alpha")
        notes.append("one size after pruning: A is part of E; the law does not support other sizes")
    else:
        fix("alpha", 0.34)
        notes.append("two sizes after pruning: alpha is held at 0.34 (Hoffmann et al. 2022)")
    return True


def _compression(seen: Observations, fix: Fix, notes: list[str]) -> bool:
    if distinct(1 + seen.pruning_rate).size == 1:
        fix("beta")
        notes.append("one pruning rate: beta is held at 0; the law does not support other rates")
        return True
    return False


def _sparse(seen: Observations, fix: Fix, notes: list[str]) -> bool:
    flat = False
    if distinct(seen.params_before).size == 1:
        fix("b_N")
        fix("c_S")
        flat = True
        notes.append("one model size: b_N is held at 0 and c_S is part of c; the law does not support other sizes")
    if distinct(1 - seen.pruning_rate).size == 1:
        fix("a_S")
        fix("b_S", 1.0)
        flat = True
        notes.append("one pruning rate: a_S is part of c_S; the law does not support other rates")
        if distinct(seen.params_before).size == 1:
            notes.append("one model size and rate: only the token term is fitted")
    return flat


def fit_loss_before(seen: Observations, ref: Reference) -> tuple[np.ndarray, tuple[str, ...]]:
    """E0, A, a of E0 + A (N0/ref)^-a through the losses before pruning (least squares), and what to say about it."""
    sizes = seen.sizes
    mean = np.array([seen.loss_before[seen.params_before == n].mean() for n in sizes])
    if distinct(sizes).size == 1:
        return np.array([mean.mean(), 0.0, 0.0]), ("one model size: the loss before pruning is held constant",)
    log_n = np.log(sizes / ref.params)
    two = distinct(sizes).size == 2
    best, found = np.inf, np.array([mean.mean(), 0.0, 0.0])
    for a in np.geomspace(0.01, 3, 600):
        power = np.exp(-a * log_n)
        rows = np.stack([np.zeros_like(power) if two else np.ones_like(power), power], axis=1)
        answer = np.linalg.lstsq(rows, mean, rcond=None)[0]
        if (answer < 0).any():
            continue
        cost = float(np.sum((rows @ answer - mean) ** 2))
        if cost < best:
            best, found = cost, np.array([*answer, a])
    note = "the loss before pruning follows A*N0^-a with E0 = 0: two sizes cannot tell E0" if two else ""
    if len(sizes) == 3:
        note = "three sizes fix the curve of the loss before pruning exactly: its error is not part of the intervals"
    return found, (note,) if note else ()
