"""The precision of a run whose spec leaves it to the hardware."""

from __future__ import annotations

import torch

from regrow.errors import InputError
from regrow.models.precision import has_fast_bf16


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
