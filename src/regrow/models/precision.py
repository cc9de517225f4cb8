"""What the hardware multiplies fast."""

from __future__ import annotations

import torch


def has_fast_bf16(device: torch.device | str) -> bool:
    """Whether matrices multiply in bf16 natively here.

    Where they do not, bf16 still works and is slow: on an AVX2 CPU a product of 2048 x 2048 matrices takes about 400
    times as long as in fp32 with torch 2.13.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(feature, False) for feature in ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16"))
    return False
