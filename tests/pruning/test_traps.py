"""Where pruned models of this kind break: each trap from a folder to a folder, read back by plain transformers."""

import json

import pytest
import torch
from tiny_models import COMMON, FAMILIES, logits, tokens
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.models import architecture_of, count_params, save_checkpoint
from regrow.models.beside import PRUNE_RECORD
from regrow.models.layout import is_tied
from regrow.pruning import PruneSpec
from regrow.pruning.prune import prune

TEXT = Blocks(tokens=tokens(6, 24).int().numpy(), documents=3, fingerprint="f00d")

#: Qwen2.5-0.5B's attention at a sixteenth of its width: 14 query heads on 2 KV heads, biases on q, k and v.
QWEN = {
    **COMMON,
    "hidden_size": 56,
    "intermediate_size": 304,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}


def random_model(model):
    """Every parameter random, so that a slip in any one shows in the logits."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
    return model.eval()


def pruned(model, spec, tmp_path):
    """The model pruned from folder to folder, as plain transformers reads it, and its plan."""
    folder = save_checkpoint(random_model(model), None, tmp_path / "model")
    plan = prune(folder, spec, calibration=TEXT, out=tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True).eval()
    assert architecture_of(again) == plan.after
    assert count_params(again) == plan.params_after
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("model", "out")]
    assert sizes[1] <= sizes[0]
    return again, plan


def assert_cached_generation_is_the_same(model, *, length=20, new=12):
    """Token by token, the cache's logits are those of the whole text run at once; windows of 8 are left behind."""
    ids = tokens(2, length, seed=1)
    said = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        use_cache=True,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    whole = logits(model, said.sequences)[:, length - 1 : -1]
    torch.testing.assert_close(torch.stack(said.logits, 1), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(method="width", rate=0.35),
        PruneSpec(method="width", rate=0.35, axes=("hidden", "intermediate", "kv_heads")),
        PruneSpec(method="width", shape={"kv_heads": 1, "hidden": 40}),
        PruneSpec(method="depth", rate=0.35),
    ],
    ids=["rate", "all-axes", "one-kv-head", "depth"],
)
def test_fourteen_query_heads_on_two_kv_heads(spec, tied, tmp_path):
    model = Qwen2ForCausalLM(Qwen2Config(**QWEN, tie_word_embeddings=tied))
    again, plan = pruned(model, spec, tmp_path)
    assert is_tied(again) == tied
    # groups stay whole, and the head's width never follows from a narrower hidden size
    assert plan.after.heads == 7 * plan.after.kv_heads
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("head_dim", 4) == 4
    assert again.model.layers[0].self_attn.q_proj.bias.shape == (4 * plan.after.heads,)
    if spec.rate is not None and spec.method == "width":
        assert abs(plan.pruning_rate - 0.35) <= 0.005
    assert_cached_generation_is_the_same(again)


def test_query_heads_go_with_their_kv_head(tmp_path):
    model = random_model(Qwen2ForCausalLM(Qwen2Config(**QWEN, tie_word_embeddings=True)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder = save_checkpoint(model, None, tmp_path / "model")
    spec = PruneSpec(method="width", shape={"kv_heads": 1})
    plan = prune(folder, spec, calibration=TEXT, out=tmp_path / "out")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for layer, (kept,) in enumerate(plan.kept_kv_heads):
        attention = f"model.layers.{layer}.self_attn."
        for name, width in (("q_proj.weight", 28), ("q_proj.bias", 28), ("k_proj.weight", 4), ("v_proj.bias", 4)):
            rows = before[attention + name][kept * width : (kept + 1) * width]
            assert torch.equal(after[attention + name], rows)
        columns = before[attention + "o_proj.weight"][:, kept * 28 : (kept + 1) * 28]
        assert torch.equal(after[attention + "o_proj.weight"], columns)


@pytest.mark.parametrize("dropped", [(0,), (3,), (0, 2)])
def test_qwen3_windows_stay_with_their_blocks(dropped, tmp_path):
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    config = Qwen3Config(
        **COMMON,
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        use_sliding_window=True,
        sliding_window=8,
        layer_types=kinds,
    )
    model = Qwen3ForCausalLM(config)
    folder = save_checkpoint(random_model(model), None, tmp_path / "model")
    spec = PruneSpec(
        method="depth", shape={"layers": 4 - len(dropped)}, scorer="random", seed=_seed_that_drops(dropped)
    )
    plan = prune(folder, spec, calibration=None, out=tmp_path / "out")
    assert plan.dropped_layers == dropped
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    left = [kind for layer, kind in enumerate(kinds) if layer not in dropped]
    assert again.config.layer_types == left
    assert [block.self_attn.layer_idx for block in again.model.layers] == list(range(len(left)))
    # the same blocks by themselves: a zero output adds nothing to the residual stream
    with torch.no_grad():
        for layer in dropped:
            model.model.layers[layer].self_attn.o_proj.weight.zero_()
            model.model.layers[layer].mlp.down_proj.weight.zero_()
    ids = tokens(2, 20, seed=1)
    torch.testing.assert_close(logits(again, ids), logits(model, ids))
    assert_cached_generation_is_the_same(again)


def _seed_that_drops(dropped):
    """A seed of the random scorer under which just these of four blocks go."""
    for seed in range(200):
        order = torch.rand(4, generator=torch.Generator().manual_seed(seed)).argsort().tolist()
        if sorted(order[: len(dropped)]) == list(dropped):
            return seed
    raise AssertionError(dropped)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_block_left(family, tmp_path):
    again, plan = pruned(FAMILIES[family](), PruneSpec(method="depth", shape={"layers": 1}), tmp_path)
    assert plan.after.layers == len(again.model.layers) == 1
    assert_cached_generation_is_the_same(again)
    with pytest.raises(InputError, match="one block"):
        prune(tmp_path / "out", PruneSpec(method="depth", rate=0.1), calibration=TEXT, out=tmp_path / "none")


@pytest.mark.parametrize("spec", [PruneSpec(method="depth", rate=1e-6), PruneSpec(method="width", rate=1 - 1e-6)])
def test_rates_at_the_ends_name_the_nearest(spec, tmp_path):
    folder = save_checkpoint(FAMILIES["qwen2"](), None, tmp_path / "model")
    with pytest.raises(InputError, match=r"nearest rates: 0\.\d+ and 0\.\d+") as error:
        prune(folder, spec, calibration=TEXT, out=tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused(tmp_path):
    model = FAMILIES["llama-tied"]()
    folder = save_checkpoint(model, None, tmp_path / "model")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors"):
        prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "out")


def test_code_that_lies_with_a_model_is_not_run(tmp_path):
    folder = save_checkpoint(FAMILIES["llama-tied"](), None, tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    # and nobody who loads the result is asked to run it
    assert not list((tmp_path / "out").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_what_lies_beside_the_weights_comes_along(tmp_path):
    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<eos>": 0, "a": 1}, unk_token="<eos>")), eos_token="<eos>"
    )
    words.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    model = FAMILIES["qwen2"]()
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.3, top_p=0.8, eos_token_id=[0, 1])
    folder = save_checkpoint(model, words, tmp_path / "model")
    for spec in (PruneSpec(method="depth", rate=0.2), PruneSpec(method="width", rate=0.2), PruneSpec(method="2:4")):
        out = tmp_path / spec.method.replace(":", "")
        prune(folder, spec, calibration=TEXT, out=out)
        again = AutoTokenizer.from_pretrained(out)
        assert (again.chat_template, again.eos_token) == (words.chat_template, "<eos>")
        said = GenerationConfig.from_pretrained(out)
        assert (said.temperature, said.top_p, said.eos_token_id) == (0.3, 0.8, [0, 1])
        record = json.loads((out / PRUNE_RECORD).read_text())
        card = (out / "README.md").read_text()
        assert f"a pruning rate of {record['pruning_rate']:.4f}" in card
        assert not [file.name for file in out.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".py")]
