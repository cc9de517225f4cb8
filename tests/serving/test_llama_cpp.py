"""llama.cpp reads a pruned model of every family, or the check says by its shape why it can't."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_families import TINY, make_plain
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from regrow.arch import Architecture
from regrow.families import FAMILIES
from regrow.models.folder import open_checkpoint
from regrow.models.layout import split_block_name
from regrow.models.tokenizer import PROBE
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.serving import child
from regrow.serving.gguf_file import write_gguf
from regrow.serving.gguf_vocab import sentencepiece_prefix
from regrow.serving.llama_cpp import CLASSES, class_of, llama_cpp_limits, query_factor
from regrow.serving.loads import check_loads
from regrow.serving.reference import Agreement, Answers, agreement, answers_of, load_reference, prompts_for

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")

TOKENS = 8


#: Half of a head is rotated (of Phi-4-mini's three quarters): Llama's class can't stand in for Phi-3's then.
HALF = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}


def save(model_type: str, folder: Path, **changes: object) -> PreTrainedModel:
    """A tiny model of the family as public ones are, saved."""
    model = make_plain(model_type, **changes)
    model.save_pretrained(folder)
    return model


def asked(folder: Path, work: Path) -> Agreement:
    """How llama.cpp's answers compare with transformers', asked in this process: hundreds of starts would take long."""
    checkpoint = open_checkpoint(folder)
    prompts = prompts_for(folder, checkpoint.config, checkpoint.config.max_position_embeddings - TOKENS)
    reference = answers_of(load_reference(folder, torch.float32), prompts, TOKENS)
    path = work / f"{folder.name}.gguf"
    write_gguf(folder, path, dtype="fp32")
    question = child.Question(prompts=prompts.ids, texts=[], count=TOKENS, room=64, dtype="float32")
    found = child._llama_cpp(str(path), question)["tokens"]
    return agreement(Answers(prompts=prompts.ids, tokens=found, margins=[]), reference)


def limits(folder: Path) -> list[tuple[str, str]]:
    """The kinds and words of llama.cpp's limits that a model meets."""
    checkpoint = open_checkpoint(folder)
    return [(limit.kind, limit.what) for limit in llama_cpp_limits(checkpoint.arch, checkpoint.config.to_dict())]


def test_every_family_has_a_class() -> None:
    assert set(CLASSES) == set(FAMILIES)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_model_pruned_in_depth_and_width_answers_as_in_transformers(model_type: str, tmp_path: Path) -> None:
    save(model_type, tmp_path / "whole")
    square = class_of(open_checkpoint(tmp_path / "whole").arch, {}).name in ("olmo2", "exaone4")
    sizes = {"experts": 4} if model_type == "qwen3_moe" else {"intermediate": 40, "hidden": 24}
    if square or open_checkpoint(tmp_path / "whole").arch.square:
        del sizes["hidden"]
    method = "experts" if model_type == "qwen3_moe" else "width"
    cut = PruneSpec(method="depth", shape={"layers": 2}, scorer="random")
    prune(tmp_path / "whole", cut, calibration=None, out=tmp_path / "cut")
    narrow = PruneSpec(method=method, shape=sizes, scorer="random")
    prune(tmp_path / "cut", narrow, calibration=None, out=tmp_path / "both")
    assert [kind for kind, _ in limits(tmp_path / "both") if kind != "note"] == []
    found = asked(tmp_path / "both", tmp_path)
    assert found.compared > 3 * TOKENS
    assert found.same, found.sentence()


@pytest.mark.parametrize(
    ("model_type", "changes", "spec", "kind", "says"),
    [
        ("smollm3", {"no_rope_layers": [1, 0, 1]}, {"layers": 2}, "differs", "every fourth block"),
        ("exaone4", TINY["exaone4"], {"layers": 2}, "differs", "windows at 64 blocks only; at 2 it has none"),
        ("ministral", TINY["ministral"], {"layers": 2}, "differs", "from 8 tokens on answers differ"),
        (
            "olmo2",
            {},
            {"hidden": 24},
            "refuses",
            "takes the hidden width, 24, for that of all query heads",
        ),
        ("gemma2", {"tie_word_embeddings": False}, {"layers": 2}, "refuses", "takes the embeddings for the output"),
        ("seed_oss", {"mlp_bias": True, "attention_out_bias": True}, {"layers": 2}, None, "written as one of Llama's"),
        ("qwen3", {"attention_bias": True}, {"layers": 2}, "refuses", "no biases on the attention's output"),
        ("ernie4_5", {"use_bias": True}, {"layers": 2}, None, "written as one of Llama's family"),
        ("qwen3_moe", {"norm_topk_prob": False}, {"layers": 2}, "differs", "norm_topk_prob"),
        ("phi3", {}, {"hidden": 24}, None, "its phi3 takes the hidden width, 24"),
        ("phi3", {"rope_parameters": HALF}, {"hidden": 24}, "refuses", "its phi3 takes the hidden width, 24"),
        ("phi3", {"rope_parameters": HALF}, {"layers": 2}, None, ""),
    ],
)
def test_what_llama_cpp_cant_do_is_known_by_shape(
    model_type: str, changes: dict, spec: dict, kind: str | None, says: str, tmp_path: Path
) -> None:
    """llama.cpp itself is asked too: the limit that is named is there, and a note means that it agrees."""
    save(model_type, tmp_path / "whole", **changes)
    method = "depth" if "layers" in spec else "width"
    prune(
        tmp_path / "whole", PruneSpec(method=method, shape=spec, scorer="random"), calibration=None,
        out=tmp_path / "pruned",
    )  # fmt: skip
    met = limits(tmp_path / "pruned")
    assert not says or any(says in what and (kind or "note") == found for found, what in met), met
    (loaded,) = check_loads(tmp_path / "pruned", ["llama.cpp"], tokens=TOKENS)
    assert loaded.status == {"refuses": "fails", "differs": "differs", None: "loads"}[kind], loaded.how


NORMS_AFTER = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")


@pytest.mark.parametrize(("model_type", "blocks"), [("gemma2", 46), ("gemma3_text", 62)])
@pytest.mark.parametrize("gone", [0, 2])
def test_the_scale_of_attention_that_llama_cpp_takes_from_the_blocks(
    model_type: str, blocks: int, gone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """27B's is that of hidden / heads; with two blocks less llama.cpp takes that of a head; the file corrects it."""
    layers = blocks - gone
    kinds = (["sliding_attention", "full_attention"] * layers)[:layers]
    model = save(
        model_type, tmp_path / "m", num_hidden_layers=layers, layer_types=kinds, query_pre_attn_scalar=16,
        hidden_size=64, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.no_grad():  # so many random blocks would make much of rounding: all but the last three add little
        for name, parameter in model.named_parameters():
            place = split_block_name(name)
            if place is not None and place[0] < layers - 3 and place[1] in NORMS_AFTER:
                parameter.fill_(-0.98)
    model.save_pretrained(tmp_path / "m")
    config = model.config.to_dict()
    arch = Architecture.from_config(config)
    assert query_factor(arch, config) == pytest.approx(math.sqrt((8 if gone else 16) / 16))
    notes = [what for kind, what in limits(tmp_path / "m") if kind == "note"]
    assert any("query_pre_attn_scalar" in what for what in notes) == bool(gone)
    found = asked(tmp_path / "m", tmp_path)
    assert found.same, found.sentence()
    if gone:  # a file that leaves it as it is gives other tokens
        monkeypatch.setattr("regrow.serving.gguf_tensors.query_factor", lambda arch, config: 1.0)
        assert not asked(tmp_path / "m", tmp_path).same


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("llama", {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": 8.0}),
        ("qwen2", {"rope_type": "yarn", "factor": 4.0}),
        ("mistral", {"rope_type": "linear", "factor": 4.0}),
        ("phi3", {"rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [2.0, 4.0, 6.0, 8.0]}),
    ],
)
def test_scaled_rotary_embeddings(model_type: str, rope: dict, tmp_path: Path) -> None:
    scaled = {"rope_theta": 10_000.0, "original_max_position_embeddings": 512, **rope}
    more = {"original_max_position_embeddings": 512} if model_type == "phi3" else {}
    save(model_type, tmp_path / "m", rope_parameters=scaled, max_position_embeddings=2048, **more)
    assert asked(tmp_path / "m", tmp_path).same


def sentencepiece(form: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of SentencePiece's kind: BPE that falls back to bytes, spaces as characters of their own."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    replace = normalizers.Replace(" ", "\u2581")
    if form == "llama":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace])
    elif form == "gemma":
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "first", split=False)
    named = ["<unk>", "<s>", "</s>"]
    text = ["the one and the other of them all, and then another", PROBE[0], PROBE[2]] * 3
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=300, special_tokens=named, show_progress=False))
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    content["model"]["byte_fallback"] = True
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("form", ["llama", "gemma", "metaspace"])
def test_a_sentencepiece_tokenizer_splits_as_in_transformers(form: str, tmp_path: Path) -> None:
    tokenizer = sentencepiece(form)
    assert sentencepiece_prefix(json.loads(tokenizer.backend_tokenizer.to_str())) is (form != "gemma")
    save("llama", tmp_path / "m", vocab_size=len(tokenizer), max_position_embeddings=512)
    tokenizer.save_pretrained(tmp_path / "m")
    (found,) = check_loads(tmp_path / "m", ["llama.cpp"], tokens=2)
    assert found.status == "loads", found.how
    assert "it splits 6 of 6 texts into as many tokens as the model's own tokenizer" in found.how


def test_a_tokenizer_whose_merges_are_out_of_order_has_no_name() -> None:
    """llama.cpp takes the best result where the file takes the first pair: they part where results are mixed."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    vocab = {text: number for number, text in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    model = {"type": "BPE", "byte_fallback": True, "vocab": vocab}

    def prefix(*merges: tuple[str, str]) -> bool | None:
        return sentencepiece_prefix({"model": {**model, "merges": merges}, "normalizer": replace})

    assert prefix(("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")) is False
    assert prefix(("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")) is None
    assert prefix(("a", "b"), ("ab", "c")) is None  # "bc" is an entry that no merge makes


def test_a_model_with_phi_3_in_its_name(tmp_path: Path) -> None:
    """llama.cpp takes the tokenizer's habits from the name, and ends where Phi-3's special tokens are missing."""
    save("phi3", tmp_path / "Phi-3-mini")
    assert asked(tmp_path / "Phi-3-mini", tmp_path).same
