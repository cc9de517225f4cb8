"""What a pruning method's name says: `depth`, `width`, `experts`, an N:M pattern such as `2:4`, or a user's own."""

from __future__ import annotations

import re

#: Depth and width together.
DEPTH_AND_WIDTH = "depth+width"

DEPTH, WIDTH, EXPERTS = "depth", "width", "experts"

#: Weights that are zero in no N:M pattern, as unstructured pruning leaves them.
SPARSE = "sparse"

#: A model whose original is known and whose method is not.
OTHER = "other"

#: The method of a law that holds for a method that is not said.
ANY = "any"

#: The methods that have a name, beside the N:M patterns.
NAMED = (DEPTH, WIDTH, EXPERTS, DEPTH_AND_WIDTH, SPARSE, OTHER, ANY)

_PATTERN = re.compile(r"(\d+):(\d+)")


def parse_pattern(method: str) -> tuple[int, int] | None:
    """`2:4` -> (2, 4): N kept of every M; None for a method that is not N:M."""
    found = _PATTERN.fullmatch(str(method))
    return (int(found[1]), int(found[2])) if found else None


def is_named(method: str) -> bool:
    """Whether a method is one that regrow gives a name: also of runs that another tool pruned, and `any`."""
    pattern = parse_pattern(method)
    if pattern is not None:
        return 0 < pattern[0] < pattern[1]
    return method in NAMED


def is_masked(method: str) -> bool:
    """Whether a method zeroes weights in place (`2:4`), so that the matrices keep their shape."""
    return parse_pattern(method) is not None


def keeps_zeros(method: str) -> bool:
    """Whether training keeps the exact zeros of a method's weights: those of N:M, and of unstructured pruning."""
    return is_masked(method) or method == SPARSE
