"""The precision of a run whose spec leaves it to the hardware."""

from __future__ import annotations

import torch

from regrow.errors import InputError


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


def resolve_precision(asked: str, device: torch.device | str, *, recorded: str | None = None) -> str:
    """The precision (`bf16` or `fp32`) in which a run is computed on this device.

    Args:
        asked: the spec's precision; `auto` leaves the choice to the hardware.
        recorded: the precision of the unfinished run that is resumed; None for a new run.

    Raises `InputError` if `auto` gives another precision here than the unfinished run had: the two parts of its curve
    would not compare.
    """
    if asked != "auto":
        return asked
    here = "bf16" if has_fast_bf16(device) else "fp32"
    if recorded is not None and recorded != here:
        raise InputError(
            f"the run was begun in {recorded}, and this hardware would use {here}",
            where="--precision",
            hint="resume it on the hardware it began on, or start again with --precision set",
        )
    return here
