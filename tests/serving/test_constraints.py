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


def test_widths_of_quantised_blocks() -> None:
    arch = catalog()["Llama-3.1-8B"]
    assert limits_of("gguf", arch, config(arch)) == []
    (some,) = limits_of("gguf", arch.with_shape(intermediate=10784), config(arch))
    assert "intermediate 10,784: no multiple of 256" in some.what
    (odd,) = limits_of("gguf", arch.with_shape(intermediate=10788), config(arch))
    assert "no multiple of 32" in odd.what


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
        ([{"type": "Split", "pattern": {"Regex": LLAMA_3}}, BYTES], "llama-bpe"),
        ([{"type": "Split", "pattern": {"Regex": LLAMA_3.replace("{1,3}", "")}}, BYTES], "qwen2"),
        ([{"type": "Split", "pattern": {"Regex": "x"}}, BYTES], None),
        ([{"type": "Metaspace"}], None),
    ],
)
def test_how_text_is_split_has_a_name_or_none(steps: list[dict[str, object]], name: str | None) -> None:
    before = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    assert pre_tokenizer({"model": {"type": "BPE"}, "pre_tokenizer": before}) == name
    assert pre_tokenizer({"model": {"type": "BPE", "byte_fallback": True}, "pre_tokenizer": before}) is None
