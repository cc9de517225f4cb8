"""What a checkpoint was before it was pruned: by regrow's record beside it, by its weights, or by what the user says.

Other tools leave no record. What N:M or unstructured pruning did shows in the weights, which hold exact zeros; what
depth or width pruning did does not, and only the user can say it.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from regrow.errors import InputError, one_of
from regrow.methods import DEPTH, DEPTH_AND_WIDTH, EXPERTS, OTHER, SPARSE, WIDTH, is_masked, parse_pattern
from regrow.models.beside import PRUNE_RECORD
from regrow.models.folder import CheckpointWarning
from regrow.models.masks import Zeros, find_zeros, zero_masks
from regrow.runs import CONTROL

#: What `--method` may say beside an N:M pattern.
METHODS = (DEPTH, WIDTH, DEPTH_AND_WIDTH, EXPERTS, SPARSE, OTHER, CONTROL)

#: From this share of exact zeros on, somebody has put them there: a dense model has next to none.
_PRUNED_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a checkpoint was before it was pruned, as `regrow prune` wrote beside it.

    Attributes:
        method: `depth`, `width`, `depth+width`, `experts` or N:M.
        params_before: parameters of the unpruned model.
        model: folder or Hub name of the unpruned model.
        trained_tokens: tokens that the pruned model has been trained on since.
    """

    method: str
    params_before: int
    model: str
    trained_tokens: int = 0


def read_origin(folder: Path) -> Origin | None:
    """The origin of a pruned checkpoint; None for one that regrow has not pruned.

    Raises `InputError` if the file is there and can't be read.
    """
    path = folder / PRUNE_RECORD
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        plan = content["plan"]
        return Origin(
            method=plan["method"],
            params_before=plan["params_before"],
            model=content["model"],
            trained_tokens=content.get("trained_tokens", 0),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError("not what `regrow prune` writes", where=str(path), hint="prune the model again") from None


def record_after(folder: Path, *, tokens: int) -> dict[str, dict[str, Any]]:
    """The record of pruning for a model that was trained from the one in `folder`, by file name.

    It says on how many tokens the pruned model was trained since. Empty where there is no record.
    """
    path = folder / PRUNE_RECORD
    if not path.exists():
        return {}
    return {PRUNE_RECORD: {**json.loads(path.read_text()), "trained_tokens": tokens}}


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How a model was pruned, and how that is known.

    Attributes:
        method: `depth`, `width`, `depth+width`, N:M, `sparse`, `other`, or `none` for an unpruned model.
        source: `record`, `weights`, `asked` (by the user), or `nothing` that says otherwise.
        keeps_zeros: whether the exact zeros of its weights are to stay through training.
    """

    method: str
    source: str
    keeps_zeros: bool


def how_pruned(model: nn.Module, origin: Origin | None, *, asked: str | None, has_original: bool, where: str) -> Pruned:
    """How a loaded model was pruned.

    Args:
        origin: of regrow's record, if there is one.
        asked: what the user says (`--method`).
        has_original: whether the unpruned model is given.
        where: the folder, for messages.

    Raises `InputError` if record, weights and user contradict each other, or if nothing says how the zeros of the
    weights came about.
    """
    if origin is not None:
        if asked not in (None, origin.method):
            raise InputError(
                f"{PRUNE_RECORD} says {origin.method}, not {asked}", where="--method", hint="leave --method out"
            )
        return Pruned(method=origin.method, source="record", keeps_zeros=is_masked(origin.method))
    zeros = find_zeros(model)
    many = zeros.share >= _PRUNED_SHARE
    if asked is not None:
        _check_asked(model, asked, zeros, has_original)
        return Pruned(method=asked, source="asked", keeps_zeros=asked != CONTROL and (many or asked == SPARSE))
    if zeros.pattern is not None:
        method = f"{zeros.pattern[0]}:{zeros.pattern[1]}"
        warnings.warn(
            f"{where}: all {zeros.matrices} matrices of the blocks are {method} sparse and no record says so: "
            f"their zeros are kept and the run is recorded as {method}; --method none would train the zeros away",
            CheckpointWarning,
            stacklevel=3,
        )
        return Pruned(method=method, source="weights", keeps_zeros=True)
    if many:
        partly = f" ({zeros.patterned} of {zeros.matrices} matrices keep an N:M pattern)" if zeros.patterned else ""
        raise InputError(
            f"{zeros.share:.1%} of the blocks' weights are exactly zero{partly}, and no record says why",
            where=where,
            hint="--method sparse keeps the zeros, --method none trains them away",
        )
    return Pruned(method=OTHER if has_original else CONTROL, source="nothing", keeps_zeros=False)


def _check_asked(model: nn.Module, asked: str, zeros: Zeros, has_original: bool) -> None:
    pattern = parse_pattern(asked)
    if pattern is not None:
        zero_masks(model, n=pattern[0], m=pattern[1])  # raises if a matrix does not keep it
    elif one_of(asked, METHODS, what="method", where="--method") == SPARSE and not zeros.share:
        raise InputError("no weight of the blocks is exactly zero", where="--method", hint="leave --method out")
    elif asked in (DEPTH, WIDTH, DEPTH_AND_WIDTH, EXPERTS, OTHER) and not has_original:
        raise InputError(
            f"{asked} needs the size of the unpruned model",
            where="--method",
            hint="give its folder with --original",
        )
