"""Loading and saving checkpoints, and every way a user's folder can be wrong."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, logits, make, tokens
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from regrow.errors import InputError, RegrowError, RunFailed
from regrow.families import FAMILIES as DESCRIBED
from regrow.models import (
    architecture_of,
    check_output,
    count_nonzero,
    count_params,
    load_model,
    load_tokenizer,
    save_checkpoint,
)
from regrow.models import load as load_module
from regrow.models.layout import axes_of, plain_name


@pytest.fixture
def checkpoint(tmp_path):
    return save_checkpoint(make("llama-tied"), None, tmp_path / "model")


def _tokenizer():
    words = Tokenizer(WordLevel({"<eos>": 0, "a": 1, "b": 2}, unk_token="<eos>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")


def _one_line(error):
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_match_the_real_model(family):
    model = make(family)
    assert architecture_of(model).params == count_params(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_axes_table_describes_every_parameter(family):
    model = make(family)
    arch = architecture_of(model)
    width = {
        "hidden": arch.hidden,
        "intermediate": arch.intermediate,
        "query": arch.heads * arch.head_dim,
        "kv": arch.kv_heads * arch.head_dim,
    }
    for name, parameter in model.named_parameters():
        axes = axes_of(name, arch.family)
        assert len(axes) == parameter.ndim
        for along, size in zip(axes, parameter.shape, strict=True):
            assert not along or sum(width[axis] for axis in along) == size, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_reload_gives_equal_logits_in_the_same_dtype(family, dtype, tmp_path):
    model = make(family, dtype=dtype)
    out = save_checkpoint(model, None, tmp_path / "new" / "model", extra={"note.json": {"a": 1}})
    again, plain = load_model(out), AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert again.dtype == plain.dtype == dtype
    assert torch.equal(logits(again, tokens()), logits(model, tokens()))
    assert torch.equal(logits(plain.eval(), tokens()), logits(model, tokens()))
    assert json.loads((out / "note.json").read_text()) == {"a": 1}
    assert not [path for path in out.parent.iterdir() if path != out], "a temporary folder was left behind"


def test_load_converts_when_asked(checkpoint):
    assert load_model(checkpoint, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_tokenizer_travels(tmp_path):
    out = save_checkpoint(make("llama-tied"), _tokenizer(), tmp_path / "model")
    assert load_tokenizer(out)("a b a")["input_ids"] == [1, 2, 1]


def test_no_tokenizer_is_one_line(checkpoint):
    with pytest.raises(InputError) as error:
        load_tokenizer(checkpoint)
    assert "no tokenizer files" in _one_line(error)


def test_count_nonzero():
    model = make("llama-tied")
    with torch.no_grad():
        model.model.norm.weight[:5] = 0
    assert count_nonzero(model) == count_params(model) - 5


def test_a_changed_layer_is_refused():
    model = make("llama-tied")
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(32, 40, bias=False)
    with pytest.raises(InputError, match="parameters where its config makes"):
        architecture_of(model)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no such model folder") as error:
        load_model(tmp_path / "absent")
    _one_line(error)


def test_missing_hub_name_fails_at_once_without_network(monkeypatch):
    monkeypatch.setattr(load_module, "hub_reachable", lambda: False)
    with pytest.raises(InputError, match="Hub cannot be reached") as error:
        load_model("nobody/nothing-here")
    _one_line(error)


def test_a_file_is_not_a_model(checkpoint):
    with pytest.raises(InputError, match="not a folder") as error:
        load_model(checkpoint / "model.safetensors")
    _one_line(error)


def test_an_empty_folder_is_not_a_model(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json") as error:
        load_model(tmp_path)
    _one_line(error)


@pytest.mark.parametrize(
    "config", ["not json", "[]", "{}", '{"model_type": "gpt2"}', '{"model_type": "llamma"}', '{"model_type": "llama"}']
)
def test_a_bad_config_is_one_line(checkpoint, config):
    (checkpoint / "config.json").write_text(config)
    with pytest.raises(InputError) as error:
        load_model(checkpoint)
    _one_line(error)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "absent"])
def test_corrupt_safetensors_is_one_line(checkpoint, damage):
    weights = checkpoint / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes({"garbage": b"garbage" * 99, "truncated": whole[: len(whole) // 2]}.get(damage, b""))
    if damage == "absent":
        weights.unlink()
    with pytest.raises(InputError) as error:
        load_model(checkpoint)
    assert ("no such weights file" if damage == "absent" else "cannot read the weights") in _one_line(error)


def test_sharded_checkpoints_load(checkpoint, tmp_path):
    model = load_model(checkpoint)
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert torch.equal(logits(load_model(tmp_path / "shards"), tokens()), logits(model, tokens()))
    next((tmp_path / "shards").glob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="no such weights file"):
        load_model(tmp_path / "shards")


def test_pickled_weights_are_refused(checkpoint):
    model = make("llama-tied")
    (checkpoint / "model.safetensors").unlink()
    torch.save(model.state_dict(), checkpoint / "pytorch_model.bin")
    with pytest.raises(InputError) as error:
        load_model(checkpoint)
    _one_line(error)


def test_a_checkpoint_that_lacks_tensors_is_refused(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensor, first 'model.layers.1.mlp.up_proj.weight'") as error:
        load_model(checkpoint)
    _one_line(error)


def test_a_checkpoint_with_another_tensor_in_place_of_one_is_refused(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    weights["stranger"] = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensor.*layers\.1\.mlp\.up_proj") as error:
        load_model(checkpoint)
    _one_line(error)


# a config larger than the files must be refused before it is allocated: here, 300 GB
@pytest.mark.parametrize("changes", [{"intermediate_size": 40}, {"intermediate_size": 200_000_000}])
def test_a_checkpoint_of_other_shapes_is_refused(checkpoint, changes):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError) as error:
        load_model(checkpoint)
    _one_line(error)


def test_a_full_folder_is_kept_unless_overwrite(tmp_path):
    out = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    with pytest.raises(InputError, match="not empty"):
        save_checkpoint(make("qwen2"), None, out)
    assert load_model(out).config.model_type == "llama"
    (out / "old.txt").write_text("old")
    save_checkpoint(make("qwen2"), None, out, overwrite=True)
    assert load_model(out).config.model_type == "qwen2"
    assert not (out / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unwritable_output_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "model", "/proc/regrow-test"):
        with pytest.raises(InputError) as error:
            check_output(out)
        _one_line(error)


def test_a_link_is_followed_and_a_mount_point_refused_before_the_work(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "far" / "model")
    save_checkpoint(make("llama-tied"), None, tmp_path / "link")
    assert load_model(tmp_path / "far" / "model").config.model_type == "llama"
    save_checkpoint(make("qwen2"), None, tmp_path / "link", overwrite=True)
    assert load_model(tmp_path / "far" / "model").config.model_type == "qwen2"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir()) == ["far", "link", "model"]
    with pytest.raises(InputError, match="mount point"):
        check_output("/", overwrite=True)


def test_a_save_that_breaks_off_leaves_nothing(tmp_path):
    out = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    with pytest.raises(RunFailed):
        save_checkpoint(make("qwen2"), None, out, extra={"bad.json": {"a": object()}}, overwrite=True)
    assert load_model(out).config.model_type == "llama"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_plain_names():
    assert plain_name("_orig_mod.module.model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    assert plain_name("model.layers.0._orig_mod.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    assert plain_name("model.submodule.weight") == "model.submodule.weight"


def test_unknown_parameters_are_refused():
    with pytest.raises(RegrowError, match="lora"):
        axes_of("model.layers.0.self_attn.q_proj.lora_A.weight", DESCRIBED["llama"])


def test_moved_checkpoint_still_loads(checkpoint, tmp_path):
    shutil.move(checkpoint, tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere").config.model_type == "llama"
