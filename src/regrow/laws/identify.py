"""Which parameters the data can tell apart: read from the design (sizes, rates, tokens), never from the losses.

What cannot be identified is held at a stated value with a sentence that says so; what a design must show is known to
the form (`Form.identify`). A group that cannot carry its form at all is refused with what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.forms import Form, Simpler
from regrow.laws.observations import Observations
from regrow.laws.setting import Reference, distinct
from regrow.methods import is_masked
from regrow.units import plural


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Bounds and held values of one fit, all [p] in scaled units.

    Attributes:
        free: which parameters are fitted.
        held: the value of those that are not.
        simpler: nested alternatives, simplest first; a simpler one is preferred unless the data refute it.
        flat: whether something was held because the data cannot identify it.
        unsupported: inputs of which the runs show one value only, and why, by name; the law cannot speak of others.
        notes: what was held and why, in plain words.
    """

    free: np.ndarray
    held: np.ndarray
    simpler: tuple[Simpler, ...] = ()
    flat: bool = False
    unsupported: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without(self, form: Form, names: tuple[str, ...]) -> Design:
        """The nested design in which these parameters are zero."""
        out = self.free.copy()
        out[[form.index(n) for n in names]] = False
        return replace(self, free=out, simpler=())


def design(form: Form, seen: Observations, ref: Reference, hold: Mapping[str, float] | None = None) -> Design:
    """Decide what this group can identify.

    Args:
        hold: exponents to hold at given values in natural units, or coefficients to hold at zero, by name.

    Raises:
        InputError: too few token counts or checkpoints for the form, or an unusable `hold`.
    """
    where = f"{seen.where}, form {form.name}"
    wanted = {name: _held(form, name, value, ref, where) for name, value in (hold or {}).items()}
    found = form.identify(seen.x, where=seen.where)
    before, notes = form.fit_beforehand(seen.x, ref)
    # what the user holds wins over what the design would hold
    fixed = {**found.held, **dict(zip(form.beforehand, before.tolist(), strict=True)), **wanted}
    free = np.array([name not in fixed for name in form.names])
    simpler = found.simpler
    if any(name in fixed for one in simpler for name in one.zero):
        simpler = ()  # the user has chosen
    levels = distinct(seen.x.tokens[seen.x.tokens > 0])
    if "tokens" in form.uses and levels.size < 3:
        raise InputError(
            f"{levels.size} different token counts", where=where, hint="a curve needs checkpoints at 3 or more"
        )
    # the nested alternative needs fewer
    least = int(free.sum()) - max((len(one.zero) for one in simpler), default=0) + 1
    if len(seen) < least:
        raise InputError(
            f"{plural(len(seen), 'checkpoint')} for {least - 1} parameters", where=where, hint=f"give at least {least}"
        )
    # an exponent that the user holds is the user's word for it, and the rate of N:M sparsity follows from the size
    ignore = [parameter.effect_of for parameter in form.parameters if parameter.name in wanted]
    ignore += ["pruning_rate"] if is_masked(seen.method) else []
    return Design(
        free=free,
        held=np.array([fixed.get(name, 0.0) for name in form.names]),
        simpler=simpler,
        flat=bool(found.held),
        unsupported=form.unsupported(seen.x, ignore=tuple(ignore)),
        notes=(*found.notes, *notes),
    )


def _held(form: Form, name: str, value: float, ref: Reference, where: str) -> float:
    """What a user holds a parameter at, in scaled units. Raises `InputError` if it can't be held there."""
    one_of(name, form.names, what="parameter to hold", where=where)
    parameter = form.parameters[form.index(name)]
    what = f"{name} held at {value:g}"
    if parameter.not_held:
        raise InputError(what, where=where, hint=parameter.not_held)
    if value != 0 and parameter.linear:
        raise InputError(what, where=where, hint="a coefficient can be held at 0 only")
    if not math.isfinite(value):
        raise InputError(what, where=where, hint="give a number")
    units = form.scales(np.zeros((1, len(form.names))), ref) if value else {}
    scaled = float(value) / (float(units[name][0]) if name in units else 1.0)
    if abs(scaled) > 10 * max(abs(parameter.lower), abs(parameter.upper)):
        hint = f"it is looked for between {parameter.lower:g} and {parameter.upper:g}"
        raise InputError(what, where=where, hint=hint)
    return scaled
