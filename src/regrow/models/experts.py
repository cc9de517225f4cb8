"""The weights of experts: one matrix each in a checkpoint's files, all of a block stacked in transformers' modules.

    in the files (E is an expert's number)                       in a block of transformers
    experts.E.gate_proj.weight, up_proj.weight [width, hidden]   experts.gate_up_proj [experts, 2 * width, hidden]
    experts.E.down_proj.weight [hidden, width]                   experts.down_proj [experts, hidden, width]

regrow names parameters as the files do; a model without experts has the same names in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

_STACKED = re.compile(r"(.*mlp\.experts)\.(gate_up_proj|down_proj)")
_STORED = re.compile(r"(.*mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def as_stored(parameters: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Parameters as a checkpoint's files name them: every expert's matrices by themselves, as views."""
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in parameters:
        found = _STACKED.fullmatch(name)
        if found is None:
            stored[name] = tensor
            continue
        for expert, weights in enumerate(tensor):
            place = f"{found[1]}.{expert}"
            if found[2] == "down_proj":
                stored[f"{place}.down_proj.weight"] = weights
            else:
                gate, up = weights.chunk(2)
                stored[f"{place}.gate_proj.weight"], stored[f"{place}.up_proj.weight"] = gate, up
    return stored


def as_built(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `as_stored`, with new tensors for the experts: what transformers' modules take."""
    built: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[str, dict[int, torch.Tensor]]] = {}
    for name, tensor in state.items():
        found = _STORED.fullmatch(name)
        if found is None:
            built[name] = tensor
        else:
            experts.setdefault(found[1], {}).setdefault(found[3], {})[int(found[2])] = tensor
    for place, kinds in experts.items():
        gate, up, down = (
            [kinds[kind][e] for e in sorted(kinds[kind])] for kind in ("gate_proj", "up_proj", "down_proj")
        )
        built[f"{place}.gate_up_proj"] = torch.stack([torch.cat(pair) for pair in zip(gate, up, strict=True)])
        built[f"{place}.down_proj"] = torch.stack(down)
    return built
