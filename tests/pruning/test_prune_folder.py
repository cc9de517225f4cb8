"""From a checkpoint folder to a pruned one."""

import json

import numpy as np
import pytest
import torch
from tiny_models import logits, make, tokens
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.models import architecture_of, check_pattern, load_model, save_checkpoint
from regrow.models.layout import block_weights
from regrow.models.save import PRUNE_RECORD
from regrow.pruning import PrunePlan, PruneSpec, outline
from regrow.pruning.plan import spec_of
from regrow.pruning.prune import prune
from regrow.pruning.scoring import load_scores


@pytest.fixture
def model_folder(tmp_path):
    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<eos>": 0, "a": 1}, unk_token="<eos>")), eos_token="<eos>"
    )
    return save_checkpoint(make("qwen2", dtype=torch.bfloat16), words, tmp_path / "model")


@pytest.fixture
def text():
    return Blocks(tokens=tokens(12, 24).int().numpy(), documents=3, fingerprint="f00d")


@pytest.mark.parametrize(
    "spec",
    [PruneSpec(method="depth", rate=0.2), PruneSpec(method="width", rate=0.25), PruneSpec(method="2:4")],
    ids=lambda spec: spec.method,
)
def test_folder_to_folder(model_folder, text, spec, tmp_path):
    lines = []
    plan = prune(model_folder, spec, calibration=text, out=tmp_path / "out", progress=lines.append)
    record = json.loads((tmp_path / "out" / PRUNE_RECORD).read_text())
    assert PrunePlan.from_dict(record["plan"]) == plan
    assert PruneSpec.from_dict(record["spec"]) == spec
    assert record["calibration"] == {"blocks": 12, "length": 24, "data_fingerprint": "f00d"}
    assert (record["params_before"], record["params_after"]) == (plan.params_before, plan.params_after)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert model.dtype == torch.bfloat16
    assert torch.equal(logits(model, tokens()), logits(load_model(tmp_path / "out"), tokens()))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<eos>"
    assert lines[0].startswith("loading")
    if plan.pattern:
        assert all(check_pattern(weight, 2, 4) for weight in block_weights(model).values())
    before, after = ((folder / "model.safetensors").stat().st_size for folder in (model_folder, tmp_path / "out"))
    assert after <= before


def test_bad_output_fails_before_the_work(model_folder, text, tmp_path):
    (tmp_path / "file").write_text("")
    lines = []
    for out in (model_folder, tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError):
            prune(model_folder, PruneSpec(method="2:4"), calibration=text, out=out, progress=lines.append)
    assert not lines


def test_tokens_of_another_tokenizer_are_noticed(model_folder, tmp_path):
    foreign = Blocks(tokens=np.full((2, 8), 999, dtype=np.int32), documents=1, fingerprint="x")
    with pytest.raises(InputError, match="vocabulary"):
        prune(model_folder, PruneSpec(method="2:4"), calibration=foreign, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(method="depth", rate=0.2, scorer="perplexity", iterative=True),
        PruneSpec(method="width", params=20_000),
        PruneSpec(method="2:4"),
    ],
    ids=lambda spec: spec.method,
)
def test_a_plan_made_first_gives_the_same_model(model_folder, text, spec, tmp_path):
    planned = prune(model_folder, spec, calibration=text, out=None, save_scores=tmp_path / "scores")
    assert planned.decided
    assert not (tmp_path / "out").exists()
    direct = prune(model_folder, spec, calibration=text, out=tmp_path / "direct")
    scores = load_scores(tmp_path / "scores")
    again = spec_of(planned)
    by_plan = prune(model_folder, again, calibration=None, out=tmp_path / "out", plan=planned, scores=scores)
    assert direct == by_plan == planned
    first, second = (load_model(tmp_path / name) for name in ("direct", "out"))
    assert torch.equal(logits(first, tokens()), logits(second, tokens()))


def test_a_plan_must_be_decided_and_of_this_model(model_folder, tmp_path):
    spec = PruneSpec(method="depth", rate=0.2)
    outlined = outline(architecture_of(load_model(model_folder)), spec)
    other = outline(outlined.before.with_shape(vocab=99), spec)
    for plan, says in ((outlined, "does not say what goes"), (other, "another shape")):
        with pytest.raises(InputError, match=says):
            prune(model_folder, spec, calibration=None, out=tmp_path / "out", plan=plan)


def test_scorers_that_measure_nothing_have_nothing_to_save(model_folder, tmp_path):
    for spec in (PruneSpec(method="2:4", scorer="magnitude"), PruneSpec(method="depth", rate=0.2, scorer="random")):
        with pytest.raises(InputError, match="measures nothing to save"):
            prune(model_folder, spec, calibration=None, out=None, save_scores=tmp_path / "scores")
