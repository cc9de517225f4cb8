"""What one evaluation of the pruned model would tell, before it is made: the gap right after pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting


def expected_start(law: Law, setting: Setting) -> float | None:
    """The loss right after pruning as the law expects it, nats/token; None for a law that says nothing of it."""
    if not _reads_start(law):
        return None
    loss = float(law.loss(setting.at(0.0)))
    return loss if np.isfinite(loss) else None


def _reads_start(law: Law) -> bool:
    return "loss_pruned" in (c.name for c in law.formula.optional)


def worth_measuring(law: Law, setting: Setting, tokens: float | None, level: float) -> list[str]:
    """How much narrower the loss at `tokens` would be known if the loss right after pruning were measured.

    Empty where it is known, where the law does not read it, and without a number of tokens.
    """
    if tokens is None or not _reads_start(law) or "loss_pruned" in setting or not len(law.draws):
        return []
    start = setting.at(0.0)
    low, high = (float(end) for end in law.interval(start, level=level))
    guess = float(law.loss(start))
    wide, narrow = (
        float(np.subtract(*law.interval(x.at(tokens), level=level)[::-1]))
        for x in (setting, setting.replace(loss_pruned=guess))
    )
    if f"{narrow:.2g}" == f"{wide:.2g}":
        return []
    if law.benchmark is not None:
        return [
            f"the score right after pruning is guessed at {1 - guess:.3g} ({1 - high:.3g} to {1 - low:.3g}): measured, "
            f"it would narrow the interval of the score from {100 * wide:.2g} to {100 * narrow:.2g} points; read it "
            "with `regrow eval --tasks`, and give it as --score-pruned"
        ]
    return [
        f"the loss right after pruning is guessed at {guess:.3g} ({low:.3g} to {high:.3g}): measured, it would narrow "
        f"the interval of the loss from {wide:.2g} to {narrow:.2g} nats; prune the model, read its loss with "
        "`regrow eval`, and give it as --loss-pruned"
    ]
