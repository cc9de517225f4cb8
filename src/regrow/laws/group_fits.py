"""Fits of groups that several steps of a validation need, each made once."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.errors import RegrowError
from regrow.laws.fitting import usable
from regrow.laws.forms import Form
from regrow.laws.observations import Observations
from regrow.laws.point import PointFit, fit_point


class GroupFits:
    """Fits of all readings of each group, by one form.

    They lend their spread between runs to the other methods of a family, as in `regrow.laws.fitting.fit`. A fit of the
    same group without one run starts where they ended.
    """

    def __init__(self, form: Form, groups: Sequence[Observations], seed: int) -> None:
        self.form, self.groups, self.seed = form, groups, seed
        self._fits: dict[int, PointFit | None] = {}

    def of(self, number: int) -> PointFit | None:
        """The fit of a group, None where it fails."""
        if number not in self._fits:
            try:
                seen = usable(self.form, self.groups[number])
                self._fits[number] = fit_point(self.form, seen, seed=self.seed)
            except RegrowError:
                self._fits[number] = None
        return self._fits[number]

    def of_other_methods(self, number: int) -> list[PointFit]:
        """The fits of the other groups of its family, without those that fail."""
        family = self.groups[number].family
        others = [i for i, group in enumerate(self.groups) if i != number and group.family == family]
        return [point for i in others if (point := self.of(i)) is not None]
