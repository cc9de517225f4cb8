"""Spec -> scores -> plan -> new model, in memory (`prune_model`) and from disk to disk (`prune`)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data import Blocks, read_blocks
from regrow.errors import InputError, RegrowError
from regrow.models.beside import PRUNE_RECORD, beside
from regrow.models.layout import EMBEDDING, block_weights, is_tied
from regrow.models.load import architecture_of, load_tokenizer, local_checkpoint, quiet
from regrow.models.masks import check_pattern
from regrow.models.save import check_output, staged_folder
from regrow.models.shards import ShardWriter
from regrow.pruning.apply import PlannedModel, planned_beside
from regrow.pruning.calibration import calibrate, choose_blocks, weights_fingerprint
from regrow.pruning.card import CARD, model_card
from regrow.pruning.estimate import check_memory, estimate_for
from regrow.pruning.kernel import Notes
from regrow.pruning.outline import outlines
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import AnyScores, Scores
from regrow.pruning.scoring import check_saveable, check_scores, decide, measure
from regrow.pruning.search import search
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream, FolderSource, batch_tokens, open_stream

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
    precision: str = "auto",
    text_name: str | None = None,
    model_name: str | None = None,
    progress: Progress | None = None,
) -> PrunePlan:
    """Prune a checkpoint folder into another: weights, config, tokenizer, a model card, and `regrow_prune.json`.

    Weights are read and written shard by shard, and text is run through one decoder block at a time. So the memory is a
    small multiple of a block plus the text's hidden states, whatever the model's size. The second line of progress is
    an estimate of it.

    Args:
        path: folder or Hub name of the model; one without tokenizer files is pruned without a tokenizer.
        spec: what to prune.
        calibration: text data as `regrow.data.read_blocks` takes them, or packed blocks of the model's own tokens; None
            if the scorer needs none or `scores` are given.
        out: folder to make; None decides the plan and writes nothing.
        plan: decided earlier on this model; nothing is measured again, except for N:M, whose masks depend on the text.
        scores: measured earlier on this model; saves the calibration pass.
        save_scores: file to write the scores to, for other rates.
        overwrite: replace `out` if it holds something.
        device: where blocks are run, e.g. `cuda`.
        precision: of the passes over text: `fp32`, `bf16`, or `auto`, which `regrow.pruning.stream.compute_types`
            explains. The record says what was taken.
        text_name: the name of the text for the record, if that is not its file, e.g. `ladder`.
        model_name: the same for the model; a name is valid on another machine, a path may not be.
        progress: called with a line of text at each step.

    Raises `InputError` for anything the user can correct: a broken checkpoint, an output folder that is taken, a spec
    that cannot be met, tokens of another vocabulary, too little free memory.
    """
    work = partial(
        _prune,
        _Asked(path, spec, plan, text_name, model_name or str(path)),
        calibration=calibration,
        scores=scores,
        save_scores=save_scores,
        device=device,
        precision=precision,
        progress=progress,
    )
    if out is None:
        return work(None)
    _check_paths(out, save_scores, overwrite)
    # from the start, so that a second process is refused before it has worked for hours
    with staged_folder(out, overwrite=overwrite) as stage:
        return work(stage)


@dataclass(frozen=True)
class _Asked:
    """The model, what is to be pruned, a plan decided earlier, and the names of text and model for the record."""

    path: str | Path
    spec: PruneSpec
    plan: PrunePlan | None
    text_name: str | None
    model_name: str


@dataclass(frozen=True)
class _Made:
    """What a record and a model card say: the model, what was asked and decided, and the text it was decided on."""

    path: str | Path
    name: str
    spec: PruneSpec
    plan: PrunePlan
    text: Blocks | None
    tokens: torch.Tensor | None
    text_name: str | None


def _prune(
    asked: _Asked,
    stage: Path | None,
    *,
    calibration: Blocks | str | None,
    scores: AnyScores | None,
    save_scores: str | Path | None,
    device: str | torch.device | None,
    precision: str,
    progress: Progress | None,
) -> PrunePlan:
    """Decide the plan, and make the pruned checkpoint in the folder `stage`; with None nothing is written."""
    spec, plan, say = asked.spec, asked.plan, progress or (lambda line: None)
    say(f"loading {asked.path}")
    folder = local_checkpoint(asked.path)
    stream = open_stream(folder, device=device, precision=precision)
    text, tokens = None, None
    if calibration is not None and spec.needs_calibration and _reads_text(spec, scores):
        text, tokens = _read_text(folder, stream, spec, calibration)
    _say_memory(stream, spec, tokens, say)
    if plan is None or plan.pattern is not None:
        plan, scores = make_plan(stream, spec, tokens, scores=scores, progress=progress)
    else:
        check_plan(plan, stream.arch)
    if save_scores is not None:
        if scores is None and spec.scores == "shared" and tokens is not None:
            scores = calibrate(stream, tokens, progress=progress)
        check_saveable(scores, spec).save(save_scores)
    if stage is not None:
        made = _Made(asked.path, asked.model_name, spec, plan, text, tokens, asked.text_name)
        _write(made, stream, stage, scores=scores, progress=progress)
    return plan


def _write(
    made: _Made, stream: BlockStream, stage: Path, *, scores: AnyScores | None, progress: Progress | None
) -> None:
    """The pruned checkpoint in the folder `stage`."""
    spec, plan, tokens, say = made.spec, made.plan, made.tokens, progress or (lambda line: None)
    assert isinstance(stream.source, FolderSource)
    checkpoint, notes = stream.source.checkpoint, Notes()
    planned = PlannedModel(stream.source, plan)
    dense = scores if isinstance(scores, Scores) else None
    with ShardWriter(stage, planned.layout) as writer:
        for name, parts in planned.tensors(stream, tokens=tokens, scores=dense, notes=notes, progress=progress):
            writer.write(name, parts)
    say("writing the config, the tokenizer and the card")
    # the scorer that was used, as defaults may change
    spec = replace(spec, search=spec.shapes_tried if tokens is not None else 1)
    record = _record(replace(made, spec=spec), notes, stream.precision)
    record["corrected"] = list(checkpoint.notes)
    card = model_card(str(made.path), spec, plan, record["calibration"], record["versions"])
    planned_beside(beside(checkpoint), plan, planned.config).write(stage)
    (stage / PRUNE_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (stage / CARD).write_text(card, encoding="utf-8")


def _check_paths(out: str | Path, save_scores: str | Path | None, overwrite: bool) -> None:
    """Raises `InputError` if the model or its scores cannot be written where they are asked for."""
    check_output(out, overwrite=overwrite)
    if save_scores is not None and Path(save_scores).resolve().is_relative_to(Path(out).resolve()):
        raise InputError(
            "the scores would lie in the folder of the model, which is written whole",
            where=str(save_scores),
            hint="give a file beside it",
        )


def _read_text(
    folder: Path, stream: BlockStream, spec: PruneSpec, calibration: Blocks | str
) -> tuple[Blocks, torch.Tensor]:
    """The calibration text in blocks, and the tokens [samples, length] that are used of it."""
    # never beyond the positions that the model knows
    longest = getattr(stream.config, "max_position_embeddings", None) or spec.calibration_length
    length = min(spec.calibration_length, longest)
    if isinstance(calibration, str):
        calibration = read_blocks(calibration, load_tokenizer(folder), sequence_length=length)
    return calibration, choose_blocks(calibration, count=spec.calibration_blocks, length=length, seed=spec.seed)


def _reads_text(spec: PruneSpec, scores: AnyScores | None) -> bool:
    """Whether calibration text is read: stored scores may replace it."""
    return scores is None or spec.shapes_tried > 1 or spec.refits


def _say_memory(stream: BlockStream, spec: PruneSpec, tokens: torch.Tensor | None, say: Progress) -> None:
    """Report the memory that pruning needs. Raises `InputError` if less is free."""
    samples, length = (0, 0) if tokens is None else tokens.shape
    needed = estimate_for(
        stream.arch,
        spec,
        samples=samples,
        length=length,
        compute_bytes=stream.dtype.itemsize,
        stored_bytes=stream.source.layout[EMBEDDING].element_size(),
        at_once=batch_tokens(stream.device),
    )
    say(needed.line())
    check_memory(needed, stream.device)


def prune_model(
    model: PreTrainedModel,
    spec: PruneSpec,
    calibration: torch.Tensor | None,
    *,
    scores: AnyScores | None = None,
    precision: str = "auto",
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, PrunePlan]:
    """Prune a model in memory. The given model is left as it is; the new one owns its weights and is in eval mode.

    Args:
        model: of a supported family.
        spec: what to prune.
        calibration: tokens [blocks, length] for scorers that need them; may be None if `scores` are given.
        scores: measured earlier on this model.
        precision: of the passes over text; see `prune`.
        progress: called with a line of text at each step.

    Raises `InputError` if the spec cannot be met on this model.
    """
    stream = open_stream(model, precision=precision)
    plan, scores = make_plan(stream, spec, calibration, scores=scores, progress=progress)
    dense = scores if isinstance(scores, Scores) else None
    return apply_plan(model, plan, dense, calibration, precision=precision, progress=progress), plan


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
    if spec.memory is not None:
        spec = replace(spec, memory=spec.memory.for_config(stream.config.to_dict()))
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
    precision: str = "auto",
    progress: Progress | None = None,
) -> PreTrainedModel:
    """The pruned model that a decided plan describes: new, with weights of its own, and in eval mode.

    It is a fresh model of the same class, so that transformers itself sets every index, mask and buffer.

    Args:
        model: what is pruned; it is left as it is.
        plan: decided on this model.
        scores: shared scores in the place of `tokens`, for N:M scorers that go by them.
        tokens: calibration tokens [samples, length], for scorers that read text while the plan is carried out.
        precision: of the passes over text; see `prune`.
        progress: called with a line of text at each step.

    Raises `InputError` if tokens are lacking, `RegrowError` if the model does not come out as planned.
    """
    stream = open_stream(model, precision=precision)
    planned = PlannedModel(stream.source, plan)
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
    pruned = built.to(model.device).eval()
    _verify(pruned, plan)
    return pruned


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


def _record(made: _Made, notes: Notes, precision: str) -> dict[str, Any]:
    plan, used = made.plan, None
    if made.tokens is not None and made.text is not None:
        samples, length = made.tokens.shape
        used = {"blocks": samples, "length": length, "data_fingerprint": made.text.fingerprint}
        used["precision"] = precision
        if made.text_name is not None:
            used["name"] = made.text_name
        if made.text.table is not None:
            # file names without folders, which are those of this machine
            used["files"] = [Path(file).name for file in made.text.table.files]
    return {
        "model": made.name,
        "params_before": plan.params_before,
        "params_after": plan.params_after,
        "pruning_rate": plan.pruning_rate,
        "spec": made.spec.to_dict(),
        "plan": plan.to_dict(),
        "calibration": used,
        "sparsity": None if plan.pattern is None else asdict(notes),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
