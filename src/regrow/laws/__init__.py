"""Scaling laws of pruned models: forms, robust fits, run-level intervals, and proof by held-out runs.

`Law`, `Prediction`, `load_laws`, `save_laws`, `select_law` and the forms need numpy only; what fits and validates is
imported on first use, so that a plan from a law file starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regrow.laws.files import load_laws, save_laws
from regrow.laws.forms import FORMS, add_form, find_form
from regrow.laws.law import Law
from regrow.laws.prediction import Prediction
from regrow.laws.select import select_law
from regrow.laws.setting import Column, Setting

if TYPE_CHECKING:
    from regrow.laws.collection import Laws
    from regrow.laws.entry import fit
    from regrow.laws.pooled.link import fit_link
    from regrow.laws.validation import HoldOutResult, rank_forms, validate, validate_law

_LAZY = {
    "fit": "entry",
    "fit_link": "pooled.link",
    "Laws": "collection",
    "validate": "validation",
    "validate_law": "validation",
    "HoldOutResult": "validation",
    "rank_forms": "validation",
}

__all__ = [
    "FORMS",
    "Column",
    "HoldOutResult",
    "Law",
    "Laws",
    "Prediction",
    "Setting",
    "add_form",
    "find_form",
    "fit",
    "fit_link",
    "load_laws",
    "rank_forms",
    "save_laws",
    "select_law",
    "validate",
    "validate_law",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
