"""The order in which a run sees its blocks: its own shuffle, exact and resumable."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def _permutation(blocks: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(blocks)


@dataclass(frozen=True, kw_only=True)
class BlockOrder:
    """A shuffle of `blocks` blocks, another one in every epoch, fixed by `seed`.

    The position is the only state: `order[i]` is the index of the i-th block the run sees, whatever came before, so
    a resumed run continues exactly where it stopped.
    """

    blocks: int
    seed: int

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.blocks)
        return int(_permutation(self.blocks, self.seed, epoch)[offset])

    def epochs(self, positions: int) -> float:
        """Passes over the data after so many blocks; above 1 the run has repeated data."""
        return positions / self.blocks
