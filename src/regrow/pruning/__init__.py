"""Pruning: a spec, scores from one calibration pass, a plan, a smaller model.

`spec`, `scorers` and `plan` are light; the rest needs torch, and is imported only when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regrow.pruning.outline import outline
from regrow.pruning.plan import PrunePlan
from regrow.pruning.spec import PruneSpec
from regrow.shapes import shape_for_rate

if TYPE_CHECKING:
    from regrow.pruning.calibration import calibrate, choose_blocks
    from regrow.pruning.prune import prune_model
    from regrow.pruning.scores import Scores

__all__ = [
    "PrunePlan",
    "PruneSpec",
    "Scores",
    "calibrate",
    "choose_blocks",
    "outline",
    "prune_model",
    "shape_for_rate",
]

_HEAVY = {
    "Scores": "regrow.pruning.scores",
    "calibrate": "regrow.pruning.calibration",
    "choose_blocks": "regrow.pruning.calibration",
    "prune_model": "regrow.pruning.prune",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
