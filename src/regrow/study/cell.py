"""One cell of a study, start to end: load, measure, prune, post-train. Runs in a worker process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from regrow.data import Blocks, read_blocks
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus, find_model
from regrow.methods import is_masked
from regrow.models.load import count_params, load_model, load_tokenizer
from regrow.models.masks import zero_masks
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.prune import prune_model
from regrow.runs import RunRecord
from regrow.study.spec import Cell
from regrow.training.run import train_model


@lru_cache(maxsize=4)
def blocks_of(data: str, tokenizer_folder: str, sequence_length: int, limit: int | None = None) -> Blocks:
    """Packed blocks of a text, tokenised once per process; the first `limit` of a fixed shuffle, or all."""
    blocks = read_blocks(data, load_tokenizer(tokenizer_folder), sequence_length=sequence_length)
    return blocks if limit is None else blocks.sample(limit, seed=0)


def run_cell(cell: Cell, out: Path) -> RunRecord:
    """Run a cell into the folder `out`, going on from its last checkpoint if it has one."""
    folder = find_model(cell.model)
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    length = cell.train.sequence_length
    train = blocks_of(find_corpus(cell.data, "post_train"), folder, length)
    held_out = blocks_of(find_corpus(cell.held_out, "held_out"), folder, length, cell.train.held_out_blocks)
    before, loss_before = count_params(model), evaluate(model, held_out).loss
    after, rate, masks = before, 0.0, {}
    if cell.prune is not None:
        asked = cell.prune
        calibration = choose_blocks(
            train, count=asked.calibration_blocks, length=asked.calibration_length, seed=asked.seed
        )
        model, plan = prune_model(model, cell.prune, calibration)
        after, rate = plan.params_after, plan.pruning_rate
        masks = zero_masks(model) if is_masked(cell.method) else {}
    record = RunRecord(
        run=cell.name,
        family=cell.family,
        method=cell.method,
        params_before=before,
        params_after=after,
        pruning_rate=rate,
        loss_before=loss_before,
        spec=cell.spec,
        seed=cell.train.seed,
        objective="cross-entropy",
        schedule=cell.train.schedule,
        details={"model": cell.model},
    )
    return train_model(
        model,
        spec=cell.train,
        record=record,
        train=train,
        held_out=held_out,
        out=out,
        masks=masks,
        tokenizer=tokenizer,
        resume=True,
    )
