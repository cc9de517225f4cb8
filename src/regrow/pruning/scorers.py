"""The table of scorers: the facts of each that need no torch, and where its kernel is.

A scorer is the measure that decides what goes. A new one is an entry here and a kernel, a class that measures, decides,
prunes, and says how much memory it needs (`regrow.pruning.kernel`). Specs, plans, model cards, memory estimates and the
command line read this table; none of them knows a scorer by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from regrow.errors import one_of
from regrow.methods import parse_pattern

#: The kind of every N:M method.
N_M = "N:M"


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What is known of a scorer before torch is loaded.

    Attributes:
        name: what `PruneSpec.scorer` and `--scorer` call it.
        kind: `depth`, `width` or `N:M`: the methods it serves.
        description: for the model card, after "chosen by", with its source.
        kernel: its class, a `regrow.pruning.kernel.Kernel`, or where that lies, as `module:class`: torch is then loaded
            only when the scorer is used.
        reads_text: whether it needs calibration text.
        scores: which scores it goes by. `shared`: the activation statistics of one pass over the text, which serve all
            scorers that say so, at every rate. `own`: scores of its own. None: none; it prunes by what it sees on the
            way, or by the weights alone.
        on_the_way: whether it decides while the blocks are pruned, on inputs that the pruned blocks before give. It may
            then still go by stored scores in place of text, if `scores` says which. False: a plan names all that goes
            before the first block is pruned.
        iterative: whether it can remove one block, measure again, and remove the next.
        refits: whether it solves weights that stay again, so that carrying out a decided plan reads text too.
    """

    name: str
    kind: Literal["depth", "width", "experts", "N:M"]
    description: str
    kernel: str | Callable[[Scorer], Any]
    reads_text: bool = True
    scores: Literal["shared", "own"] | None = "shared"
    on_the_way: bool = False
    iterative: bool = False
    refits: bool = False


_ENTRIES = (
    Scorer(
        name="block-influence",
        kind="depth",
        description="Block Influence (ShortGPT, arXiv 2403.03853)",
        kernel="regrow.pruning.removal:BlockInfluence",
        iterative=True,
    ),
    Scorer(
        name="perplexity",
        kind="depth",
        description="the loss without each block (Shortened LLaMA, arXiv 2402.02834)",
        kernel="regrow.pruning.removal:Perplexity",
        scores="own",
        iterative=True,
    ),
    Scorer(
        name="angular",
        kind="depth",
        description="the angle across consecutive blocks (Gromov et al., arXiv 2403.17887)",
        kernel="regrow.pruning.removal:Angular",
        scores="own",
    ),
    Scorer(
        name="random",
        kind="depth",
        description="chance",
        kernel="regrow.pruning.chance:RandomDepth",
        reads_text=False,
    ),
    Scorer(
        name="activation",
        kind="width",
        description="norms of activations (Minitron, arXiv 2407.14679)",
        kernel="regrow.pruning.calibration:Activation",
    ),
    Scorer(
        name="least-squares",
        kind="width",
        description="norms of activations (Minitron, arXiv 2407.14679), with down_proj solved again by least squares",
        kernel="regrow.pruning.refit:LeastSquares",
        refits=True,
    ),
    Scorer(
        name="random",
        kind="width",
        description="chance",
        kernel="regrow.pruning.chance:RandomWidth",
        reads_text=False,
    ),
    Scorer(
        name="routed-norm",
        kind="experts",
        description="the router's weight times the norm of the expert's output (REAP, arXiv 2510.13999)",
        kernel="regrow.pruning.experts:RoutedNorm",
        scores="own",
    ),
    Scorer(
        name="frequency",
        kind="experts",
        description="the number of tokens that are routed to it",
        kernel="regrow.pruning.experts:Frequency",
        scores="own",
    ),
    Scorer(
        name="random",
        kind="experts",
        description="chance",
        kernel="regrow.pruning.experts:RandomExperts",
        reads_text=False,
    ),
    Scorer(
        name="sparsegpt",
        kind="N:M",
        description="SparseGPT (arXiv 2301.00774), which also updates the weights that stay",
        kernel="regrow.pruning.sparsegpt:SparseGPT",
        scores=None,
        on_the_way=True,
    ),
    Scorer(
        name="wanda",
        kind="N:M",
        description="|weight| times the norm of its input (Wanda, arXiv 2306.11695)",
        kernel="regrow.pruning.semistructured:Wanda",
        on_the_way=True,
    ),
    Scorer(
        name="magnitude",
        kind="N:M",
        description="|weight|",
        kernel="regrow.pruning.semistructured:Magnitude",
        reads_text=False,
        scores=None,
        on_the_way=True,
    ),
)

#: Every scorer by kind and name; the first of a kind is its default. `random` is the baseline for the others.
SCORERS: dict[tuple[str, str], Scorer] = {(entry.kind, entry.name): entry for entry in _ENTRIES}


def kind_of(method: str) -> str:
    """`depth`, `width` and `experts` are kinds themselves; every pattern, such as `2:4`, is of the kind `N:M`."""
    return N_M if parse_pattern(method) else method


def scorers_of(kind: str) -> tuple[Scorer, ...]:
    """The scorers of a kind, the default first."""
    return tuple(entry for entry in SCORERS.values() if entry.kind == kind)


def find_scorer(method: str, name: str) -> Scorer:
    """The scorer of this name for a method such as `depth` or `2:4`. Raises `InputError` for an unknown name."""
    kind = kind_of(method)
    known = [entry.name for entry in scorers_of(kind)]
    return SCORERS[kind, one_of(name, known, what=f"scorer for {method}", where="scorer")]
