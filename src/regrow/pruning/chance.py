"""Pruning by chance: the baseline that every scorer must beat."""

from __future__ import annotations

from typing import Any

import torch

from regrow.arch import Architecture
from regrow.pruning.kernel import DepthKernel, Kernel, WidthKernel
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import Scores
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream


def random_scores(arch: Architecture, *, seed: int) -> Scores:
    """Uniform noise in the shapes of `Scores`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "block_influence": (arch.layers,),
        "attention_input": (arch.layers, arch.hidden),
        "attention_output": (arch.layers, arch.heads * arch.head_dim),
        "mlp_input": (arch.layers, arch.hidden),
        "mlp_activation": (arch.layers, 0 if arch.experts else arch.intermediate),
        "final_norm": (arch.hidden,),
    }
    noise = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return Scores(**noise, tokens=0, fingerprint="random", scorer=None)


class _Random(Kernel):
    def measure(
        self, stream: BlockStream, spec: PruneSpec, plan: PrunePlan, tokens: torch.Tensor | None, **options: Any
    ) -> Scores:
        return random_scores(plan.before, seed=spec.seed)


class RandomDepth(_Random, DepthKernel):
    """Removes blocks picked by the seed."""


class RandomWidth(_Random, WidthKernel):
    """Keeps channels, neurons and KV groups picked by the seed."""
