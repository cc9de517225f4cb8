"""The ladder: two families of tiny models, and exactly how they were trained.

`tiny-llama` has the architecture of Llama-3.2 (grouped-query attention, rotary positions, SwiGLU, RMSNorm, tied
embeddings) at 0.2 to 3 million parameters; `tiny-qwen2` that of Qwen-2.5, whose queries, keys and values have biases,
at 0.2 to 1.4 million. Head dimensions are multiples of 16, because bf16 attention on CPUs is about half as fast
otherwise; every size is at least 8 blocks deep, so that dropping 2, 3 or 4 of them is a pruning rate near 0.17, 0.25
and 0.33 (0.15, 0.22 and 0.30 for `tiny-qwen2-0.2m`).
"""

from __future__ import annotations

from dataclasses import dataclass

LLAMA = "tiny-llama"
QWEN2 = "tiny-qwen2"
VOCAB_SIZE = 2048
SEQUENCE_LENGTH = 256
END_OF_TEXT = "<|end_of_text|>"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One size of one family. Widths in channels; `peak_lr` is the top of the pretraining schedule."""

    name: str
    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    peak_lr: float


RUNGS = tuple(
    Rung(
        name=f"{family}-{size}",
        family=family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        peak_lr=peak_lr,
    )
    for family, size, hidden, layers, heads, kv_heads, head_dim, intermediate, peak_lr in (
        (LLAMA, "0.2m", 32, 8, 2, 1, 16, 128, 7e-3),
        (LLAMA, "0.3m", 48, 8, 4, 2, 16, 112, 6e-3),
        (LLAMA, "0.6m", 64, 9, 4, 2, 16, 192, 5e-3),
        (LLAMA, "3m", 128, 11, 4, 2, 32, 544, 3e-3),
        (QWEN2, "0.2m", 48, 8, 3, 1, 16, 80, 5e-3),
        (QWEN2, "0.6m", 64, 9, 4, 2, 16, 192, 4e-3),
        (QWEN2, "1.4m", 96, 10, 6, 2, 16, 320, 3e-3),
    )
)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How the rungs of a family were trained: AdamW, warm-up, then cosine to zero.

    `tokens` is the total trained on (the train split has 10.6 million), `batch_blocks` the blocks of `SEQUENCE_LENGTH`
    tokens in one optimizer step.
    """

    tokens: int
    batch_blocks: int
    warmup_share: float = 0.03
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0

    @property
    def steps(self) -> int:
        """Optimizer steps: whole batches that fit in `tokens`."""
        return self.tokens // (self.batch_blocks * SEQUENCE_LENGTH)


#: 2,000 steps for either family. At a few million tokens the loss is bound by the number of steps, so the half-sized
#: batches of the Qwens lose less than half as many steps would.
PRETRAINING = {
    LLAMA: Pretraining(tokens=16_384_000, batch_blocks=32),
    QWEN2: Pretraining(tokens=8_192_000, batch_blocks=16),
}


def family_rungs(family: str) -> tuple[Rung, ...]:
    """The sizes of `LLAMA` or `QWEN2`, the smallest first."""
    return tuple(each for each in RUNGS if each.family == family)


def rung(name: str) -> Rung:
    """The rung of this name. Raises `InputError` with the nearest name if there is none."""
    from regrow.errors import one_of

    by_name = {r.name: r for r in RUNGS}
    return by_name[one_of(name, by_name, what="ladder model")]
