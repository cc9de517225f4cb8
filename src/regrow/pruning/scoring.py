"""From a spec to scores, and from scores to the indices of a plan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from regrow.errors import InputError
from regrow.pruning.kernel import kernel_of, load_kernel
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scorers import scorers_of
from regrow.pruning.scores import SHARED, AnyScores, own_label
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream, open_stream


def measure(
    model: PreTrainedModel | BlockStream,
    spec: PruneSpec,
    plan: PrunePlan,
    tokens: torch.Tensor | None,
    *,
    progress: Callable[[str], None] | None = None,
) -> AnyScores | None:
    """The scores that the spec's scorer goes by; None if it decides while the blocks are pruned.

    `tokens` [samples, length] may be None for scorers that read none. Raises `InputError` if they are needed.
    """
    if spec.needs_calibration and tokens is None:
        raise InputError(
            f"the scorer {spec.scorer!r} needs calibration text",
            where="calibration",
            hint="give --calibration, or a scorer that needs none",
        )
    if spec.entry.on_the_way:
        return None
    return load_kernel(spec.entry).measure(open_stream(model), spec, plan, tokens, progress=progress)


def check_scores(scores: AnyScores, spec: PruneSpec, fingerprint: str) -> None:
    """Raises `InputError` unless the scores are of the model of this fingerprint and what the spec's scorer goes by."""
    if scores.fingerprint != fingerprint:
        raise InputError("the scores were measured on another model", where="scores", hint="measure them again")
    check_scorer(scores, spec)


def check_scorer(scores: AnyScores, spec: PruneSpec) -> None:
    """Raises `InputError` unless the scores are what the spec's scorer goes by."""
    assert spec.scorer is not None
    if spec.scores is None:
        raise InputError(
            f"{spec.scorer} goes by text, not by scores",
            where="scores",
            hint=f"{_with_scores(spec)} goes by scores; or leave them out",
        )
    wanted = own_label(spec.scorer, iterative=spec.iterative)
    if scores.label != (SHARED if spec.scores == "shared" else wanted):
        raise InputError(
            f"the scores hold {scores.label}, the scorer is {wanted}", where="scores", hint="measure them again"
        )


def check_saveable(scores: AnyScores | None, spec: PruneSpec) -> AnyScores:
    """The scores, if they can serve again. Raises `InputError` if there are none, or if no text was read for them."""
    if scores is None or not spec.needs_calibration:
        hint = f"{_with_scores(spec)} has scores to save" if spec.pattern is not None else "leave it out"
        raise InputError(f"the scorer {spec.scorer!r} measures nothing to save", where="save_scores", hint=hint)
    return scores


def _with_scores(spec: PruneSpec) -> str:
    """The scorers of the same kind that use stored scores, as options of the command line."""
    return " or ".join(f"--scorer {entry.name}" for entry in scorers_of(spec.kind) if entry.scores and entry.reads_text)


def decide(plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
    """Fill an outline with the indices of what goes or stays; a scorer that decides on the way leaves it as it is."""
    return kernel_of(plan.method, plan.scorer).decide(plan, scores)
