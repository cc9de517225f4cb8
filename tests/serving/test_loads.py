"""Other programs load what pruning made, and give transformers' tokens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import make_plain
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from regrow.errors import InputError
from regrow.ladder import find_model
from regrow.models.folder import open_checkpoint
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.serving.gguf_file import write_gguf
from regrow.serving.gguf_rope import rope_factors
from regrow.serving.gguf_tensors import GGUF_DTYPES
from regrow.serving.loads import check_loads
from regrow.serving.reference import Answers, agreement
from regrow.serving.runtimes import last_words, vllm_python

gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")

SPECS = {
    "depth": PruneSpec(method="depth", rate=0.25, scorer="random"),
    "width": PruneSpec(method="width", rate=0.25, scorer="random"),
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A depth- and a width-pruned ladder model of each family, by family and method."""
    folder = tmp_path_factory.mktemp("pruned")
    made = {}
    for family in ("llama", "qwen2"):
        for method, spec in SPECS.items():
            made[f"{family} {method}"] = folder / f"{family}-{method}"
            prune(find_model(f"tiny-{family}-0.2m"), spec, calibration=None, out=made[f"{family} {method}"])
    return made


@pytest.mark.parametrize("which", ["llama depth", "llama width", "qwen2 depth", "qwen2 width"])
def test_transformers_and_its_gguf_reader_give_the_same_tokens(pruned: dict[str, Path], which: str) -> None:
    transformers, read = check_loads(pruned[which], ["transformers", "gguf"], tokens=8)
    assert (transformers.status, read.status) == ("loads", "loads")
    assert transformers.agreement is not None
    assert transformers.agreement.equal == transformers.agreement.compared == 6 * 8
    assert "equal to the bit (fp32)" in read.how[0]
    if which == "qwen2 width":  # written as Llama with biases, which transformers' reader leaves out
        assert read.agreement is None
    else:
        assert read.agreement is not None
        assert (read.agreement.equal, read.agreement.compared) == (48, 48)
        assert read.agreement.logit_error == pytest.approx(0.0, abs=1e-4)


def test_a_file_of_the_same_name_in_the_working_folder_is_not_read(
    pruned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would take its weights."""
    write_gguf(pruned["llama width"], tmp_path / "model.gguf", dtype="fp32")
    (tmp_path / "kept").mkdir()
    monkeypatch.chdir(tmp_path)
    (found,) = check_loads(pruned["llama depth"], ["gguf"], tokens=2, gguf_path=tmp_path / "kept" / "model.gguf")
    assert found.status == "loads", found.how
    assert found.agreement is not None
    assert found.agreement.equal == found.agreement.compared


@pytest.mark.parametrize(("model_type", "read"), [("qwen3", True), ("phi3", True), ("gemma3_text", False)])
def test_transformers_reads_the_files_of_families_that_it_reads_whole(
    model_type: str, read: bool, tmp_path: Path
) -> None:
    sizes = {"qwen3": {"head_dim": 128}, "phi3": {"vocab_size": 32_064}}.get(model_type, {})
    make_plain(model_type, **sizes).save_pretrained(tmp_path / "m")
    prune(tmp_path / "m", PruneSpec(method="width", shape={"hidden": 24}, scorer="random"), calibration=None,
          out=tmp_path / "narrow")  # fmt: skip
    (found,) = check_loads(tmp_path / "narrow", ["gguf"], tokens=4)
    assert found.status == "loads", found.how
    assert (found.agreement is not None) == read
    if found.agreement is not None:
        assert found.agreement.logit_error == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("which", ["llama depth", "llama width", "qwen2 width"])
def test_llama_cpp_gives_the_same_tokens(pruned: dict[str, Path], which: str) -> None:
    pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
    (found,) = check_loads(pruned[which], ["llama.cpp"], tokens=8)
    assert found.status == "loads", found.how
    assert found.agreement is not None
    assert (found.agreement.equal, found.agreement.compared) == (48, 48)
    assert "it splits 6 of 6 texts into as many tokens as the model's own tokenizer" in found.how


def test_a_program_that_does_not_answer_says_so(pruned: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
    import regrow.serving.loads as loads

    def broken(model: Path, path: Path, **options: object) -> list[str]:
        path.write_bytes(b"GGUF" + bytes(60))
        return []

    monkeypatch.setattr(loads, "write_gguf", broken)
    (found,) = check_loads(pruned["llama depth"], ["llama.cpp"], tokens=1)
    assert found.status == "fails"
    assert not found.good
    assert "without an answer" in found.how[0]


@pytest.mark.parametrize("dtype", GGUF_DTYPES)
def test_the_file_holds_the_numbers_and_the_sizes(pruned: dict[str, Path], tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "model.gguf"
    assert write_gguf(pruned["llama width"], path, dtype=dtype) == []
    arch = open_checkpoint(pruned["llama width"]).arch
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    held = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[dtype]
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name == held
    assert tensors["blk.0.ffn_norm.weight"].tensor_type.name == "F32"
    assert tensors["blk.1.ffn_down.weight"].shape.tolist() == [arch.intermediate, arch.hidden]
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["llama.attention.key_length"] == arch.head_dim
    assert fields["llama.embedding_length"] == arch.hidden
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert len(fields["tokenizer.ggml.tokens"]) == arch.vocab
    assert not list(tmp_path.glob(".*"))


def test_a_rotated_head_is_interleaved(pruned: dict[str, Path], tmp_path: Path) -> None:
    """Row 1 of a head in the file is the first of transformers' second half, as llama.cpp rotates neighbours."""
    checkpoint = open_checkpoint(pruned["llama depth"])
    write_gguf(pruned["llama depth"], tmp_path / "m.gguf", dtype="fp32")
    (tensor,) = [t for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors if t.name == "blk.0.attn_q.weight"]
    name = "model.layers.0.self_attn.q_proj.weight"
    ours = checkpoint.reader.read([name])[name].float().numpy()
    half = checkpoint.arch.head_dim // 2
    np.testing.assert_array_equal(tensor.data[1], ours[half])
    np.testing.assert_array_equal(tensor.data[2], ours[1])


def test_the_factors_of_llama_3_are_those_of_transformers() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters=rope)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / 500000.0 ** (np.arange(0, 128, 2) / 128)
    np.testing.assert_allclose(plain / frequencies.numpy(), rope_factors(rope, 128), rtol=1e-5)


def test_a_model_without_a_tokenizer_is_asked_in_token_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, bos_token_id=0, eos_token_id=0, pad_token_id=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path / "model")
    found = check_loads(tmp_path / "model", ["transformers", "gguf", "vllm"], tokens=4)
    assert [loaded.status for loaded in found] == ["loads", "loads", "by shape"]
    assert "takes token numbers only" in found[1].how[1]
    # hidden / heads is 12, a head has 16 channels: vLLM's own Qwen2 would answer wrongly
    assert not found[2].good
    assert found[2].limits[0].kind == "differs"
    assert "--model-impl transformers" in found[2].limits[0].what


def test_other_families_and_rotary_embeddings_are_refused_in_one_line(tmp_path: Path) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path / "dynamic")
    with pytest.raises(InputError, match="rotary embeddings of the type 'dynamic' are not written for"):
        write_gguf(tmp_path / "dynamic", tmp_path / "m.gguf")
    with pytest.raises(InputError, match="did you mean 'gguf'"):
        check_loads(tmp_path / "dynamic", ["ggufs"])
    with pytest.raises(InputError, match="can't write here"):
        write_gguf(find_model("tiny-llama-0.2m"), tmp_path / "none" / "m.gguf")


def test_agreement_stops_at_the_first_difference_and_forgives_ties() -> None:
    wanted = Answers(prompts=[[1], [2]], tokens=[[5, 6, 7], [8, 9, 9]], margins=[[1.0, 1e-4, 1.0], [1.0, 1.0, 1.0]])
    near = agreement(Answers(prompts=[[1], [2]], tokens=[[5, 0, 0], [8, 9, 9]], margins=[]), wanted)
    assert (near.equal, near.compared, near.same) == (4, 5, True)
    far = agreement(Answers(prompts=[[1], [2]], tokens=[[5, 6, 7], [8, 0, 9]], margins=[]), wanted)
    assert (far.equal, far.compared, far.same) == (4, 5, False)
    assert "the best two logits lay 1 apart" in far.sentence()
    # a program that stops at a special token has not answered otherwise
    ended = Answers(prompts=[[1]], tokens=[[5, 0, 5]], margins=[[1.0] * 3], ends=frozenset({0}))
    assert agreement(Answers(prompts=[[1]], tokens=[[5]], margins=[]), ended).same


def test_vllm_agrees_where_it_is_installed(pruned: dict[str, Path]) -> None:
    """Its CPU build takes no heads of 16 channels, as the ladder's have: a tiny model with heads of 32 is asked."""
    if vllm_python() is None:
        pytest.skip("vLLM is not installed, and no vllm command is on the path")
    folder = pruned["llama depth"].parent / "heads-of-32"
    sizes = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "head_dim": 32}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, max_position_embeddings=64)).save_pretrained(folder)
    (found,) = check_loads(folder, ["vllm"], tokens=4)
    assert found.status == "loads", found.how


def test_an_interpreter_without_vllm_says_so(pruned: dict[str, Path], tmp_path: Path) -> None:
    """The child runs there by its file: neither regrow nor this environment's search path is needed."""
    other = tmp_path / "python"
    other.symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    (found,) = check_loads(pruned["llama depth"], ["vllm"], tokens=1, vllm_python=other)
    assert found.status == "fails"
    assert found.how == ("it ended without an answer (exit code 1): ModuleNotFoundError: No module named 'vllm'",)
    with pytest.raises(InputError, match="no such file; give the interpreter"):
        check_loads(pruned["llama depth"], ["vllm"], vllm_python=tmp_path / "none")
    with pytest.raises(InputError, match="an interpreter without vllm"):
        check_loads(pruned["llama depth"], ["gguf"], vllm_python=other)


def test_the_last_words_of_a_program() -> None:
    traceback = """Traceback (most recent call last):
      File "x.py", line 1
        raise ValueError(
    ValueError: heads of 24 channels
    some remark on an error"""
    assert last_words(traceback) == "ValueError: heads of 24 channels"
    assert last_words("x: GGML_ASSERT(a == b) failed\nRuntimeError: y") == "x: GGML_ASSERT(a == b) failed"
    loader = "E llama_model_load: error loading model: wrong shape\nRuntimeError: Failed to init"
    assert last_words(loader).endswith("wrong shape")
    assert last_words("one\n\ntwo\n") == "two"
    assert last_words("") == "it wrote nothing"


def test_the_command_prints_and_keeps_the_file(pruned: dict[str, Path], tmp_path: Path, monkeypatch, capsys) -> None:
    from regrow.cli.main import main

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["regrow", "check", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    kept = tmp_path / "kept.gguf"
    code, out, _ = run(
        pruned["llama depth"], "--loads", "gguf,vllm", "--tokens", "2", "--dtype", "fp16", "--gguf", kept
    )
    assert code == 0
    assert "gguf: loads: 12 of 12 greedy tokens are equal" in out
    assert "vllm: by shape" in out
    assert gguf.GGUFReader(kept).tensors
    code, out, _ = run(pruned["llama depth"], "--loads", "vllm", "--json")
    assert json.loads(out)["loads"][0]["status"] == "by shape"
    for words, says in (
        (("--tokens", "2"), "--tokens without --loads"),
        (("--vllm-python", sys.executable), "--vllm-python without --loads"),
        (("--loads", "gguf", "--pattern", "2:4"), "--pattern with --loads"),
        (("--loads", "vllm", "--gguf", kept), "a GGUF file without gguf"),
        (("--loads", "nothing"), "unknown runtime 'nothing'"),
    ):
        code, _, err = run(pruned["llama depth"], *words)
        assert code == 2
        assert says in err
        assert err.count("\n") == 1
