"""The laws of one fit, as a list that knows what was skipped and which form was taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from regrow.html_table import html_table
from regrow.laws.law import Law

if TYPE_CHECKING:
    import pandas as pd


class Laws(list[Law]):
    """Fitted laws, one per family and method.

    Attributes:
        chosen: which form was taken and why, where none was asked for; else empty.
        skipped: which groups could not be fitted, and why.
        other_baseline: the laws of the groups whose control moved by more than the noise, measured from the other
            baseline: what the choice of the baseline does.
    """

    def __init__(
        self,
        laws: Iterable[Law] = (),
        skipped: Sequence[str] = (),
        other_baseline: Sequence[Law] = (),
        chosen: str = "",
    ) -> None:
        super().__init__(laws)
        self.chosen = chosen
        self.skipped = tuple(skipped)
        self.other_baseline = tuple(other_baseline)

    def to_frame(self) -> pd.DataFrame:
        """One row per law: what was fitted, status, parameters and metrics."""
        import pandas as pd

        keep = ("family", "method", "form", "status", "n_runs", "n_points")
        return pd.DataFrame([{k: getattr(x, k) for k in keep} | dict(x.params) | dict(x.metrics) for x in self])

    def _repr_html_(self) -> str:
        """For a notebook: the laws one below the other."""
        notes = [*([self.chosen] if self.chosen else []), *(f"skipped: {text}" for text in self.skipped)]
        below = html_table((), (), notes=notes) if notes else ""
        return "".join(law._repr_html_() for law in self) + below

    def __repr__(self) -> str:
        other = (f"From the other baseline:\n{law!r}" for law in self.other_baseline)
        return "\n\n".join([*map(repr, self), *other, *(f"skipped: {text}" for text in self.skipped)])
