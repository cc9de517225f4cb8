"""The held-out loss before and after pruning, written beside the pruned model with what a law expects of it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from regrow.data import Blocks
from regrow.disk import write_json, write_text
from regrow.evaluation import evaluate
from regrow.laws import Law, Setting
from regrow.models.beside import PRUNE_RECORD
from regrow.models.load import load_model
from regrow.planning.damage import Damage, expected_damage
from regrow.pruning.card import CARD, measured_card
from regrow.pruning.plan import PrunePlan


def measure_damage(
    model: str | Path, pruned: str | Path, blocks: Blocks, plan: PrunePlan, law: Law, *, device: str = "cpu"
) -> Damage:
    """Read both models' losses on `blocks` in fp32, and ask the law when half of the difference is back.

    Raises `InputError` for a model that cannot be loaded, or blocks of another vocabulary.
    """
    before, after = (_loss(folder, blocks, device) for folder in (model, pruned))
    setting = Setting(
        params_before=float(plan.params_before),
        pruning_rate=plan.pruning_rate,
        loss_before=before,
        loss_pruned=after,
    )
    return expected_damage(law, setting)


def write_damage(folder: str | Path, damage: Damage, blocks: Blocks, law: Law) -> None:
    """Add the losses to the pruned model's record and to its card, each written whole."""
    record, card = Path(folder) / PRUNE_RECORD, Path(folder) / CARD
    how = {"blocks": len(blocks), "sequence_length": blocks.sequence_length, "fingerprint": blocks.fingerprint}
    write_json(record, {**json.loads(record.read_text()), "held_out": {**damage.to_dict(), **how, "law": law.family}})
    cost = (
        f"Held-out loss: {damage.loss_before:.4f} nats/token before pruning, "
        f"{damage.loss_pruned:.4f} right after it ({blocks.n_tokens:,} tokens, {blocks.sequence_length} of context). "
        f"By the law of the family {law.family}: {damage.sentence()}."
    )
    write_text(card, measured_card(card.read_text(), cost))


def _loss(folder: str | Path, blocks: Blocks, device: str) -> float:
    network = load_model(folder, dtype=torch.float32, device=device)
    try:
        return evaluate(network, blocks).loss
    finally:
        del network
