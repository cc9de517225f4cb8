"""The ladder: four sizes of one family, and exactly how they were trained.

`tiny-llama` has the architecture of Llama-3.2 (grouped-query attention, rotary positions, SwiGLU, RMSNorm, tied
embeddings) at 0.2 to 3 million parameters. Head dimensions are multiples of 16, because bf16 attention on CPUs is
about half as fast otherwise; every size is at least 8 blocks deep, so that dropping 2, 3 or 4 of them is a pruning
rate near 0.17, 0.25 and 0.33 at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

LLAMA = "tiny-llama"
#: The architecture of Qwen-2.5: queries, keys and values with biases, text split as Qwen splits it.
QWEN2 = "tiny-qwen2"
VOCAB_SIZE = 2048
SEQUENCE_LENGTH = 256
END_OF_TEXT = "<|end_of_text|>"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One size of a family, `LLAMA` or `QWEN2`. Widths in channels; `peak_lr` tops the pretraining schedule."""

    name: str
    family: str = LLAMA
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    peak_lr: float


RUNGS = (
    Rung(name="tiny-llama-0.2m", hidden=32, layers=8, heads=2, kv_heads=1, head_dim=16, intermediate=128, peak_lr=7e-3),
    Rung(name="tiny-llama-0.3m", hidden=48, layers=8, heads=4, kv_heads=2, head_dim=16, intermediate=112, peak_lr=6e-3),
    Rung(name="tiny-llama-0.6m", hidden=64, layers=9, heads=4, kv_heads=2, head_dim=16, intermediate=192, peak_lr=5e-3),
    Rung(name="tiny-llama-3m", hidden=128, layers=11, heads=4, kv_heads=2, head_dim=32, intermediate=544, peak_lr=3e-3),
)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How every rung was trained: AdamW, warm-up, then cosine to zero.

    `tokens` is the total trained on (several passes over the train split), `batch_blocks` the blocks of
    `SEQUENCE_LENGTH` tokens in one optimizer step.
    """

    tokens: int = 16_384_000
    batch_blocks: int = 32
    warmup_share: float = 0.03
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0

    @property
    def steps(self) -> int:
        """Optimizer steps: whole batches that fit in `tokens`."""
        return self.tokens // (self.batch_blocks * SEQUENCE_LENGTH)


PRETRAINING = Pretraining()


def rung(name: str) -> Rung:
    """The rung of this name. Raises `InputError` with the nearest name if there is none."""
    from regrow.errors import one_of

    by_name = {r.name: r for r in RUNGS}
    return by_name[one_of(name, by_name, what="ladder model")]
