"""The held-out loss before and after pruning, written beside the pruned model with what a law expects of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from regrow.data import Blocks, read_blocks
from regrow.disk import write_json, write_text
from regrow.evaluation import evaluate
from regrow.laws import Law, Setting, load_laws, select_law
from regrow.laws.files import REFERENCE_NAME
from regrow.methods import DEPTH_AND_WIDTH
from regrow.models.beside import PRUNE_RECORD
from regrow.models.load import load_model, load_tokenizer, read_config
from regrow.planning.damage import Damage, expected_damage
from regrow.planning.recipe import recipe_columns
from regrow.pruning.card import CARD, measured_card
from regrow.pruning.plan import read_plan

#: context at which held-out text is read, tokens: that of `regrow eval`
CONTEXT = 512


def measure_pruned(
    model: str | Path,
    pruned: str | Path,
    held_out: Blocks | str,
    *,
    law: Law | str | Path = REFERENCE_NAME,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Damage:
    """What pruning cost at once, and when a law expects half of it back.

    The answer is written into the pruned model's record and card. Both models are loaded whole, one after the other,
    and read in fp32.

    Args:
        model: the folder that was pruned.
        pruned: the folder that `regrow.prune` made of it.
        held_out: text data as `regrow.data.read_blocks` takes them, read at a context of 512 tokens (or the
            model's, if that is shorter), or packed blocks of the model's own tokens.
        law: a `Law`, a law file, or `reference`, the law that the package ships.
        device: where both models are run, e.g. `cuda`.
        progress: called with the tokens read since the last call; both models read all of them.

    Raises `InputError` for a folder without a pruning record, text or a law that can't be read, blocks of another
    vocabulary, or a law of another method.
    """
    made = _what_was_done(Path(pruned) / PRUNE_RECORD)
    expected = law if isinstance(law, Law) else law_of_method(law, made.method)
    blocks = held_out
    if isinstance(blocks, str):
        config, _ = read_config(pruned)
        longest = getattr(config, "max_position_embeddings", None) or CONTEXT
        blocks = read_blocks(blocks, load_tokenizer(pruned), sequence_length=min(CONTEXT, longest))
    before, after = (_loss(folder, blocks, device, progress) for folder in (model, pruned))
    setting = Setting(
        params_before=made.params_before,
        pruning_rate=made.pruning_rate,
        loss_before=before,
        loss_pruned=after,
        **recipe_columns(scorer=made.scorer),
    )
    damage = expected_damage(expected, setting)
    _write_damage(Path(pruned), damage, blocks, expected)
    return damage


class _Made(NamedTuple):
    method: str
    scorer: str
    params_before: float
    pruning_rate: float


def _what_was_done(record: Path) -> _Made:
    """How a model was pruned, by the record beside it. Raises `InputError` for a record that can't be read."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    plan = content.get("plan") if isinstance(content, dict) else None
    if isinstance(plan, dict) and plan.get("method") == DEPTH_AND_WIDTH:
        # the scorer of its last step: neither step solves weights again
        return _Made(
            DEPTH_AND_WIDTH, plan["steps"][-1]["scorer"], float(plan["params_before"]), float(plan["pruning_rate"])
        )
    one = read_plan(record)
    return _Made(one.method, one.scorer, float(one.params_before), one.pruning_rate)


def law_of_method(law: str | Path, method: str) -> Law:
    """The file's law of this method, or that over its methods where it has no run of this one.

    Raises `InputError` for a file whose laws say nothing of the method.
    """
    return select_law(load_laws(law), method=method)


def _write_damage(folder: Path, damage: Damage, blocks: Blocks, law: Law) -> None:
    """Add the losses to the pruned model's record and to its card, each written whole."""
    record, card = folder / PRUNE_RECORD, folder / CARD
    how = {"blocks": len(blocks), "sequence_length": blocks.sequence_length, "fingerprint": blocks.fingerprint}
    write_json(record, {**json.loads(record.read_text()), "held_out": {**damage.to_dict(), **how, "law": law.family}})
    cost = (
        f"Held-out loss: {damage.loss_before:.4f} nats/token before pruning, "
        f"{damage.loss_pruned:.4f} right after it ({blocks.n_tokens:,} tokens, {blocks.sequence_length} of context). "
        f"By the law of the family {law.family}: {damage.sentence()}."
        f"{f' {damage.note[:1].upper()}{damage.note[1:]}.' if damage.note else ''}"
    )
    write_text(card, measured_card(card.read_text(), cost))


def _loss(folder: str | Path, blocks: Blocks, device: str, progress: Callable[[int], None] | None) -> float:
    network = load_model(folder, dtype=torch.float32, device=device)
    try:
        return evaluate(network, blocks, progress=progress).loss
    finally:
        del network
