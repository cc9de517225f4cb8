"""The order in which a run sees its blocks: its own shuffle, exact and resumable; and what it has seen by then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from regrow.data.blocks import Blocks
from regrow.errors import InputError


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

    def unique(self, positions: int) -> int:
        """Different blocks among the first `positions`."""
        return min(positions, self.blocks)

    def times(self, positions: int) -> np.ndarray:
        """How often each block is among the first `positions`, [blocks]."""
        epochs, rest = divmod(positions, self.blocks)
        times = np.full(self.blocks, epochs, dtype=np.int64)
        if rest:
            times[_permutation(self.blocks, self.seed, epochs)[:rest]] += 1
        return times


@dataclass(frozen=True, kw_only=True)
class SeenDocument:
    """A document that a run has seen: its length in tokens, and the tokens trained on, repeats included."""

    name: str
    tokens: int
    tokens_seen: int


def documents_seen(blocks: Blocks, *, seed: int, tokens: int) -> list[SeenDocument]:
    """The documents of which a run of this data seed has seen a token by `tokens`, in the order of the data.

    Raises `InputError` for tokens that are not whole blocks, or blocks that do not say where documents begin.
    """
    table, length = blocks.table, blocks.sequence_length
    if table is None or blocks.index is not None:
        raise InputError("these blocks do not say where documents begin", hint="give all training blocks of a run")
    if tokens % length:
        raise InputError(f"{tokens} tokens are not whole blocks of {length}", hint="give a count that the run reached")
    times = BlockOrder(blocks=len(blocks), seed=seed).times(tokens // length)
    # between neighbouring edges lies one piece of one document in one block
    whole = len(blocks) * length
    edges = np.union1d(table.starts[table.starts < whole], np.arange(0, whole + 1, length))
    begin, size = edges[:-1], np.diff(edges)
    document = np.searchsorted(table.starts, begin, side="right") - 1
    seen = np.zeros(len(table), dtype=np.int64)
    np.add.at(seen, document, size * times[begin // length])
    sizes = np.diff(np.append(table.starts, table.length))
    return [
        SeenDocument(name=table.name(d), tokens=int(sizes[d]), tokens_seen=int(seen[d]))
        for d in np.flatnonzero(seen).tolist()
    ]


def repetition(blocks: Blocks, *, tokens: int) -> str | None:
    """A warning for a run of `tokens` that sees data more than once; None if it does not."""
    if tokens <= blocks.n_tokens:
        return None
    return (
        f"the run repeats its data: {tokens:,} tokens are {tokens / blocks.n_tokens:.2f} passes over the "
        f"{blocks.n_tokens:,} unique training tokens; a law fitted to it counts repeated tokens as new ones"
    )
