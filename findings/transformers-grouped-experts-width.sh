#!/usr/bin/env bash
# By default transformers computes a mixture's experts by torch's grouped_mm, which refuses rows that are not whole multiples
# of 16 bytes, on a CPU too. A Qwen3-MoE whose hidden width is 36 runs in float32 and fails in bfloat16; one of 34 fails in both.
# With `set_experts_implementation("eager")` each of them runs. Whoever prunes the width of a mixture meets this.
#
# transformers 5.23.0, torch 2.13.0 (CPU build), seen 2026-11-28 on Python 3.11. What fails raises
# `RuntimeError: strides should be multiple of 16 bytes`; neither the config nor `from_config` warns.
#
# Output seen:
#   hidden width 64: float32 grouped_mm runs, eager runs; bfloat16 grouped_mm runs, eager runs
#   hidden width 36: float32 grouped_mm runs, eager runs; bfloat16 grouped_mm RuntimeError, eager runs
#   hidden width 34: float32 grouped_mm RuntimeError, eager runs; bfloat16 grouped_mm RuntimeError, eager runs
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'P'
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM


def outcome(width, dtype, implementation):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=width, intermediate_size=32, moe_intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2,
    )
    model = Qwen3MoeForCausalLM(config).to(dtype).eval()
    assert model.config._experts_implementation == "grouped_mm", "the default has changed"
    model.set_experts_implementation(implementation)
    try:
        with torch.no_grad():
            model(torch.arange(8)[None])
    except RuntimeError as error:
        assert "multiple of 16 bytes" in str(error), error
        return f"{implementation} RuntimeError"
    return f"{implementation} runs"


def line(width):
    parts = []
    for dtype in (torch.float32, torch.bfloat16):
        both = ", ".join(outcome(width, dtype, name) for name in ("grouped_mm", "eager"))
        parts.append(f"{str(dtype).removeprefix('torch.')} {both}")
    return f"hidden width {width}: " + "; ".join(parts)


seen = [line(width) for width in (64, 36, 34)]
print("\n".join(seen))
assert seen == [
    "hidden width 64: float32 grouped_mm runs, eager runs; bfloat16 grouped_mm runs, eager runs",
    "hidden width 36: float32 grouped_mm runs, eager runs; bfloat16 grouped_mm RuntimeError, eager runs",
    "hidden width 34: float32 grouped_mm RuntimeError, eager runs; bfloat16 grouped_mm RuntimeError, eager runs",
], "transformers or torch has changed"
P
