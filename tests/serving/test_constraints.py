"""The known limits of the programs that serve models, by shape."""

from __future__ import annotations

import pytest

from regrow.arch import Architecture, catalog
from regrow.serving.constraints import RUNTIMES, limits_of
from regrow.serving.gguf_vocab import pre_tokenizer


def config(arch: Architecture, **more: object) -> dict[str, object]:
    return {"model_type": arch.model_type, "num_hidden_layers": arch.layers, **more}


def test_public_models_meet_no_limit_that_refuses() -> None:
    for arch in catalog().values():
        for runtime in RUNTIMES:
            met = limits_of(runtime, arch, config(arch, sliding_window=None))
            assert all(limit.kind == "note" for limit in met), (runtime, arch)


def words(runtime: str, arch: Architecture, **more: object) -> str:
    """All that is said of a shape, in one text."""
    return " | ".join(f"{limit.kind}: {limit.what}" for limit in limits_of(runtime, arch, config(arch, **more)))


def test_widths_of_quantised_blocks() -> None:
    arch = catalog()["Llama-3.1-8B"]
    assert limits_of("gguf", arch, config(arch)) == []
    some = words("gguf", arch.with_shape(intermediate=10784))
    assert some.startswith("note: rows of 10,784 weights (down) are no multiple of 256: in a Q4_K_M file they are Q5_0")
    assert "Q8_0 in the place of Q6_K (8.5 bits a weight" in some
    hidden = words("gguf", arch.with_shape(hidden=3000))
    assert hidden == (
        "note: rows of 3,000 weights (query/key/value, gate/up and embeddings) are no multiple of 32: they stay f16 in "
        "any quantised file"
    )


def test_bits_a_weight_are_those_of_the_package() -> None:
    gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
    from regrow.serving.quantised import _FALLBACK

    for old, (new, before, after) in _FALLBACK.items():
        for name, bits in ((old, before), (new, after)):
            weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
            assert 8 * size / weights == bits
            assert weights == (256 if name == old else 32)


def test_gpus_that_vllm_can_split_a_shape_over() -> None:
    arch = catalog()["Llama-3.1-8B"]
    assert "tensor parallel" not in words("vllm", arch)
    # 24 and 6 heads: 6 KV heads go over 2 GPUs, not over 4 or 8
    assert "over 4 and 8 GPUs is not possible: 6 KV heads" in words("vllm", arch.with_shape(heads=24, kv_heads=6))
    # fewer KV heads than GPUs are copied where they divide the GPUs
    assert "tensor parallel" not in words("vllm", arch.with_shape(heads=32, kv_heads=2))
    odd = words("vllm", arch.with_shape(intermediate=10786))
    assert "over 4 and 8 GPUs is not possible: a feed-forward of 10,786" in odd


def test_four_bit_weights_in_vllm() -> None:
    arch = catalog()["Llama-3.1-8B"]
    assert limits_of("vllm", arch, config(arch)) == []
    said = words("vllm", arch.with_shape(hidden=3008))  # 47 * 64
    assert "rows of 3,008 weights are no multiple of 128" in said
    assert "groups of 64 divide them" in said
    # outputs of 3,008 are no multiple of 128: not Machete's, and Marlin takes them whole, as their inputs are
    assert "4-bit weights of attention output and down don't run on Machete" in said
    assert "padded" not in said
    assert "padded for down" in words("vllm", arch.with_shape(intermediate=10784))


def test_experts_on_cpus_and_types_that_vllm_is_too_old_for() -> None:
    arch = catalog()["Qwen3-30B-A3B"]
    assert "not on CPUs" not in words("vllm", arch)
    assert "experts of 2,040 by 768: not on CPUs" in words("vllm", arch.with_shape(hidden=2040))


def test_vllm_reads_the_size_of_a_qwen2_head_off_the_hidden_width() -> None:
    arch = catalog()["Qwen2.5-7B"].with_shape(hidden=2560)
    first = limits_of("vllm", arch, config(arch))[0]
    assert first.kind == "differs"
    assert "hidden / heads = 91.4286" in first.what
    fine = catalog()["Llama-3.1-8B"].with_shape(hidden=3072)
    assert all(limit.kind == "note" for limit in limits_of("vllm", fine, config(fine)))


@pytest.mark.parametrize("runtime", ["llama.cpp", "vllm"])
def test_windows_in_some_blocks(runtime: str) -> None:
    arch = catalog()["Qwen2.5-7B"]
    windowed = config(arch, use_sliding_window=True, sliding_window=4096, max_window_layers=20)
    kinds = {limit.kind for limit in limits_of(runtime, arch, windowed)}
    assert kinds & {"refuses", "differs"}


def test_heads_that_no_kernel_takes() -> None:
    arch = catalog()["Llama-3.1-8B"].with_shape(head_dim=100)
    assert any("FlashAttention" in limit.what for limit in limits_of("vllm", arch, config(arch)))
    ladder = catalog()["SmolLM2-135M"].with_shape(head_dim=16)
    assert any("not on CPUs" in limit.what for limit in limits_of("vllm", ladder, config(ladder)))


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([{**BYTES, "use_regex": True}], "gpt-2"),
        ([BYTES], None),
        ([{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}], "smollm"),
        ([{"type": "Split", "pattern": {"Regex": LLAMA_3}}, BYTES], "dbrx"),
        ([{"type": "Split", "pattern": {"Regex": LLAMA_3.replace("{1,3}", "")}}, BYTES], "qwen2"),
        ([{"type": "Split", "pattern": {"Regex": "x"}}, BYTES], None),
        ([{"type": "Metaspace"}], None),
    ],
)
def test_how_text_is_split_has_a_name_or_none(steps: list[dict[str, object]], name: str | None) -> None:
    before = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    assert pre_tokenizer({"model": {"type": "BPE"}, "pre_tokenizer": before}) == name
    assert pre_tokenizer({"model": {"type": "BPE", "byte_fallback": True}, "pre_tokenizer": before}) is None


def test_a_word_that_is_an_entry_is_not_merged_in_llama_3() -> None:
    before = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": LLAMA_3}}, BYTES]}
    assert pre_tokenizer({"model": {"type": "BPE", "ignore_merges": True}, "pre_tokenizer": before}) == "llama-bpe"
