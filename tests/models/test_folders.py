"""What a checkpoint folder is, judged alike for every command; what comes along, byte for byte."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, logits, make, tokens
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from regrow.data.packed import tokenizer_fingerprint
from regrow.errors import InputError
from regrow.models import CheckpointWarning, beside, load_model, load_tokenizer, open_checkpoint, save_checkpoint
from regrow.models.beside import companions
from regrow.pruning.check import check_checkpoint
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec

# that each correction is said is tested where it is made
pytestmark = pytest.mark.filterwarnings("ignore::regrow.models.CheckpointWarning")

LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}
END = "<|end|>"


def change_config(folder, remove=(), **fields):
    path = folder / "config.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if name not in remove}
    path.write_text(json.dumps(content | fields, indent=3))
    return folder


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def own_tokenizer(folder):
    """A byte-level BPE that keeps numbers of up to three digits together, which no class of the families does."""
    made = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["of 1000 and 2024, 512 or 256 in 100 steps"] * 30, trainer)
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizerFast", "eos_token": END, "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=5))
    return made


@pytest.fixture
def published(tmp_path):
    """`published(family)`: a checkpoint as transformers 4 wrote it, with the files that lie beside the weights."""

    def write(family="llama-tied", dtype=torch.bfloat16):
        folder = save_checkpoint(make(family, dtype=dtype), None, tmp_path / family)
        old = {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "torch_dtype": str(dtype).removeprefix("torch.")}
        change_config(folder, remove=("rope_parameters", "dtype"), **old, transformers_version="4.45.0", ours=[1, 2])
        own_tokenizer(folder)
        (folder / "generation_config.json").write_text('{"do_sample":false, "temperature":0.6}')
        (folder / "special_tokens_map.json").write_text('{"eos_token" : "<|end|>"}')
        (folder / "chat_template.jinja").write_text("{{ bos }}\r\n")
        (folder / "LICENSE").write_bytes(b"terms \xe9\n")
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
        for left in (
            "pytorch_model.bin",
            "optimizer.pt",
            "trainer_state.json",
            "modeling_x.py",
            "README.md",
            ".hidden",
        ):
            (folder / left).write_text("left behind")
        return folder

    return write


def came_along(source, target):
    """Names of the files of `source` that lie in `target` with the same bytes."""
    files = [path for path in source.rglob("*") if path.is_file()]
    same = [p.relative_to(source) for p in files if (target / p.relative_to(source)).is_file()]
    return {str(p) for p in same if (target / p).read_bytes() == (source / p).read_bytes()}


BESIDE = {
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "LICENSE",
    "additional_chat_templates/tools.jinja",
}
LEFT = {"pytorch_model.bin", "optimizer.pt", "trainer_state.json", "modeling_x.py", ".hidden"}


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        (PruneSpec(method="2:4", scorer="magnitude"), {}),
        (PruneSpec(method="depth", scorer="random", shape={"layers": 3}), {"num_hidden_layers": 3}),
        (
            PruneSpec(method="width", scorer="random", shape={"hidden": 24, "intermediate": 40}),
            {"hidden_size": 24, "intermediate_size": 40, "head_dim": 16},
        ),
    ],
    ids=lambda value: value.method if isinstance(value, PruneSpec) else "",
)
def test_pruning_changes_weights_and_the_fields_it_must(published, tmp_path, spec, changed):
    source, out = published(), tmp_path / "out"
    prune(source, spec, calibration=None, out=out)
    assert came_along(source, out) - {"config.json"} == BESIDE
    assert not LEFT & {path.name for path in out.iterdir()}
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, out))
    assert after == before | changed
    assert list(after)[: len(before)] == list(before)
    assert ((source / "config.json").read_bytes() == (out / "config.json").read_bytes()) == (not changed)
    frequencies = [load_model(folder).model.rotary_emb.inv_freq for folder in (source, out)]
    assert torch.equal(*frequencies)
    assert load_model(out).dtype == torch.bfloat16


def test_depth_pruning_keeps_a_windows_place_where_the_config_leaves_it_to_defaults(tmp_path):
    folder = save_checkpoint(make("qwen2"), None, tmp_path / "model")
    windows = [layer.self_attn.sliding_window for layer in load_model(folder).model.layers]
    assert windows == [None, None, 8, 8]
    change_config(folder, remove=("layer_types",))
    prune(folder, PruneSpec(method="depth", scorer="random", shape={"layers": 3}), calibration=None, out=tmp_path / "o")
    gone = json.loads((tmp_path / "o" / "regrow_prune.json").read_text())["plan"]["dropped_layers"]
    left = [window for layer, window in enumerate(windows) if layer not in gone]
    assert [layer.self_attn.sliding_window for layer in load_model(tmp_path / "o").model.layers] == left


@pytest.mark.parametrize("family", FAMILIES)
def test_the_newest_dialect_is_written_for_older_readers_too(family, tmp_path):
    folder = save_checkpoint(make(family), None, tmp_path / "model")
    content = json.loads((folder / "config.json").read_text())
    assert content["rope_theta"] == content["rope_parameters"]["rope_theta"]
    change_config(folder, remove=("rope_theta",), rope_parameters={"rope_theta": 1e6, **LLAMA3})
    around = beside(folder)
    around.write(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["rope_theta"], written["rope_scaling"]) == (1e6, LLAMA3)
    # transformers 5 reads the same from both
    shutil.copy(tmp_path / "config.json", folder / "config.json")
    assert open_checkpoint(folder).config.rope_parameters == {"rope_theta": 1e6, **LLAMA3}


def test_fields_of_both_dialects_are_left_as_they_are(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    # transformers 5 goes by the old field, and so by its default of 10000
    change_config(folder, remove=("rope_theta",), rope_parameters={"rope_theta": 1e6, **LLAMA3}, rope_scaling=LLAMA3)
    beside(folder).write(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert open_checkpoint(folder).config.rope_parameters["rope_theta"] == 10000


def test_a_model_of_another_type_is_named_by_its_type(published, tmp_path):
    source = published()
    around = beside(source)
    assert around.dtype == torch.bfloat16
    save_checkpoint(load_model(source), None, tmp_path / "same", beside=around)
    save_checkpoint(load_model(source, dtype=torch.float32), None, tmp_path / "wide", beside=around)
    assert (tmp_path / "same" / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["torch_dtype"] == "float32"
    for folder in ("same", "wide"):
        assert came_along(source, tmp_path / folder) >= BESIDE
        assert torch.equal(
            logits(load_model(tmp_path / folder).float(), tokens()), logits(load_model(source).float(), tokens())
        )
    assert load_file(tmp_path / "same" / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()


# ---- tokenizers ----


@pytest.mark.parametrize("family", ["qwen2", "llama-tied", "qwen3", "mistral"])
def test_text_is_read_by_the_files_own_tokenizer(family, tmp_path):
    folder = save_checkpoint(make(family), None, tmp_path / "model")
    own = own_tokenizer(folder)
    text = "in 2024 of 1000"
    ids = own.encode(text, add_special_tokens=False).ids
    assert any(own.id_to_token(i) == "2024"[:3] for i in ids) or len(ids) < len(text)
    found = load_tokenizer(folder)
    assert found(text, add_special_tokens=False)["input_ids"] == ids
    assert found.eos_token == END
    assert len(found) == own.get_vocab_size()
    if family == "qwen2":
        # what transformers alone makes of it: without this difference the test proves nothing
        theirs = AutoTokenizer.from_pretrained(folder)
        assert theirs(text, add_special_tokens=False)["input_ids"] != ids
        assert tokenizer_fingerprint(theirs) != tokenizer_fingerprint(found)  # so the data cache tells them apart
        with pytest.warns(CheckpointWarning, match="makes other tokens of the same text"):
            load_tokenizer(folder)


def test_the_end_of_text_may_be_named_by_the_config_alone(tmp_path):
    folder = save_checkpoint(make("qwen2"), None, tmp_path / "model")
    own_tokenizer(folder)
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder).eos_token_id == 0


def test_a_tokenizer_that_transformers_can_not_load_is_read_from_its_file(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    own = own_tokenizer(folder)
    settings = {"tokenizer_class": "OursTokenizer", "auto_map": {"AutoTokenizer": ["ours.OursTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": END}))
    assert load_tokenizer(folder)("of 512", add_special_tokens=False)["input_ids"] == own.encode("of 512").ids


def test_a_broken_tokenizer_is_one_line(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Other"}}')
    with pytest.raises(InputError, match="cannot load the tokenizer") as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


# ---- one reader judges a folder ----


def everyone_refuses(folder, says):
    """Loading (for eval, train, study) and the stream (for prune and check) say the same."""
    messages = set()
    spec = PruneSpec(method="2:4", scorer="magnitude")
    for judge in (
        load_model,
        lambda f: prune(f, spec, calibration=None, out=f.parent / "out"),
        lambda f: check_checkpoint(f, "2:4"),
    ):
        with pytest.raises(InputError, match=says) as error:
            judge(folder)
        messages.add(str(error.value))
    assert len(messages) == 1
    assert "\n" not in messages.pop()
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["model.layers.1.mlp.up_proj._weight_mask"], "is a mask of another tool.*mts.export"),
        (["model.layers.1.mlp.up_proj.weight_mask"], "is a mask of another tool"),
        (["model.layers.1.mlp.up_proj.weight_scale"], "stored quantised"),
        (["model.layers.0.self_attn.q_proj.lora_A.weight"], "belongs to an adapter; merge"),
        (["model.layers.4.mlp.up_proj.weight"], "blocks 0 to 4, and num_hidden_layers in config.json says 4"),
        (["v_head.summary.weight"], "head of another task"),
        (["model.layers.2.self_attn.q_proj.bias"], "no such bias.*attention_bias"),
        (["model.layers.0.mlp.experts.3.w1.weight"], "mixture of experts"),
        (["model.mtp_block.0.mlp.up_proj.weight"], "several tokens ahead"),
        (["mtp.layers.0.mlp.up_proj.weight"], "several tokens ahead"),
        # DeepSeek's and GLM's way: as a block beyond the last
        (["model.layers.4.eh_proj.weight", "model.layers.4.mlp.up_proj.weight"], "several tokens ahead"),
        (["model.layers.0.self_attn.sinks"], "is an attention sink"),
        (["eagle.fc.weight", "eagle.fc.bias"], "no place for 2 tensors, first 'eagle.fc.bias'"),
    ],
)
def test_surplus_tensors_are_named(tmp_path, names, says):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    kind = torch.bool if "mask" in names[0] else torch.float32
    change_weights(folder, lambda state: state.update({name: torch.zeros(2, dtype=kind) for name in names}))
    everyone_refuses(folder, says)


def test_wrappers_and_base_models_are_named(tmp_path):
    for name, rename, says in (
        ("ddp", lambda key: f"module.{key}", "prefix of a wrapper"),
        ("compiled", lambda key: f"_orig_mod.{key}", "prefix of a wrapper"),
        ("base", lambda key: key.removeprefix("model."), "without its output layer"),
    ):
        folder = save_checkpoint(make("llama-tied"), None, tmp_path / name)
        state = load_file(folder / "model.safetensors")
        save_file({rename(key): value for key, value in state.items()}, folder / "model.safetensors")
        everyone_refuses(folder, says)


def test_an_adapter_beside_the_weights_is_named(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    everyone_refuses(folder, "an adapter .* merge it into the model first|merge it into the model")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layer_types": ["full_attention"] * 6}, "layer_types has 6 entries, num_hidden_layers is 4"),
        ({"pad_token_id": 64}, r"pad_token_id is 64, and the vocabulary has 64 entries"),
        ({"torch_dtype": "auto"}, "torch_dtype is 'auto'"),
        ({"dtype": 16}, "dtype is 16"),
        ({"hidden_act": "shiny"}, "the field 'hidden_act' can't be used.*shiny"),
        ({"rope_parameters": None, "rope_scaling": {"rope_type": "spiral", "factor": 2.0}}, "'rope_scaling'.*spiral"),
        ({"rms_norm_eps": "small"}, "the field 'rms_norm_eps' can't be used"),
        ({"initializer_range": "wide"}, "the field 'initializer_range'.*wide"),
    ],
)
def test_a_field_that_can_not_be_used_is_named_with_its_file(tmp_path, fields, says):
    folder = save_checkpoint(make("qwen2"), None, tmp_path / "model")
    own_tokenizer(folder)
    change_config(folder, **fields)
    everyone_refuses(folder, says)
    with pytest.raises(InputError, match=says) as error:  # the tokenizer does not take the blame
        load_tokenizer(folder)
    assert error.value.where == str(folder / "config.json")


def test_a_wish_for_a_kernel_that_is_not_installed_is_no_part_of_the_model(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    change_config(folder, attn_implementation="flash_attention_2", _attn_implementation="flash_attention_3")
    assert torch.equal(logits(load_model(folder), tokens()), logits(make("llama-tied"), tokens()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"weight_map": {"model.norm.weight": "mod', "not a JSON file"),
        ("{}", "lists no files"),
        ('{"weight_map": []}', "lists no files"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        ('{"weight_map": {"model.norm.weight": "model-1.safetensors"}}', "no such weights file"),
    ],
)
def test_a_broken_index_is_one_line(tmp_path, content, says):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    everyone_refuses(folder, says)


def test_a_pointer_in_the_place_of_weights_is_named(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    everyone_refuses(folder, "Git LFS pointer")


# ---- where config.json and the weights contradict each other ----


def test_an_output_layer_of_its_own_is_kept_and_the_flag_corrected(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    head = torch.randn(64, 32, generator=torch.Generator().manual_seed(3))
    change_weights(folder, lambda state: state.update({"lm_head.weight": head}))
    with pytest.warns(CheckpointWarning, match="lm_head.weight differs from the embedding"):
        found = open_checkpoint(folder)
    assert not found.arch.tied
    assert found.arch.params == make("llama-tied").num_parameters() + head.numel()
    model = load_model(folder)
    assert torch.equal(model.lm_head.weight, head)
    with torch.no_grad():
        states = model.model(input_ids=tokens()).last_hidden_state
    assert torch.allclose(logits(model, tokens()), states @ head.T, atol=1e-5)
    prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"], head)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert json.loads((tmp_path / "out" / "regrow_prune.json").read_text())["corrected"] == list(found.notes)


@pytest.mark.parametrize("method", ["bitsandbytes", "compressed-tensors", "gptq"])
def test_a_quantisation_that_the_weights_do_not_have_is_left_out(method, tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    plain = logits(load_model(folder), tokens())
    change_config(folder, quantization_config={"quant_method": method, "load_in_4bit": True, "bits": 4})
    with pytest.warns(CheckpointWarning, match=f"quantised .{method}.*stored as float32"):
        assert torch.equal(logits(load_model(folder), tokens()), plain)
    prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_what_comes_along_is_listed_in_order(published):
    source = published()
    assert {str(path.relative_to(source)) for path in companions(source)} == BESIDE
