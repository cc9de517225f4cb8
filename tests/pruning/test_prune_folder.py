"""From a checkpoint folder to a pruned one."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import logits, make, tokens
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.models import architecture_of, check_pattern, load_model, save_checkpoint
from regrow.models.beside import PRUNE_RECORD
from regrow.models.layout import block_weights
from regrow.pruning import PrunePlan, PruneSpec, choose_blocks, outline
from regrow.pruning.plan import spec_of
from regrow.pruning.prune import prune, prune_model
from regrow.pruning.scores import load_scores
from regrow.pruning.stream import BlockStream


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
    assert PruneSpec.from_dict(record["spec"]) == replace(spec, search=spec.shapes_tried)  # what was done
    # a model this narrow is rounded alike on every CPU
    assert record["calibration"] == {"blocks": 12, "length": 24, "data_fingerprint": "f00d", "precision": "fp32"}
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


def test_the_record_and_the_card_say_the_precision(model_folder, text, tmp_path):
    weights = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        prune(model_folder, PruneSpec(method="2:4"), calibration=text, out=out, precision=precision)
        assert json.loads((out / PRUNE_RECORD).read_text())["calibration"]["precision"] == precision
        card = (out / "README.md").read_text()
        assert f"--precision {precision} " in card
        assert f"matrix products in {precision}." in card
        weights[precision] = torch.cat([weight.flatten() for weight in load_model(out).state_dict().values()])
    # another rounding of the inputs moves weights a little, and few of them between kept and removed
    fp32, bf16 = weights.values()
    assert 0 < (fp32 - bf16).norm() < 0.3 * fp32.norm()
    assert ((fp32 == 0) != (bf16 == 0)).float().mean() < 0.1
    with pytest.raises(InputError, match="unknown precision 'half'"):
        prune(model_folder, PruneSpec(method="2:4"), calibration=text, out=tmp_path / "no", precision="half")
    assert not (tmp_path / "no").exists()


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


def test_sparse_masks_follow_the_text_or_stored_scores_and_the_record_says_which(model_folder, text, tmp_path):
    """With text the inputs are those of pruned layers; scores alone know the dense model's."""
    spec = PruneSpec(method="2:4", scorer="wanda")
    prune(model_folder, spec, calibration=text, out=tmp_path / "text", save_scores=tmp_path / "scores")
    scores = load_scores(tmp_path / "scores")
    prune(model_folder, spec, calibration=None, out=tmp_path / "scored", scores=scores)
    prune(model_folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "magnitude")
    inputs = [
        json.loads((tmp_path / n / PRUNE_RECORD).read_text())["sparsity"] for n in ("text", "scored", "magnitude")
    ]
    assert [one["inputs"] for one in inputs] == ["propagated", "dense", None]
    first, second = (load_model(tmp_path / name) for name in ("text", "scored"))
    assert not torch.equal(logits(first, tokens()), logits(second, tokens()))


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(method="depth", rate=0.2),
        PruneSpec(method="width", rate=0.25),
        PruneSpec(method="width", rate=0.25, scorer="least-squares", axes=("intermediate",)),
        PruneSpec(method="2:4", scorer="wanda"),
        PruneSpec(method="2:4", scorer="sparsegpt"),
    ],
    ids=lambda spec: f"{spec.method}-{spec.scorer}",
)
def test_disk_and_memory_are_one_path(model_folder, text, spec, tmp_path):
    prune(model_folder, spec, calibration=text, out=tmp_path / "out")
    ids = choose_blocks(text, count=32, length=512, seed=0)
    in_memory, _ = prune_model(load_model(model_folder), spec, ids)
    assert torch.equal(logits(load_model(tmp_path / "out"), ids), logits(in_memory, ids))


def test_sharded_checkpoints_are_pruned(model_folder, text, tmp_path):
    sharded = tmp_path / "sharded"
    load_model(model_folder).save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    spec = PruneSpec(method="2:4", scorer="sparsegpt")
    for folder in (model_folder, sharded):
        prune(folder, spec, calibration=text, out=tmp_path / f"out-{folder.name}")
    one, other = (load_model(tmp_path / f"out-{folder.name}") for folder in (model_folder, sharded))
    assert torch.equal(logits(one, tokens()), logits(other, tokens()))


def test_the_model_is_never_loaded_whole(model_folder, text, tmp_path, monkeypatch):
    """Counted while disk-to-disk pruning runs: no more than one decoder block has numbers at any time."""
    alive, most = weakref.WeakSet(), [0]
    real = BlockStream.block

    def counted(self, layer):
        block = real(self, layer)
        gc.collect()
        alive.add(block)
        most[0] = max(most[0], sum(not one.mlp.up_proj.weight.is_meta for one in alive))
        return block

    monkeypatch.setattr(BlockStream, "block", counted)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    for spec in (
        PruneSpec(method="2:4", scorer="sparsegpt"),
        PruneSpec(method="depth", rate=0.2),
        PruneSpec(method="width", rate=0.25),
    ):
        prune(model_folder, spec, calibration=text, out=tmp_path / spec.method.replace(":", ""))
    assert most == [1]


def test_scores_inside_the_output_are_refused_before_the_work(model_folder, text, tmp_path):
    with pytest.raises(InputError, match="written whole"):
        prune(
            model_folder,
            PruneSpec(method="depth", rate=0.2),
            calibration=text,
            out=tmp_path / "out",
            save_scores=tmp_path / "out" / "scores.safetensors",
        )
    assert not (tmp_path / "out").exists()


def test_text_never_runs_beyond_the_models_positions(tmp_path):
    model = make("llama-tied")
    model.config.max_position_embeddings = 16
    folder = save_checkpoint(model, None, tmp_path / "short")
    blocks = Blocks(tokens=tokens(4, 64).int().numpy(), documents=1, fingerprint="f00d")
    prune(folder, PruneSpec(method="2:4"), calibration=blocks, out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / PRUNE_RECORD).read_text())
    assert (record["calibration"]["blocks"], record["calibration"]["length"]) == (4, 16)


def test_files_in_a_containers_cache_are_not_in_the_way(tmp_path, monkeypatch):
    from regrow.models import memory

    for name, text in (
        ("memory.max", f"{10**9}\n"),
        ("memory.current", f"{9 * 10**8}\n"),
        ("memory.stat", f"anon {10**8}\ninactive_file {6 * 10**8}\nactive_file {2 * 10**8}\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.free_memory(torch.device("cpu")) == 9 * 10**8


def test_the_estimate_comes_first_and_is_refused_when_it_cannot_fit(model_folder, text, tmp_path, monkeypatch):
    lines = []
    prune(model_folder, PruneSpec(method="2:4"), calibration=text, out=tmp_path / "out", progress=lines.append)
    assert lines[1].startswith("memory: about 0.0")
    monkeypatch.setattr("regrow.pruning.estimate.free_memory", lambda device: 1000)
    with pytest.raises(InputError, match=r"pruning needs 0\.0 GB of memory, 0\.0 GB are free"):
        prune(model_folder, PruneSpec(method="2:4"), calibration=text, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
