"""What each supported family of models is: one description that counts, pruning and checks follow. Light: no torch."""

from regrow.families.axes import Axis, block_axes, linear_inputs, linears, model_axes
from regrow.families.family import Experts, Family, Flag, Multipliers, Norms
from regrow.families.table import FAMILIES, SUPPORTED_MODEL_TYPES, family_of
from regrow.families.windows import Windows

__all__ = [
    "FAMILIES",
    "SUPPORTED_MODEL_TYPES",
    "Axis",
    "Experts",
    "Family",
    "Flag",
    "Multipliers",
    "Norms",
    "Windows",
    "block_axes",
    "family_of",
    "linear_inputs",
    "linears",
    "model_axes",
]
