"""The one path: spec -> scores -> plan -> new model, in memory (`prune_model`) and from disk to disk (`prune`)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data import Blocks, read_blocks
from regrow.errors import InputError, RegrowError
from regrow.models.beside import PRUNE_RECORD, beside
from regrow.models.layout import block_weights, is_tied
from regrow.models.load import architecture_of, load_tokenizer, local_checkpoint, quiet
from regrow.models.masks import check_pattern
from regrow.models.save import check_output, staged_folder
from regrow.models.shards import ShardWriter
from regrow.pruning.apply import PlannedModel, planned_beside
from regrow.pruning.calibration import calibrate, choose_blocks, weights_fingerprint
from regrow.pruning.card import CARD, model_card
from regrow.pruning.estimate import check_memory, estimate_for
from regrow.pruning.kernel import Notes
from regrow.pruning.plan import PrunePlan, outlines
from regrow.pruning.scores import AnyScores, Scores
from regrow.pruning.scoring import check_saveable, check_scores, decide, measure
from regrow.pruning.search import search
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import EMBEDDING, BlockStream, FolderSource, open_stream

Progress = Callable[[str], None]


def prune(
    path: str | Path,
    spec: PruneSpec,
    *,
    calibration: Blocks | str | None,
    out: str | Path | None,
    plan: PrunePlan | None = None,
    scores: AnyScores | None = None,
    save_scores: str | Path | None = None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    text_name: str | None = None,
    progress: Progress | None = None,
) -> PrunePlan:
    """Prune a checkpoint folder into another: weights, config, tokenizer, a model card, and `regrow_prune.json`.

    Weights are read and written shard by shard, and text is walked through one decoder block at a time: the memory it
    takes is a small multiple of a block plus the text's hidden states, whatever the model's size. An estimate is the
    second line of progress.

    Args:
        path: folder or Hub name of the model; one without tokenizer files is pruned without a tokenizer.
        spec: what to prune.
        calibration: text data as `regrow.data.read_blocks` takes them, or packed blocks of the model's own tokens; None
            if the scorer needs none or `scores` are given.
        out: folder to make; None decides the plan and writes nothing.
        plan: decided earlier on this model; nothing is measured again, but for N:M, whose masks follow from the text.
        scores: measured earlier on this model; saves the calibration pass.
        save_scores: file to write the scores to, for other rates.
        overwrite: replace `out` if it holds something.
        device: where blocks are run, e.g. `cuda`.
        text_name: what `--calibration` calls the text where that is not its file, e.g. `ladder`; for the record.
        progress: called with a line of text at each step.

    Raises `InputError` for anything the user can mend: a broken checkpoint, an output folder that is taken, a spec that
    cannot be met, tokens of another vocabulary, more memory than there is.
    """
    say = progress or (lambda line: None)
    if out is not None:
        check_output(out, overwrite=overwrite)
        if save_scores is not None and Path(save_scores).resolve().is_relative_to(Path(out).resolve()):
            raise InputError(
                "the scores would lie in the folder of the model, which is written whole",
                where=str(save_scores),
                hint="give a file beside it",
            )
    say(f"loading {path}")
    folder = local_checkpoint(path)
    stream = open_stream(folder, device=device)
    assert isinstance(stream.source, FolderSource)
    checkpoint = stream.source.checkpoint
    tokens = None
    if not (spec.needs_calibration and _reads_text(spec, scores)):
        calibration = None
    # never beyond the positions that the model knows
    length = spec.calibration_length
    length = min(length, getattr(stream.config, "max_position_embeddings", None) or length)
    if isinstance(calibration, str):
        calibration = read_blocks(calibration, load_tokenizer(folder), sequence_length=length)
    if calibration is not None:
        tokens = choose_blocks(calibration, count=spec.calibration_blocks, length=length, seed=spec.seed)
    _say_memory(stream, spec, tokens, say)
    if plan is None or plan.pattern is not None:
        plan, scores = make_plan(stream, spec, tokens, scores=scores, progress=progress)
    else:
        check_plan(plan, stream.arch)
    if save_scores is not None:
        if scores is None and spec.scores == "shared" and tokens is not None:
            scores = calibrate(stream, tokens, progress=progress)
        check_saveable(scores, spec).save(save_scores)
    if out is None:
        return plan
    notes = Notes()
    planned = PlannedModel(stream.source, plan)
    dense = scores if isinstance(scores, Scores) else None
    with staged_folder(out, overwrite=overwrite) as stage:
        with ShardWriter(stage, planned.layout) as writer:
            for name, parts in planned.tensors(stream, tokens=tokens, scores=dense, notes=notes, progress=progress):
                writer.write(name, parts)
        say(f"writing {out}")
        # what was done, whatever the default is where this is read
        spec = replace(spec, search=spec.shapes_tried if tokens is not None else 1)
        record = _record(path, spec, plan, tokens, calibration, text_name, notes)
        record["corrected"] = list(checkpoint.notes)
        card = model_card(str(path), spec, plan, record["calibration"], record["versions"])
        planned_beside(beside(checkpoint), plan, planned.config).write(stage)
        (stage / PRUNE_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (stage / CARD).write_text(card, encoding="utf-8")
    return plan


def _reads_text(spec: PruneSpec, scores: AnyScores | None) -> bool:
    """Whether text is walked although there may be scores."""
    return scores is None or spec.shapes_tried > 1 or spec.refits


def _say_memory(stream: BlockStream, spec: PruneSpec, tokens: torch.Tensor | None, say: Progress) -> None:
    """Print what it will take; raises `InputError` if there is less."""
    samples, length = (0, 0) if tokens is None else tokens.shape
    needed = estimate_for(
        stream.arch,
        spec,
        samples=samples,
        length=length,
        compute_bytes=stream.dtype.itemsize,
        stored_bytes=stream.source.layout[EMBEDDING].element_size(),
    )
    say(needed.line())
    check_memory(needed, stream.device)


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
    stream = open_stream(model)
    plan, scores = make_plan(stream, spec, calibration, scores=scores, progress=progress)
    dense = scores if isinstance(scores, Scores) else None
    pruned = _build(model, PlannedModel(stream.source, plan), stream, calibration, dense, progress)
    _verify(pruned, plan)
    return pruned, plan


def make_plan(
    model: PreTrainedModel | BlockStream,
    spec: PruneSpec,
    calibration: torch.Tensor | None,
    *,
    scores: AnyScores | None = None,
    progress: Progress | None = None,
) -> tuple[PrunePlan, AnyScores | None]:
    """The decided plan of a spec, and the scores it went by. Arguments and errors as for `prune_model`."""
    stream = open_stream(model)
    outlined = outlines(stream.arch, spec)
    if scores is None or not spec.needs_calibration:
        scores = measure(stream, spec, outlined[0], calibration, progress=progress)
    else:
        check_scores(scores, spec, weights_fingerprint(stream.source))
    plans = [decide(plan, scores) for plan in outlined]
    if len(plans) == 1:
        return plans[0], scores
    if spec.search is None and calibration is None:
        if progress:
            progress("no text to compare shapes on: the rule's proportions are taken")
        return plans[0], scores
    if calibration is None:
        raise InputError("a search needs calibration text", where="search", hint="give --calibration beside the scores")
    return search(stream, plans, calibration, progress=progress or (lambda line: None)), scores


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

    `scores` serve N:M only: by `wanda` without `tokens`. `tokens` [samples, length] are what N:M and `least-squares`
    go by; raises `InputError` if they are lacking.
    """
    stream = open_stream(model)
    return _build(model, PlannedModel(stream.source, plan), stream, tokens, scores, progress)


def _build(
    model: PreTrainedModel,
    planned: PlannedModel,
    stream: BlockStream,
    tokens: torch.Tensor | None,
    scores: Scores | None,
    progress: Progress | None,
) -> PreTrainedModel:
    """A fresh model of the same class, so that transformers itself sets every index, mask and buffer."""
    tensors = planned.tensors(stream, tokens=tokens, scores=scores, progress=progress)
    # transformers takes the tensors as they are; a copy keeps the new model apart from the old one
    owned = {name: torch.cat(list(parts)) for name, parts in tensors}
    with quiet():
        built, report = type(model).from_pretrained(
            None,
            config=planned.config,
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
    path: str | Path,
    spec: PruneSpec,
    plan: PrunePlan,
    tokens: torch.Tensor | None,
    calibration: Blocks | None,
    text_name: str | None,
    notes: Notes,
) -> dict[str, Any]:
    used: dict[str, Any] | None = None
    if tokens is not None and calibration is not None:
        used = {"blocks": tokens.shape[0], "length": tokens.shape[1], "data_fingerprint": calibration.fingerprint}
        if text_name is not None:
            used["name"] = text_name
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
        "sparsity": None if plan.pattern is None else asdict(notes),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
