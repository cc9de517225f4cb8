"""The shipped models: whole, loadable by plain transformers, trained, small enough to ship; and how they are made."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from regrow.arch import Architecture
from regrow.data import tokenize
from regrow.evaluation import evaluate
from regrow.ladder import ASSETS, LLAMA, QWEN2, RUNGS, family_rungs, find_model
from regrow.ladder.assets import file_sha256
from regrow.ladder.build import build_ladder
from regrow.ladder.pretrain import split_blocks
from regrow.ladder.recipe import PRETRAINING, Pretraining
from regrow.ladder.tokenizer import family_tokenizer


@pytest.mark.parametrize(("family", "sizes", "span"), [(LLAMA, 4, 10), (QWEN2, 3, 5)])
def test_a_family_spans_many_times_in_sizes_of_eight_blocks_or_more(family, sizes, span):
    shapes = [Architecture.from_pretrained(find_model(rung.name)) for rung in family_rungs(family)]
    assert len(shapes) == sizes
    assert shapes[-1].params / shapes[0].params > span
    assert [shape.params for shape in shapes] == sorted(shape.params for shape in shapes)
    assert all(shape.layers >= 8 for shape in shapes)
    assert all(shape.kv_heads < shape.heads for shape in shapes)


def test_depth_rates_near_a_sixth_a_quarter_and_a_third_exist_at_every_size():
    for rung in RUNGS:
        shape = Architecture.from_pretrained(find_model(rung.name))
        rates = [k * shape.block_params / shape.params for k in range(1, shape.layers)]
        for wanted in (1 / 6, 1 / 4, 1 / 3):
            assert min(abs(rate - wanted) for rate in rates) < 0.04


@functools.cache
def first_blocks(family):
    """The first 32 blocks of the held-out split, which a few of its documents fill."""
    import pandas as pd

    texts = pd.read_parquet(ASSETS / "corpus" / "held_out.parquet", columns=["text"])["text"]
    blocks = tokenize(texts.iloc[:20].tolist(), family_tokenizer(family, ASSETS / "tokenizer"), sequence_length=256)
    assert len(blocks) >= 32
    return replace(blocks, tokens=blocks.tokens[:32])


@pytest.mark.parametrize("rung", RUNGS, ids=lambda r: r.name)
def test_models_load_plainly_and_are_as_good_as_recorded(rung):
    folder = find_model(rung.name)
    record = json.loads((Path(folder) / "training.json").read_text())
    assert file_sha256(Path(folder) / "model.safetensors") == record["weights_sha256"]
    assert record["family"] == rung.family
    assert record["train_tokens"] == PRETRAINING[rung.family].tokens
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert sum(p.numel() for p in model.parameters()) == record["params"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size == 2048
    # the recorded loss is of the first 256 blocks, of the weights before they were rounded to bf16
    loss = evaluate(model.float(), first_blocks(rung.family)).loss
    assert loss == pytest.approx(record["held_out_loss"], abs=0.25)
    assert loss < 4.0


@pytest.mark.parametrize("rung", family_rungs(QWEN2), ids=lambda r: r.name)
def test_qwens_have_biases_where_qwens_have_them(rung):
    model = AutoModelForCausalLM.from_pretrained(find_model(rung.name))
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert model.config.tie_word_embeddings
    biased = {name.split(".")[-2] for name, _ in model.named_parameters() if name.endswith(".bias")}
    assert biased == {"q_proj", "k_proj", "v_proj"}
    assert all(p.abs().max() > 0 for name, p in model.named_parameters() if name.endswith(".bias"))


def test_a_path_is_no_name_of_the_ladder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for path in (f"{tmp_path}/", f"{tmp_path}/.", str(tmp_path), "../models/tiny-llama-0.2m"):
        assert find_model(path) == path


def test_the_package_stays_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 25_000_000


def test_the_tokenizer_gives_back_what_it_took():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tokenizer")
    text = "Grüße, SELECT * FROM t;\n\tindent  two spaces"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer.eos_token == tokenizer.decode([0])


@pytest.mark.parametrize("family", [LLAMA, QWEN2])
def test_a_model_is_made_by_the_documented_path(family, tmp_path, monkeypatch):
    import pandas as pd

    from regrow.ladder import build as module
    from regrow.ladder import recipe
    from regrow.ladder.tokenizer import train_tokenizer

    small = replace(RUNGS[0], family=family, hidden=16, layers=1, heads=2, kv_heads=1, head_dim=8, intermediate=32)
    monkeypatch.setattr(module, "rung", lambda name: small)
    (tmp_path / "corpus").mkdir()
    rows = pd.read_parquet(ASSETS / "corpus" / "held_out.parquet").iloc[:12]
    train_tokenizer(rows["text"].tolist(), tmp_path / "tokenizer")
    rows["text"] = rows["text"].str.slice(0, 2000)  # the held-out loss is read ten times
    for split in ("train", "held_out"):
        rows.to_parquet(tmp_path / "corpus" / f"{split}.parquet")
    steps = []
    fast = Pretraining(tokens=12 * 2 * 256, batch_blocks=2)
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute, and moves no number of interest
        build_ladder(tmp_path, only=[small.name], keep_corpus=True, recipe=fast, say=steps.append)
    record = json.loads((tmp_path / "models" / small.name / "training.json").read_text())
    assert record["train_tokens"] == 12 * 2 * 256
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / small.name, dtype=torch.float32)
    assert model.config.model_type == family.removeprefix("tiny-")
    # beside a Qwen-2 transformers takes Qwen's own class: a finished model must be read as it was trained
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "models" / small.name)
    assert len(tokenizer) == 2048
    blocks = tokenize(rows["text"].tolist(), tokenizer, sequence_length=256)
    assert blocks.fingerprint == split_blocks("held_out", tmp_path, family=family).fingerprint
    assert evaluate(model, blocks).loss < 7.6  # a guess is ln 2048 = 7.62
    assert not (tmp_path / "models" / f"{small.name}.work").exists()
    for how in PRETRAINING.values():
        assert how.steps * how.batch_blocks * recipe.SEQUENCE_LENGTH == how.tokens
