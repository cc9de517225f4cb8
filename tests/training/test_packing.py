"""Isolated documents: a packed block gives each document what it would get alone."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from regrow.data import BlockOrder, pack
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.models.load import load_model
from regrow.runs import read_run
from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.trainer import OrderedBlocks, collate

LENGTH = 64


@pytest.fixture(scope="module")
def blocks():
    rng = np.random.default_rng(0)
    return pack([rng.integers(1, 2048, n).tolist() for n in (20, 9, 0, 70, 31, 90, 40)], eos=0, sequence_length=LENGTH)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_held_out_loss_against_a_forward_pass_per_document(tiny_model, blocks, attention):
    """The other route: every document's part of a block by itself, and the tokens at documents' starts from the one
    before, as `evaluate` says."""
    model = load_model(tiny_model, dtype=torch.float32).eval()
    model.set_attn_implementation(attention)
    total, count = 0.0, 0
    for b in range(len(blocks)):
        ids = torch.from_numpy(blocks.tokens[b]).long()
        starts = [*np.flatnonzero(blocks.position_ids(b)[0] == 0).tolist(), LENGTH]
        assert len(starts) > 2
        logits = [model(input_ids=ids[i:j][None]).logits[0] for i, j in pairwise(starts)]
        log_p = torch.cat(logits).double().log_softmax(-1)
        total -= log_p[:-1].gather(1, ids[1:, None]).sum().item()
        count += LENGTH - 1
    found = evaluate(model, blocks, batch_size=3, isolated=True)
    assert found.tokens == count
    assert found.loss == pytest.approx(total / count, abs=1e-6)
    assert abs(evaluate(model, blocks).loss - found.loss) > 1e-6  # across documents it is another number


def test_a_batch_holds_the_positions_of_its_blocks(blocks):
    order = BlockOrder(blocks=len(blocks), seed=0)
    plain = collate([OrderedBlocks(blocks, order, 4)[i] for i in range(2)])
    assert set(plain) == {"input_ids"}
    isolated = collate([OrderedBlocks(blocks, order, 4, isolated=True)[i] for i in range(2)])
    assert torch.equal(isolated["input_ids"], plain["input_ids"])
    assert isolated["position_ids"].tolist() == blocks.position_ids([order[0], order[1]]).tolist()


def test_a_run_trains_and_reads_isolated(tiny_model, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": f"{i} is the number of this row. "}) + "\n" for i in range(400)))
    runs = {
        packing: post_train(
            str(tiny_model),
            data=str(data),
            out=tmp_path / packing,
            spec=TrainSpec(
                tokens=1024,
                batch_tokens=256,
                sequence_length=LENGTH,
                held_out_blocks=4,
                packing=packing,
                eval_at=(1024,),
                precision="fp32",
                learning_rate=1e-3,
            ),
        )
        for packing in ("cross", "isolated")
    }
    assert runs["isolated"].spec["train"]["packing"] == "isolated"
    assert "packing" not in runs["cross"].spec["train"]  # runs made before the choice keep their names
    assert runs["isolated"].loss_before != runs["cross"].loss_before
    assert runs["isolated"].curve[0].loss == pytest.approx(runs["isolated"].loss_before, abs=1e-6)
    assert runs["isolated"].curve[-1].loss != runs["cross"].curve[-1].loss
    assert runs["isolated"].curve[-1].loss < runs["isolated"].loss_before


def test_a_run_that_repeats_its_data_says_so(tiny_model, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": f"{i} is the number of this row. "}) + "\n" for i in range(30)))
    spec = TrainSpec(tokens=2048, batch_tokens=512, sequence_length=LENGTH, held_out_blocks=1, eval_at=(2048,))
    ask = {"data": str(data), "held_out": str(data), "out": tmp_path / "run"}
    with pytest.warns(UserWarning, match="the run repeats its data: 2,048 tokens are"):
        post_train(str(tiny_model), spec=spec, **ask)
    details = read_run(tmp_path / "run").details
    assert details["epochs"] > 1
    assert details["unique_tokens"] < 2048
    assert details["repetition"].startswith("the run repeats its data")


def test_flash_and_isolated_do_not_go_together():
    with pytest.raises(InputError, match="isolated documents with flash attention"):
        TrainSpec(tokens=1024, attention="flash", packing="isolated")
    with pytest.raises(InputError, match="did you mean 'isolated'"):
        TrainSpec(tokens=1024, packing="isolate")
