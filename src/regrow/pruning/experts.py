"""Expert pruning: of every block's experts those go that give least to the tokens routed to them.

REAP (Lasby et al. 2025, arXiv 2510.13999): an expert's importance is the mean, over the calibration tokens routed to
it, of its router weight times the norm of its output. The rows of the router that belong to removed experts go with
them; tokens are routed to as many experts as before, among those that stay. The same number stays in every block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from regrow.arch import Architecture
from regrow.errors import RunFailed
from regrow.models.layout import block_name, expert_name, split_block_name, split_expert_name
from regrow.pruning.calibration import weights_fingerprint
from regrow.pruning.kernel import Kernel, Progress
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import AnyScores, ExpertScores
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream
from regrow.pruning.width import most_important

_ROUTER = "mlp.gate.weight"


class ExpertKernel(Kernel):
    """Keeps the experts of each block that score highest."""

    def decide(self, plan: PrunePlan, scores: AnyScores | None) -> PrunePlan:
        assert isinstance(scores, ExpertScores)
        return replace(plan, kept_experts=tuple(most_important(block, plan.after.experts) for block in scores.values))

    def _scores(self, values: torch.Tensor, tokens: int, fingerprint: str) -> ExpertScores:
        if not values.isfinite().all():
            raise RunFailed("a score is not finite", where="calibration", hint="the model's weights may be broken")
        return ExpertScores(scorer=self.entry.name, values=values, tokens=tokens, fingerprint=fingerprint)


class RoutedNorm(ExpertKernel):
    """Keeps the experts whose outputs count most for the tokens that are routed to them (REAP)."""

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Progress | None = None,
    ) -> AnyScores:
        assert tokens is not None
        norms, counts = routed_norms(stream, tokens, progress=progress)
        return self._scores(self.importance(norms, counts), tokens.numel(), weights_fingerprint(stream.source))

    def importance(self, norms: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """What the experts [layers, experts] are ranked by, from the sums of norms and the tokens routed to them."""
        # one that no token was routed to gives nothing on this text
        return (norms / counts.clamp(min=1)).float()


class Frequency(RoutedNorm):
    """Keeps the experts that most tokens are routed to."""

    def importance(self, norms: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return counts.float()


class RandomExperts(ExpertKernel):
    """Keeps experts picked by the seed."""

    def measure(
        self, stream: BlockStream, spec: PruneSpec, plan: PrunePlan, tokens: torch.Tensor | None, **options: Any
    ) -> AnyScores:
        generator = torch.Generator().manual_seed(spec.seed)
        return self._scores(torch.rand(plan.before.layers, plan.before.experts, generator=generator), 0, "random")


def routed_norms(
    stream: BlockStream, tokens: torch.Tensor, *, progress: Progress | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """For every expert [layers, experts], float64: the sum of router weight times output norm over the tokens
    [samples, length] that are routed to it, and the number of these tokens.

    Every expert is run once more than the forward pass does, on its own tokens.
    """
    norms, counts = (torch.zeros(stream.layers, stream.arch.experts, dtype=torch.float64) for _ in range(2))
    hidden = stream.embed(tokens)
    for layer, block in stream.blocks():

        def add(module: Any, args: tuple[Any, ...], layer: int = layer) -> None:
            states, chosen, weights = args
            for expert in range(stream.arch.experts):
                rows, slots = (chosen == expert).nonzero(as_tuple=True)
                gate, up = F.linear(states[rows], module.gate_up_proj[expert]).chunk(2, dim=-1)
                output = F.linear(module.act_fn(gate) * up, module.down_proj[expert])
                weighed = output.float().norm(dim=-1) * weights[rows, slots].float()
                norms[layer, expert] += weighed.cpu().double().sum()
                counts[layer, expert] += len(rows)

        block.mlp.experts.register_forward_pre_hook(add)
        hidden = stream.run(block, hidden, out=hidden)
        if progress:
            progress(f"experts: {layer + 1} of {stream.layers} blocks")
    return norms, counts


def keep_experts(state: Mapping[str, torch.Tensor], kept: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """The state dict with the experts of each block that stay, renumbered from 0, and their rows of the router."""
    places = [{old: new for new, old in enumerate(block)} for block in kept]
    after = {}
    for name, tensor in state.items():
        block = split_block_name(name)
        expert = split_expert_name(block[1]) if block else None
        if block is not None and block[1] == _ROUTER:
            after[name] = tensor.index_select(0, torch.tensor(kept[block[0]], device=tensor.device))
        elif block is None or expert is None:
            after[name] = tensor
        elif expert[0] in places[block[0]]:
            after[block_name(block[0], expert_name(places[block[0]][expert[0]], expert[1]))] = tensor
    return after


def keep_config_experts(config: Mapping[str, Any], after: Architecture) -> dict[str, Any]:
    """The config with the number of experts that stay, under the names that it has."""
    assert after.family.experts is not None
    known = after.family.experts.count[0]
    names = [name for name in known if config.get(name) is not None]
    return {**config, **dict.fromkeys(names or known[:1], after.experts)}
