"""The heavy half of a scorer: it measures, decides, prunes, and says how much memory it needs.

`regrow.pruning.scorers` has the light half. A kernel for depth or width extends `DepthKernel` or `WidthKernel` here and
usually overrides `measure` alone; one for N:M extends `regrow.pruning.sparsify.SparsityKernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module

import torch

from regrow.arch import Architecture
from regrow.pruning.depth import least_important
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scorers import Scorer, find_scorer
from regrow.pruning.scores import AnyScores, DepthScores, Scores
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream
from regrow.pruning.width import most_important

Progress = Callable[[str], None]


@dataclass
class Notes:
    """Facts about the pruning of weights that belong in the record.

    Attributes:
        inputs: `propagated` (each block's inputs come from pruned blocks), `dense` (from scores of the unpruned
            model) or None (the scorer looks at the weights alone).
        damping: layers whose Hessian needed more than the usual damping, and how much (SparseGPT).
        dead_inputs: layers with inputs that were always zero, and how many (SparseGPT).
    """

    inputs: str | None = None
    damping: dict[str, float] = field(default_factory=dict)
    dead_inputs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a scorer holds in memory beside a block and one copy of the text's hidden states.

    Attributes:
        samples: calibration samples that it reads, at most; None: all of them.
        walks: hidden states of the whole text that are held at once.
        per_token: further values held for each token of the text.
        solver: bytes of matrices and of weights that are worked on.
        loss: whether it measures a loss.
        narrowed: whether it walks a narrower model before that is written.
    """

    samples: int | None = None
    walks: int = 1
    per_token: int = 0
    solver: int = 0
    loss: bool = False
    narrowed: bool = False


class Kernel:
    """What every scorer can do. A scorer overrides what it does differently.

    Attributes:
        entry: the scorer's entry in the table.
    """

    def __init__(self, entry: Scorer) -> None:
        self.entry = entry

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Progress | None = None,
    ) -> AnyScores | None:
        """The scores that decide; None if the kernel decides while the blocks are pruned.

        Args:
            stream: the unpruned model.
            spec: what the user asks.
            plan: the outline, with the shapes before and after.
            tokens: calibration tokens [samples, length]; never None where the table says that it reads text.
            progress: called with a line of text at each step.
        """
        return None

    def decide(self, plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
        """The outline with the indices of what goes or stays, by the scores that `measure` gave."""
        return plan

    def prune(
        self,
        stream: BlockStream,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        scores: Scores | None = None,
        notes: Notes | None = None,
        progress: Progress | None = None,
    ) -> Iterator[dict[str, torch.Tensor]]:
        """For each block in turn, the tensors with new values (not only cut), by name, as they will be stored.

        Args:
            stream: the unpruned model.
            plan: the decided plan.
            tokens: calibration tokens [samples, length], if there are any.
            scores: shared scores in their place, if there are any.
            notes: filled with what happened.
            progress: called with a line of text at each step.
        """
        return iter([{} for _ in range(stream.layers)])

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        """Memory for calibration text of `samples` of `length` tokens; 0 samples where no text is read."""
        # an iterative pass keeps the states before a block while those after it are made
        return Needs(walks=2 if iterative else 1)


class DepthKernel(Kernel):
    """Removes the blocks that score lowest."""

    def decide(self, plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
        most = plan.before.layers - plan.after.layers
        # an outline counts on the blocks with the larger caches; once it is known which go, fewer may do
        for count in range(1 if plan.caches_differ else most, most):
            fewer = self._dropping(plan, scores, count)
            if fewer.fits:
                return fewer
        return self._dropping(plan, scores, most)

    def _dropping(self, plan: PrunePlan, scores: AnyScores | None, count: int) -> PrunePlan:
        after = plan.before.with_shape(layers=plan.before.layers - count)
        if isinstance(scores, DepthScores):
            return replace(plan, after=after, dropped_layers=scores.dropped(count))
        assert isinstance(scores, Scores)
        return replace(plan, after=after, dropped_layers=least_important(scores.block_influence, count))


class WidthKernel(Kernel):
    """Keeps the channels, neurons and KV groups that score highest."""

    def decide(self, plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
        before, after = plan.before, plan.after
        assert isinstance(scores, Scores)
        hidden = intermediate = kv_heads = None
        if after.hidden < before.hidden:
            hidden = most_important(scores.hidden(), after.hidden)
        if after.intermediate < before.intermediate:
            intermediate = tuple(most_important(layer, after.intermediate) for layer in scores.mlp_activation)
        if after.kv_heads < before.kv_heads:
            kv_heads = tuple(most_important(layer, after.kv_heads) for layer in scores.kv_groups(before))
        return replace(plan, kept_hidden=hidden, kept_intermediate=intermediate, kept_kv_heads=kv_heads)


def kernel_of(method: str, scorer: str) -> Kernel:
    """The kernel of a method's scorer. Raises `InputError` for an unknown scorer."""
    return load_kernel(find_scorer(method, scorer))


def load_kernel(entry: Scorer) -> Kernel:
    """The kernel of an entry of the table, its module imported if need be."""
    make = entry.kernel
    if isinstance(make, str):
        module, _, name = make.partition(":")
        make = getattr(import_module(module), name)
    kernel: Kernel = make(entry)
    return kernel
