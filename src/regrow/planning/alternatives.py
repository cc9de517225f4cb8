"""What else could be done than a plan says: prune in turns, or train a model of the pruned size from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.planning.scratch import ScratchComparison, ScratchCurve
    from regrow.planning.stages import StageComparison


@dataclass(frozen=True, kw_only=True, eq=False)
class Alternatives:
    """A plan, and what it was compared with; None where nobody asked.

    Attributes:
        stages: one step against pruning and training in turns, with as many tokens.
        scratch: pruning against training from scratch.
    """

    plan: Plan
    stages: StageComparison | None = None
    scratch: ScratchComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, with `stages` and `scratch` where they were asked for."""
        more = {"stages": self.stages, "scratch": self.scratch}
        return {**self.plan.to_dict(), **{name: one.to_dict() for name, one in more.items() if one is not None}}


def alternatives_to(
    law: Law,
    spec: PlanSpec,
    answer: Plan,
    *,
    stages: Sequence[float] = (),
    stage_tokens: float | None = None,
    scratch: ScratchCurve | None = None,
) -> Alternatives:
    """Compare a plan with pruning in turns, with training from scratch, or with neither.

    Args:
        law, spec: what the plan was made with.
        stages: rates that rise, the last of them the plan's; none where turns are not asked for.
        stage_tokens: of all turns together, and of the one step; else those of the plan.
        scratch: the loss of training from scratch (`regrow.planning.scratch.scratch_curve`).

    Raises `InputError` as `against_turns` and `against_scratch` do.
    """
    turns = found = None
    if stages:
        from regrow.planning.stages import against_turns  # a plan alone starts without it

        turns = against_turns(law, spec, answer, stages, stage_tokens)
    if scratch is not None:
        from regrow.planning.scratch import against_scratch

        found = against_scratch(law, spec, answer, scratch)
    return Alternatives(plan=answer, stages=turns, scratch=found)
