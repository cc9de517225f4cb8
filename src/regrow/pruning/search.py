"""The search for the width shape with the lowest loss, which is measured on calibration text, block by block.

The candidates are those of `regrow.shapes.shapes_for_rate`: the same rate, other proportions of the axes. Minitron
(arXiv 2407.14679, section 2.4) searches the same way, with a short training of each candidate that is left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from regrow.pruning.plan import Candidate, PrunePlan
from regrow.pruning.stream import BlockStream, Source
from regrow.pruning.width import Kept, narrow_config, slice_state

#: Tokens at most that shapes are compared on: each is a forward pass.
SEARCH_TOKENS = 4096


class NarrowedSource:
    """The parameters of a width-pruned model. They are cut as they are read, so the model is never held whole."""

    def __init__(self, source: Source, plan: PrunePlan) -> None:
        self.arch = plan.after
        self.config = type(source.config).from_dict(narrow_config(source.config.to_dict(), plan.after))
        self.config._attn_implementation = source.config._attn_implementation
        self._source, self._before = source, plan.before
        self._kept = Kept(hidden=plan.kept_hidden, intermediate=plan.kept_intermediate, kv_heads=plan.kept_kv_heads)
        self.layout: Mapping[str, torch.Tensor] = slice_state(source.layout, self._kept, plan.before)

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        return slice_state(self._source.read(names), self._kept, self._before)


def search(
    stream: BlockStream, plans: Sequence[PrunePlan], tokens: torch.Tensor, *, progress: Callable[[str], None]
) -> PrunePlan:
    """The decided plan whose model has the lowest loss on tokens [samples, length]; it lists all shapes tried.

    Cost: one forward pass per plan over `SEARCH_TOKENS` at most, one block in memory at a time.
    """
    tried, tokens = [], tokens[: max(1, SEARCH_TOKENS // tokens.shape[1])]
    for number, plan in enumerate(plans, 1):
        narrowed = stream.over(NarrowedSource(stream.source, plan))
        loss = walk_loss(narrowed, tokens)
        tried.append(
            Candidate(
                hidden=plan.after.hidden,
                intermediate=plan.after.intermediate,
                kv_heads=plan.after.kv_heads,
                pruning_rate=plan.pruning_rate,
                loss=loss,
            )
        )
        shape = f"hidden {plan.after.hidden}, intermediate {plan.after.intermediate}, KV heads {plan.after.kv_heads}"
        progress(f"shape {number} of {len(plans)}: {shape}: loss {loss:.4f}")
    best = min(range(len(plans)), key=lambda index: tried[index].loss)
    return replace(plans[best], candidates=tuple(tried))


def walk_loss(stream: BlockStream, tokens: torch.Tensor) -> float:
    """The loss, nats/token, of a model on tokens [samples, length], one block in memory at a time."""
    hidden = stream.embed(tokens)
    for _, block in stream.blocks():
        hidden = stream.run(block, hidden, out=hidden)
    return stream.loss(hidden, tokens)
