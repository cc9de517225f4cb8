"""Load the model and the text of a run, and check that they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regrow.data import Blocks, read_blocks, read_split
from regrow.errors import InputError
from regrow.evaluation import check_vocabulary
from regrow.models import architecture_of
from regrow.models.beside import Beside, beside
from regrow.models.load import load_model, load_tokenizer, local_checkpoint
from regrow.models.masks import zero_masks
from regrow.training.processes import processes
from regrow.training.spec import TrainSpec

if TYPE_CHECKING:
    from regrow.scores.harness import Harness


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """The model, the text and the other inputs of a run.

    Attributes:
        model: a causal LM with fp32 weights; it is trained in place (in bf16 autocast where asked). Load it in fp32:
            `.to()` from bf16 would leave the rotary frequencies rounded.
        train, held_out: packed blocks of the spec's sequence length.
        masks: weights kept at zero, by parameter name; checked at every evaluation.
        teacher: a model of the same vocabulary to distil from.
        tokenizer: of the model; a teacher must have the same entries.
        beside: what the final model takes over from the folder that the model comes from; see `save_checkpoint`.
        save_dtype: dtype of the final model on disk.
        harness: asks the benchmarks that the spec names.
    """

    model: PreTrainedModel
    train: Blocks
    held_out: Blocks
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    teacher: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    beside: Beside | None = None
    save_dtype: torch.dtype = torch.float32
    harness: Harness | None = None

    def fingerprints(self) -> dict[str, str]:
        """Which text this is, by the field of a run's details."""
        return {"train_fingerprint": self.train.fingerprint, "held_out_fingerprint": self.held_out.fingerprint}

    def check_fit(self, spec: TrainSpec) -> None:
        """Raise `InputError` if the blocks, the teacher, the harness or the spec do not fit the model."""
        if spec.tasks and self.harness is None:
            raise InputError("the spec names tasks and there is no harness", where="train spec", hint="give a Harness")
        for blocks, what in ((self.train, "training"), (self.held_out, "held-out")):
            if blocks.sequence_length != spec.sequence_length:
                raise InputError(
                    f"{what} blocks of {blocks.sequence_length}, not {spec.sequence_length} tokens",
                    where="train spec",
                    hint="cut the text into blocks of the spec's sequence_length",
                )
            check_vocabulary(blocks, self.model, where=f"{what} text")
        if spec.router_loss and not architecture_of(self.model).experts:
            raise InputError(
                "the model has no experts, and no router to balance", where="--router-loss", hint="leave it out"
            )
        if self.teacher is not None and self.teacher.config.vocab_size != self.model.config.vocab_size:
            raise InputError(
                f"the teacher has {self.teacher.config.vocab_size} entries, the model {self.model.config.vocab_size}",
                where="--teacher",
                hint="distillation needs one vocabulary",
            )


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Which text a run trains on and is evaluated on.

    Attributes:
        data: training text, as `regrow train --data` takes it.
        held_out: held-out text; None to hold out a share of the documents of `data`.
        held_out_share: of the documents, where `held_out` is None; a fraction.
        cache: keep the tokenised text for the next run.
    """

    data: str
    held_out: str | None = None
    held_out_share: float | None = None
    cache: bool = True

    def read(self, tokenizer: Any, spec: TrainSpec) -> tuple[Blocks, Blocks]:
        """Training blocks, and the sample of held-out blocks that every evaluation reads."""
        length, cache = spec.sequence_length, self.cache
        if self.held_out is None:
            share = self.held_out_share or 0.0
            train, held = read_split(self.data, tokenizer, sequence_length=length, held_out_share=share, cache=cache)
        else:
            train = read_blocks(self.data, tokenizer, sequence_length=length, cache=cache)
            held = read_blocks(self.held_out, tokenizer, sequence_length=length, cache=cache)
        return train, held.sample(spec.held_out_blocks, seed=0)


def load_inputs(folder: str, text: TextSpec, spec: TrainSpec, *, masked: bool, shard: bool = False) -> RunInputs:
    """The checkpoint in `folder` and its text, ready to be trained; without a teacher.

    Args:
        masked: whether the zeros of the checkpoint's weights are kept.
        shard: load the model on the CPU: one that is to be sharded may be too large for one device.

    Raises `InputError` for what can't be loaded.
    """
    around = beside(local_checkpoint(folder))
    model = load_model(folder, dtype=torch.float32, device="cpu" if shard else processes().device)
    tokenizer = load_tokenizer(folder)
    train, held_out = text.read(tokenizer, spec)
    return RunInputs(
        model=model,
        train=train,
        held_out=held_out,
        masks=zero_masks(model) if masked else {},
        tokenizer=tokenizer,
        beside=around,
        save_dtype=around.dtype,
    )
