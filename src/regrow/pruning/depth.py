"""Depth pruning: whole blocks go.

ShortGPT (Men et al. 2024, arXiv 2403.03853): the blocks with the least Block Influence, all picked in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from regrow.families import family_of
from regrow.models.layout import block_name, split_block_name


def least_important(importance: torch.Tensor, count: int) -> tuple[int, ...]:
    """Indices, ascending, of the `count` smallest of `importance` [layers]; of equals the first goes."""
    return tuple(sorted(importance.argsort(stable=True)[:count].tolist()))


def drop_blocks(state: Mapping[str, torch.Tensor], dropped: Sequence[int], layers: int) -> dict[str, torch.Tensor]:
    """The state dict of a model of `layers` blocks without the dropped ones, the rest renumbered from 0."""
    place = {old: new for new, old in enumerate(layer for layer in range(layers) if layer not in set(dropped))}
    kept = {}
    for name, tensor in state.items():
        block = split_block_name(name)
        if block is None:
            kept[name] = tensor
        elif block[0] in place:
            kept[block_name(place[block[0]], block[1])] = tensor
    return kept


def drop_config_blocks(config: Mapping[str, Any], dropped: Sequence[int]) -> dict[str, Any]:
    """The config without the dropped blocks: their number, and every field that says something per block.

    The family lists these fields: those with an entry for each block, and those that hold the index of a block, such as
    Qwen's `max_window_layers` (the first block with a sliding window).
    """
    family, layers, gone = family_of(config["model_type"]), config["num_hidden_layers"], set(dropped)
    changed = dict(config, num_hidden_layers=layers - len(gone))
    for key in family.block_lists:
        if config.get(key) is not None:
            changed[key] = [kind for layer, kind in enumerate(config[key]) if layer not in gone]
    for key in family.block_indices:
        if config.get(key) is not None:
            changed[key] = config[key] - sum(layer < config[key] for layer in gone)
    return changed
