"""Proof of an N:M pattern: every targeted matrix of a checkpoint is looked at, one at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from regrow.errors import InputError
from regrow.methods import is_masked, parse_pattern
from regrow.models.beside import PRUNE_RECORD
from regrow.models.layout import is_block_weight
from regrow.models.load import local_checkpoint
from regrow.models.shards import row_chunks
from regrow.pruning.stream import FolderSource


@dataclass(frozen=True, kw_only=True)
class PatternCheck:
    """What a check found.

    Attributes:
        pattern: `N:M`.
        matrices: linear weights of the blocks that were looked at.
        groups: groups of M neighbours in them.
        violations: matrices that break the pattern, and in how many groups more than N weights are not zero.
        params, nonzero: parameters of the whole model, and those that are not exactly zero.
    """

    pattern: str
    matrices: int
    groups: int
    violations: dict[str, int]
    params: int
    nonzero: int


def check_checkpoint(model: str | Path, pattern: str | None = None) -> PatternCheck:
    """Look at every linear weight of the blocks of a checkpoint folder.

    Args:
        model: the folder.
        pattern: `N:M`, N kept of every M; None takes that of the folder's `regrow_prune.json`.

    Raises `InputError` if there is no pattern to check, or no checkpoint.
    """
    folder = local_checkpoint(model)
    pattern = pattern or _recorded_pattern(folder)
    parsed = parse_pattern(pattern)
    if parsed is None or not 0 < parsed[0] < parsed[1]:
        raise InputError(f"{pattern!r} is not an N:M pattern", where="--pattern", hint="2:4 keeps 2 of every 4")
    n, m = parsed
    source = FolderSource(folder)
    matrices = groups = nonzero = 0
    violations: dict[str, int] = {}
    for name in source.layout:
        for part in row_chunks(source.read([name])[name]):
            nonzero += int(torch.count_nonzero(part))
            if is_block_weight(name):
                broken, count = _broken_groups(part, n, m)
                groups += count
                if broken:
                    violations[name] = violations.get(name, 0) + broken
        matrices += is_block_weight(name)
    params = sum(tensor.numel() for tensor in source.layout.values())
    return PatternCheck(
        pattern=pattern, matrices=matrices, groups=groups, violations=violations, params=params, nonzero=nonzero
    )


def _broken_groups(weight: torch.Tensor, n: int, m: int) -> tuple[int, int]:
    """Groups with more than `n` weights that are not zero, and groups; a rest of less than `m` counts as a group."""
    short = -weight.shape[1] % m
    padded = torch.nn.functional.pad(weight != 0, (0, short))
    kept = padded.unflatten(1, (-1, m)).sum(-1)
    return int((kept > n).sum()), kept.numel()


def _recorded_pattern(folder: Path) -> str:
    """The pattern that the folder's record names. Raises `InputError` for no record, and for a method without one."""
    try:
        method = json.loads((folder / PRUNE_RECORD).read_text())["plan"]["method"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"no {PRUNE_RECORD} says how it was pruned", where=str(folder), hint="give --pattern, e.g. 2:4"
        ) from None
    if not is_masked(method):
        raise InputError(
            f"pruned by {method}, which leaves no N:M pattern to check",
            where=str(folder),
            hint="--loads transformers checks that it loads; --pattern 2:4 checks for a pattern all the same",
        )
    return str(method)
