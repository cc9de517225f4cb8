"""The forms a law can take: pure functions of sizes, rates, tokens and the loss before pruning.

Every form is one small class (`regrow.laws.forms.base.Form`): its parameters with bounds and meaning, the formula, the
analytic derivatives, and what is known of it. A file holds a family of forms. To add one, write the class, add it to
`FORMS` here or with `add_form`, and add a row to the derivative test. Nothing else has to know it.
"""

from __future__ import annotations

from regrow.errors import InputError, one_of
from regrow.laws.forms.base import Form, Identified, Parameter, Simpler
from regrow.laws.forms.chinchilla import Chinchilla
from regrow.laws.forms.compression import Compression
from regrow.laws.forms.p2 import P2, P2Counts, P2Odds, P2Shifted
from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.forms.sparse import Sparse

__all__ = ["FORMS", "Form", "Identified", "Parameter", "Simpler", "add_form", "find_form"]

#: all forms by name
FORMS: dict[str, Form] = {
    form.name: form
    for form in (Regrowth(), P2(), P2Counts(), P2Shifted(), P2Odds(), Chinchilla(), Compression(), Sparse())
}


def add_form(form: Form) -> None:
    """Make a form known by its name. Raises `InputError` if the name is taken."""
    if form.name in FORMS:
        raise InputError(f"a form {form.name!r} is known already", where="forms", hint="choose another name")
    FORMS[form.name] = form


def find_form(name: str) -> Form:
    """A form by name. Raises `InputError` with the nearest name for an unknown one."""
    return FORMS[one_of(name, FORMS, what="form")]
