"""What a program that serves models is known to do with a model's shape. Light: no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

from regrow.arch import Architecture

#: `refuses`: the program does not load the model. `differs`: it loads, and gives other tokens. `note`: it works, but
#: less well.
Kind = Literal["refuses", "differs", "note"]


class Limit(NamedTuple):
    """A known limit that a model meets; `source` says where it was read."""

    kind: Kind
    what: str
    source: str


class Matrix(NamedTuple):
    """A linear weight of a block as servers hold it: its inputs (the length of a row) and its outputs."""

    inputs: int
    outputs: int


def matrices(arch: Architecture) -> dict[str, Matrix]:
    """The matrices of a block, joined as servers join them, by what they compute; those of one expert in a mixture."""
    query, key = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    return {
        "query/key/value": Matrix(arch.hidden, query + 2 * key),
        "attention output": Matrix(query, arch.hidden),
        "gate/up": Matrix(arch.hidden, 2 * arch.intermediate),
        "down": Matrix(arch.intermediate, arch.hidden),
    }


def listed(names: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
