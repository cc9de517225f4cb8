"""The one path: spec -> scores -> plan -> new model, in memory (`prune_model`) and from disk to disk (`prune`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data.blocks import Blocks
from regrow.errors import InputError, RegrowError
from regrow.methods import DEPTH
from regrow.models.layout import block_weights, is_tied
from regrow.models.load import architecture_of, has_tokenizer, load_model, load_tokenizer, quiet
from regrow.models.masks import check_pattern
from regrow.models.save import PRUNE_RECORD, check_output, save_checkpoint
from regrow.pruning.calibration import Scores, choose_blocks, weights_fingerprint
from regrow.pruning.card import CARD, model_card
from regrow.pruning.depth import drop_blocks, drop_config_blocks
from regrow.pruning.plan import PrunePlan, outlines
from regrow.pruning.refit import refit
from regrow.pruning.scoring import AnyScores, check_scores, decide, measure
from regrow.pruning.search import search
from regrow.pruning.semistructured import mask_state, sparse_masks
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import open_stream
from regrow.pruning.width import Kept, narrow_config, slice_state

Progress = Callable[[str], None]


def prune(
    path: str | Path,
    spec: PruneSpec,
    *,
    calibration: Blocks | None,
    out: str | Path | None,
    plan: PrunePlan | None = None,
    scores: AnyScores | None = None,
    save_scores: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrunePlan:
    """Prune a checkpoint folder into another: weights, config, tokenizer, a model card, and `regrow_prune.json`.

    Args:
        path: folder or Hub name of the model; one without tokenizer files is pruned without a tokenizer.
        spec: what to prune.
        calibration: packed text in the model's own tokens; None if the scorer needs none or `scores` are given.
        out: folder to make; None decides the plan and writes nothing.
        plan: decided earlier on this model; nothing is measured again, but for N:M, whose masks follow from scores.
        scores: measured earlier on this model; saves the calibration pass.
        save_scores: file to write the scores to, for other rates.
        overwrite: replace `out` if it holds something.
        progress: called with a line of text at each step.

    Raises `InputError` for anything the user can mend: see `load_model`, `save_checkpoint`, `outline`, `calibrate`.
    """
    say = progress or (lambda line: None)
    if out is not None:
        check_output(out, overwrite=overwrite)
    say(f"loading {path}")
    model = load_model(path)
    folder = Path(path).expanduser()
    tokenizer = load_tokenizer(path) if not folder.is_dir() or has_tokenizer(folder) else None
    tokens = None
    if calibration is not None and spec.needs_calibration and (scores is None or spec.search > 1 or spec.refits):
        tokens = choose_blocks(
            calibration, count=spec.calibration_blocks, length=spec.calibration_length, seed=spec.seed
        )
    if plan is None or plan.pattern is not None:
        plan, scores = make_plan(model, spec, tokens, scores=scores, progress=progress)
    else:
        check_plan(plan, architecture_of(model))
    if save_scores is not None:
        if scores is None or spec.scorer == "random":
            raise InputError(f"the scorer {spec.scorer!r} measures nothing to save", where="save_scores")
        scores.save(save_scores)
    if out is None:
        return plan
    pruned = apply_plan(model, plan, scores if isinstance(scores, Scores) else None, tokens, progress=progress)
    _verify(pruned, plan)
    record = _record(path, spec, plan, tokens, calibration)
    say(f"writing {out}")
    card = model_card(str(path), spec, plan, record["calibration"], record["versions"])
    save_checkpoint(pruned, tokenizer, out, extra={PRUNE_RECORD: record, CARD: card}, overwrite=overwrite)
    return plan


def prune_model(
    model: PreTrainedModel,
    spec: PruneSpec,
    calibration: torch.Tensor | None,
    *,
    scores: AnyScores | None = None,
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, PrunePlan]:
    """Prune a model in memory. The given model is left as it is; the new one owns its weights and is in eval mode.

    Args:
        model: of a supported family.
        spec: what to prune.
        calibration: tokens [blocks, length] for scorers that need them; may be None if `scores` are given.
        scores: measured earlier on this model.
        progress: called with a line of text at each step.

    Raises `InputError` if the spec cannot be met on this model.
    """
    plan, scores = make_plan(model, spec, calibration, scores=scores, progress=progress)
    pruned = apply_plan(model, plan, scores if isinstance(scores, Scores) else None, calibration, progress=progress)
    _verify(pruned, plan)
    return pruned, plan


def make_plan(
    model: PreTrainedModel,
    spec: PruneSpec,
    calibration: torch.Tensor | None,
    *,
    scores: AnyScores | None = None,
    progress: Progress | None = None,
) -> tuple[PrunePlan, AnyScores | None]:
    """The decided plan of a spec, and the scores it went by. Arguments and errors as for `prune_model`."""
    outlined = outlines(architecture_of(model), spec)
    if scores is None or not spec.needs_calibration:
        scores = measure(model, spec, outlined[0], calibration, progress=progress)
    else:
        check_scores(scores, spec, weights_fingerprint(model))
    plans = [decide(plan, scores) for plan in outlined]
    if spec.search == 1:
        return plans[0], scores
    if calibration is None:
        raise InputError("a search needs calibration text", where="search", hint="give --calibration beside the scores")
    return search(open_stream(model), plans, calibration, progress=progress or (lambda line: None)), scores


def check_plan(plan: PrunePlan, before: Architecture) -> None:
    """Raises `InputError` unless the plan is of this architecture and says exactly what goes."""
    if plan.before != before:
        raise InputError("the plan is of a model of another shape", where="plan", hint="make a plan of this model")
    if not plan.decided:
        raise InputError(
            "the plan does not say what goes", where="plan", hint="give the dry run --calibration or --scores"
        )


def apply_plan(
    model: PreTrainedModel,
    plan: PrunePlan,
    scores: Scores | None = None,
    tokens: torch.Tensor | None = None,
    *,
    progress: Progress | None = None,
) -> PreTrainedModel:
    """Build the pruned model that a decided plan describes.

    `scores` serve N:M only: Wanda with, magnitude without. `tokens` [samples, length] are what `least-squares` solves
    on; raises `InputError` if it lacks them.
    """
    state, config = model.state_dict(), model.config.to_dict()
    # the code it names does not come along, and transformers would ask everybody to trust it
    config.pop("auto_map", None)
    if plan.before.tied:
        # one parameter under two names: sliced once, tied again by the new model
        del state["lm_head.weight"]
    if plan.pattern is not None:
        state = mask_state(state, sparse_masks(model, *plan.pattern, scores))
    elif plan.method == DEPTH:
        assert plan.dropped_layers is not None, "an outline; decide it first"
        state = drop_blocks(state, plan.dropped_layers, plan.before.layers)
        config = drop_config_blocks(config, plan.dropped_layers)
    else:
        kept = Kept(hidden=plan.kept_hidden, intermediate=plan.kept_intermediate, kv_heads=plan.kept_kv_heads)
        state = slice_state(state, kept, plan.before)
        if plan.scorer == "least-squares":
            if tokens is None:
                raise InputError(
                    "least squares need calibration text", where="calibration", hint="give --calibration as well"
                )
            for solved in refit(open_stream(model), plan, tokens, progress=progress):
                state |= solved
        config = narrow_config(config, plan.after)
    return _build(model, config, state)


def _build(model: PreTrainedModel, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """A fresh model of the same class, so that transformers itself sets every index, mask and buffer."""
    # transformers takes the tensors as they are; cloning keeps the new model apart from the old one
    owned = {name: tensor.detach().clone() for name, tensor in state.items()}
    new_config = type(model.config).from_dict(dict(config))
    with quiet():
        built, report = type(model).from_pretrained(
            None,
            config=new_config,
            state_dict=owned,
            dtype=model.dtype,
            attn_implementation=model.config._attn_implementation,
            output_loading_info=True,
        )
    odd = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if odd:
        raise RegrowError(f"the pruned model does not take {odd[0]!r}", where="prune", hint="please report this")
    if model.generation_config is not None:
        built.generation_config = copy.deepcopy(model.generation_config)
    return built.to(model.device).eval()


def _verify(pruned: PreTrainedModel, plan: PrunePlan) -> None:
    """The model is what the plan says: shape, count, tying, pattern. A failure is a bug in regrow, said as such."""
    real = architecture_of(pruned)
    wrong = []
    if real != plan.after:
        wrong.append(f"built {real}, planned {plan.after}")
    if is_tied(pruned) != plan.after.tied:
        wrong.append("embeddings lost their tie")
    if plan.pattern is not None:
        wrong += [name for name, weight in block_weights(pruned).items() if not check_pattern(weight, *plan.pattern)]
    if wrong:
        raise RegrowError(
            f"the pruned model differs from its plan: {wrong[0]}", where="prune", hint="please report this"
        )


def _record(
    path: str | Path, spec: PruneSpec, plan: PrunePlan, tokens: torch.Tensor | None, calibration: Blocks | None
) -> dict[str, Any]:
    used: dict[str, Any] | None = None
    if tokens is not None and calibration is not None:
        used = {"blocks": tokens.shape[0], "length": tokens.shape[1], "data_fingerprint": calibration.fingerprint}
        if calibration.table is not None:
            # names alone: a path says more of the machine than of the text
            used["files"] = [Path(file).name for file in calibration.table.files]
    return {
        "model": str(path),
        "params_before": plan.params_before,
        "params_after": plan.params_after,
        "pruning_rate": plan.pruning_rate,
        "spec": spec.to_dict(),
        "plan": plan.to_dict(),
        "calibration": used,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
