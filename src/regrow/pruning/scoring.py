"""From a spec to scores, and from scores to the indices of a plan: what each scorer measures and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from regrow.errors import InputError
from regrow.methods import DEPTH, WIDTH
from regrow.pruning.calibration import Scores, calibrate, random_scores, weights_fingerprint
from regrow.pruning.depth import least_important
from regrow.pruning.plan import PrunePlan
from regrow.pruning.removal import DepthScores, measure_depth
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream, open_stream
from regrow.pruning.width import most_important

AnyScores = Scores | DepthScores


def measure(
    model: PreTrainedModel | BlockStream,
    spec: PruneSpec,
    plan: PrunePlan,
    tokens: torch.Tensor | None,
    *,
    progress: Callable[[str], None] | None = None,
) -> AnyScores | None:
    """The scores that the spec's scorer goes by; None where it looks at the weights alone, and for N:M, whose inputs
    are those of pruned layers and so come up when the plan is applied.

    `tokens` [samples, length] may be None for scorers that read none. Raises `InputError` if they are needed.
    """
    if spec.scorer == "random":
        return random_scores(plan.before, seed=spec.seed)
    if not spec.needs_calibration:
        return None
    if tokens is None:
        raise InputError(
            f"the scorer {spec.scorer!r} needs calibration text",
            where="calibration",
            hint="give --calibration, or a scorer that needs none",
        )
    if spec.pattern is not None:
        return None
    stream = open_stream(model)
    if not needs_depth_scores(spec):
        return calibrate(stream, tokens, progress=progress)
    assert spec.scorer is not None
    return measure_depth(
        stream,
        tokens,
        scorer=spec.scorer,
        iterative=spec.iterative,
        count=plan.before.layers - plan.after.layers,
        fingerprint=weights_fingerprint(stream.source),
        progress=progress,
    )


def needs_depth_scores(spec: PruneSpec) -> bool:
    """Whether the spec goes by a measure of `removal`; the other scorers share the statistics of one pass."""
    return spec.method == DEPTH and (spec.iterative or spec.scorer in ("perplexity", "angular"))


def check_scores(scores: AnyScores, spec: PruneSpec, fingerprint: str) -> None:
    """Raises `InputError` unless the scores are of the model of this fingerprint and what the spec's scorer goes by."""
    if scores.fingerprint != fingerprint:
        raise InputError("the scores were measured on another model", where="scores", hint="measure them again")
    check_scorer(scores, spec)


def check_scorer(scores: AnyScores, spec: PruneSpec) -> None:
    """Raises `InputError` unless the scores are what the spec's scorer goes by."""
    if spec.scorer == "sparsegpt":
        raise InputError(
            "sparsegpt goes by text, not by scores",
            where="scores",
            hint="--scorer wanda goes by scores; or leave them out",
        )
    wanted = f"{spec.scorer}{', iterative' if spec.iterative else ''}"
    if isinstance(scores, DepthScores):
        held = f"{scores.scorer}{', iterative' if scores.iterative else ''}"
        fits = needs_depth_scores(spec) and held == wanted
    else:
        held, fits = "activation norms", not needs_depth_scores(spec)
    if not fits:
        raise InputError(f"the scores hold {held}, the scorer is {wanted}", where="scores", hint="measure them again")


def decide(plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
    """Fill an outline with indices: what scores least goes. N:M plans have none; their masks follow the weights."""
    before, after = plan.before, plan.after
    if plan.method == DEPTH:
        count = before.layers - after.layers
        if isinstance(scores, DepthScores):
            return replace(plan, dropped_layers=scores.dropped(count))
        assert scores is not None
        return replace(plan, dropped_layers=least_important(scores.block_influence, count))
    if plan.method != WIDTH:
        return plan
    assert isinstance(scores, Scores)
    hidden = intermediate = kv_heads = None
    if after.hidden < before.hidden:
        hidden = most_important(scores.hidden(), after.hidden)
    if after.intermediate < before.intermediate:
        intermediate = tuple(most_important(layer, after.intermediate) for layer in scores.mlp_activation)
    if after.kv_heads < before.kv_heads:
        kv_heads = tuple(most_important(layer, after.kv_heads) for layer in scores.kv_groups(before))
    return replace(plan, kept_hidden=hidden, kept_intermediate=intermediate, kept_kv_heads=kv_heads)


def load_scores(path: str | Path) -> AnyScores:
    """Scores of either kind from a file. Raises `InputError` if it is missing, broken or something else."""
    try:
        with safe_open(str(path), framework="pt") as file:
            depth = (file.metadata() or {}).get("kind") == "depth"
    # OSError, SafetensorError: the reader of a kind says which
    except Exception:
        depth = False
    return DepthScores.load(path) if depth else Scores.load(path)
