"""A walk block by block is the forward pass, from disk and from memory, and holds one block at a time."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, logits, make, tokens
from torch.nn import functional as F

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.models import save_checkpoint
from regrow.pruning import stream as stream_module
from regrow.pruning.stream import compute_types, open_stream


def walk(stream, ids):
    hidden = stream.embed(ids)
    for _, block in stream.blocks():
        hidden = stream.run(block, hidden)
    return hidden


@pytest.mark.parametrize("batch", [4096, 7])
@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_walk_is_the_forward_pass(family, where, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "BATCH_TOKENS", batch)
    monkeypatch.setattr(stream_module, "VOCABULARY_CHUNK", 24)
    model = make(family)
    stream = open_stream(model if where == "memory" else save_checkpoint(model, None, tmp_path / "model"))
    ids = tokens(5, 20)  # longer than the windows of 8
    hidden = walk(stream, ids)
    expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(stream.norm(hidden), expected, rtol=1e-5, atol=1e-5)
    loss = evaluate(model, Blocks(tokens=ids.int().numpy(), documents=1, fingerprint="")).loss
    assert stream.loss(hidden, ids) == pytest.approx(loss, abs=1e-6)
    # another length afterwards: masks and positions follow
    torch.testing.assert_close(
        stream.norm(walk(stream, ids[:, :9])), model.model(input_ids=ids[:, :9], use_cache=False).last_hidden_state
    )


def test_scaled_rotary_embeddings_are_the_configs_own(tmp_path):
    model = make("llama-tied")
    model.config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    }
    folder = save_checkpoint(model, None, tmp_path / "model")
    model = type(model).from_pretrained(folder).eval()
    ids = tokens(2, 20)
    stream = open_stream(folder)
    expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(stream.norm(walk(stream, ids)), expected)
    assert not torch.allclose(logits(model, ids), logits(make("llama-tied"), ids))


def test_bfloat16_weights_compute_in_float32_on_a_cpu(tmp_path):
    folder = save_checkpoint(make("qwen2", dtype=torch.bfloat16), None, tmp_path / "model")
    stream = open_stream(folder, precision="fp32")
    ids = tokens(2, 20)
    hidden = walk(stream, ids)
    assert hidden.dtype == torch.float32
    model = make("qwen2", dtype=torch.bfloat16)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    torch.testing.assert_close(stream.norm(hidden), model.model(input_ids=ids, use_cache=False).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_products_are_those_of_autocast(family):
    """Residual stream and norms stay in float32: the same as transformers' model under PyTorch's autocast."""
    model, ids = make(family), tokens(5, 20)
    stream = open_stream(model, precision="bf16")
    assert (stream.dtype, stream.matmul_dtype) == (torch.float32, torch.bfloat16)
    hidden = walk(stream, ids)
    assert hidden.dtype == torch.float32
    plain = model.model(input_ids=ids, use_cache=False).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
    found = stream.norm(hidden)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert 1e-4 < (found - plain).norm() / plain.norm() < 0.02


def test_auto_takes_bfloat16_products_where_nothing_of_the_weights_is_lost(monkeypatch):
    f32, b16, cpu, gpu = torch.float32, torch.bfloat16, torch.device("cpu"), torch.device("cuda")
    for fast, expected in ((True, b16), (False, f32)):
        monkeypatch.setattr(stream_module, "has_fast_bf16", lambda device, fast=fast: fast)
        assert compute_types(cpu, b16, 576) == (f32, expected)
        # a narrow model is rounded alike on every CPU
        assert compute_types(cpu, b16, 256) == (f32, f32)
        assert compute_types(cpu, f32, 576) == compute_types(cpu, torch.float16, 576) == (f32, f32)
        assert compute_types(cpu, f32, 64, "bf16") == (f32, b16)
        assert compute_types(cpu, b16, 576, "fp32") == (f32, f32)
    # an accelerator computes in one type
    assert compute_types(gpu, b16, 64) == (b16, b16)
    assert compute_types(gpu, b16, 64, "fp32") == (f32, f32)
    with pytest.raises(InputError, match="unknown precision 'bf61'"):
        compute_types(cpu, b16, 576, "bf61")


def test_a_walk_over_other_parameters_computes_the_same_way():
    stream = open_stream(make("llama-tied"), precision="bf16")
    other = stream.over(stream_module.ModelSource(make("llama-tied")))
    assert (other.dtype, other.matmul_dtype, other.device) == (stream.dtype, stream.matmul_dtype, stream.device)


def test_hidden_states_can_be_overwritten_and_layers_chosen():
    model = make("llama-tied")
    stream = open_stream(model)
    hidden = stream.embed(tokens())
    expected = hidden
    for layer in (3, 1):
        expected = stream.run(stream.block(layer), expected)
    for _, block in stream.blocks([3, 1]):
        assert stream.run(block, hidden, out=hidden) is hidden
    torch.testing.assert_close(hidden, expected)


def test_a_block_is_a_copy():
    model = make("llama-tied")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    block = open_stream(model).block(0)
    for parameter in block.parameters():
        parameter.fill_(0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_one_block_is_alive_at_a_time(where, tmp_path):
    """Counted: the parameters of the blocks that are alive while the walk goes on."""
    import gc
    import weakref

    model = make("llama-tied")
    stream = open_stream(model if where == "memory" else save_checkpoint(model, None, tmp_path / "model"))
    alive, most = weakref.WeakSet(), 0
    hidden = stream.embed(tokens())
    for _, block in stream.blocks():
        gc.collect()
        alive.add(block)
        most = max(most, sum(not one.mlp.up_proj.weight.is_meta for one in alive))
        hidden = stream.run(block, hidden, out=hidden)
    assert most == 1


def test_tokens_of_another_vocabulary():
    with pytest.raises(InputError, match="outside the model's vocabulary of 64"):
        open_stream(make("llama-tied")).embed(tokens() + 10)


def _broken(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})


def test_broken_checkpoints_are_one_line(tmp_path):
    def folder(name, change):
        made = save_checkpoint(make("llama-untied-biased"), None, tmp_path / name)
        _broken(made, change)
        return made

    with pytest.raises(InputError, match=r"lacks 1 tensor, first 'model\.norm\.weight'"):
        open_stream(folder("lacks", lambda state: state.pop("model.norm.weight")))
    with pytest.raises(InputError, match="'adapter' belongs to an adapter"):
        open_stream(folder("foreign", lambda state: state.update(adapter=torch.ones(1))))
    with pytest.raises(InputError, match=r"shape \(3,\) where config\.json makes \(32,\)"):
        open_stream(folder("shape", lambda state: state.update({"model.norm.weight": torch.ones(3)})))
    with pytest.raises(InputError, match="no such model folder"):
        open_stream(tmp_path / "absent")


def test_a_tied_output_layer_that_is_stored_as_well_is_no_harm(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    _broken(folder, lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"].clone()}))
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    stream = open_stream(folder)
    assert "lm_head.weight" not in stream.source.layout
    ids = tokens()
    expected = F.cross_entropy(logits(make("llama-tied"), ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert stream.loss(walk(stream, ids), ids) == pytest.approx(expected.item(), abs=1e-5)


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(InputError, match="cannot be used"):
            open_stream(folder, device=device)
