"""Scores of a model's parts, which can be kept in a file and used for other rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.pruning.depth import least_important


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Activation statistics of a model on calibration text, float32 on the CPU.

    Norms are L2 norms over all calibration tokens, one per channel (the aggregation of Wanda, arXiv 2306.11695, for
    its input features, and of Minitron, arXiv 2407.14679, with L2 over both batch and sequence).

    Attributes:
        block_influence [layers]: 1 - mean cosine similarity of a block's input and output hidden states (ShortGPT,
            arXiv 2403.03853); small: the block changes little.
        attention_input [layers, hidden]: norms of what q, k and v read: of the norm before the attention, or of the
            residual stream where a family has none.
        attention_output [layers, heads * head_dim]: norms of what o_proj reads, the heads' outputs.
        mlp_input [layers, hidden]: norms of what gate and up read, likewise.
        mlp_activation [layers, intermediate]: norms of what down_proj reads, the neurons; [layers, 0] in a mixture of
            experts, whose neurons are not scored.
        final_norm [hidden]: norms of what the output layer reads.
        tokens: calibration tokens.
        fingerprint: of the model they were measured on; see `regrow.pruning.calibration.weights_fingerprint`.
        scorer: None for these statistics; the name of a scorer that puts numbers of its own in their places.
    """

    block_influence: torch.Tensor
    attention_input: torch.Tensor
    attention_output: torch.Tensor
    mlp_input: torch.Tensor
    mlp_activation: torch.Tensor
    final_norm: torch.Tensor
    tokens: int
    fingerprint: str
    scorer: str | None = None

    @property
    def label(self) -> str:
        """What these scores are, for messages."""
        return SHARED if self.scorer is None else self.scorer

    def hidden(self) -> torch.Tensor:
        """Importance [hidden] of each channel of the residual stream: its norms summed over all that reads it."""
        return self.attention_input.sum(0) + self.mlp_input.sum(0) + self.final_norm

    def kv_groups(self, arch: Architecture) -> torch.Tensor:
        """Importance [layers, kv_heads] of each KV head: the norm of the outputs of its query heads together."""
        return self.attention_output.unflatten(1, (arch.kv_heads, -1)).norm(dim=-1)

    def input_norms(self, layer: int, linear: str) -> torch.Tensor:
        """Norms [in] of the input features of a block's linear layer, e.g. `self_attn.q_proj`."""
        part, _, name = linear.partition(".")
        if part == "self_attn":
            return (self.attention_output if name == "o_proj" else self.attention_input)[layer]
        return (self.mlp_activation if name == "down_proj" else self.mlp_input)[layer]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Raises `InputError` if it cannot be written."""
        about = {"tokens": str(self.tokens), "fingerprint": self.fingerprint}
        _save(path, {name: getattr(self, name) for name in _TENSORS}, about | _named(self.scorer))

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what `save` wrote. Raises `InputError` if the file is missing, broken or something else."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
                return cls(
                    **tensors,
                    tokens=int(about["tokens"]),
                    fingerprint=about["fingerprint"],
                    scorer=about.get("scorer"),
                )
        # OSError, SafetensorError, KeyError, TypeError: whatever it is, it is no scores file
        except Exception as error:
            raise _not_scores(error, path) from error


#: How messages name the statistics of `Scores`.
SHARED = "activation norms"

_TENSORS = tuple(field.name for field in fields(Scores) if field.name not in ("tokens", "fingerprint", "scorer"))


@dataclass(frozen=True, kw_only=True)
class DepthScores:
    """What a depth scorer measured on a model, where `Scores` do not hold it.

    Attributes:
        scorer: the scorer's name, e.g. `perplexity`, `angular`, `block-influence`.
        iterative: whether blocks went one by one, each measured without those before it.
        values: [layers], the smallest goes first. `perplexity`: the loss (nats/token) without each block. Iterative:
            the round in which each block went, from 0; infinity for those that stayed. `angular` alone has
            [layers + 1, layers + 1]: the distance between the states before block row and before block column, in
            [0, 1].
        loss: the loss of the whole model on the same tokens, nats/token; None where none was measured.
        tokens: calibration tokens.
        fingerprint: of the model; see `regrow.pruning.calibration.weights_fingerprint`.
    """

    scorer: str
    iterative: bool
    values: torch.Tensor
    loss: float | None
    tokens: int
    fingerprint: str

    @property
    def label(self) -> str:
        """What these scores are, for messages."""
        return own_label(self.scorer, iterative=self.iterative)

    def dropped(self, count: int) -> tuple[int, ...]:
        """The blocks to drop, ascending. Raises `InputError` if an iterative order is shorter than `count`."""
        if self.values.ndim == 2:
            return contiguous(self.values, count)
        order = int(self.values.isfinite().sum())
        if order < count:
            raise InputError(
                f"the scores order {order} blocks, {count} are to go", where="scores", hint="measure them again"
            )
        return least_important(self.values, count)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Raises `InputError` if it cannot be written."""
        about = {
            "kind": "depth",
            "scorer": self.scorer,
            "iterative": str(int(self.iterative)),
            "loss": "" if self.loss is None else repr(self.loss),
            "tokens": str(self.tokens),
            "fingerprint": self.fingerprint,
        }
        _save(path, {"values": self.values}, about)

    @classmethod
    def load(cls, path: str | Path) -> DepthScores:
        """Read what `save` wrote. Raises `InputError` if the file is missing, broken or something else."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = file.metadata()
                return cls(
                    scorer=about["scorer"],
                    iterative=about["iterative"] == "1",
                    values=file.get_tensor("values"),
                    loss=float(about["loss"]) if about["loss"] else None,
                    tokens=int(about["tokens"]),
                    fingerprint=about["fingerprint"],
                )
        # OSError, SafetensorError, KeyError, TypeError: whatever it is, it is no scores file
        except Exception as error:
            raise _not_scores(error, path) from error


@dataclass(frozen=True, kw_only=True)
class ExpertScores:
    """What an expert scorer measured on a model, float32 on the CPU.

    Attributes:
        scorer: the scorer's name, e.g. `routed-norm`.
        values: [layers, experts]; of each block the largest stay.
        tokens: calibration tokens.
        fingerprint: of the model; see `regrow.pruning.calibration.weights_fingerprint`.
    """

    scorer: str
    values: torch.Tensor
    tokens: int
    fingerprint: str

    @property
    def label(self) -> str:
        """What these scores are, for messages."""
        return self.scorer

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Raises `InputError` if it cannot be written."""
        about = {"scorer": self.scorer, "tokens": str(self.tokens), "fingerprint": self.fingerprint}
        _save(path, {"values": self.values}, {"kind": "experts", **about})

    @classmethod
    def load(cls, path: str | Path) -> ExpertScores:
        """Read what `save` wrote. Raises `InputError` if the file is missing, broken or something else."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about, values = file.metadata(), file.get_tensor("values")
                return cls(
                    scorer=about["scorer"], values=values, tokens=int(about["tokens"]), fingerprint=about["fingerprint"]
                )
        # OSError, SafetensorError, KeyError, TypeError: whatever it is, it is no scores file
        except Exception as error:
            raise _not_scores(error, path) from error


AnyScores = Scores | DepthScores | ExpertScores


def own_label(scorer: str, *, iterative: bool) -> str:
    """What messages call the scores that serve one scorer alone."""
    return f"{scorer}{', iterative' if iterative else ''}"


def contiguous(distances: torch.Tensor, count: int) -> tuple[int, ...]:
    """The `count` blocks in a row over which the states turn least.

    `distances` [layers + 1, layers + 1] are those of `regrow.pruning.removal.angular_distances`; of equals the first.
    """
    start = int(distances.diagonal(count).argmin())
    return tuple(range(start, start + count))


def load_scores(path: str | Path) -> AnyScores:
    """Scores of any kind from a file. Raises `InputError` if it is missing, broken or something else."""
    try:
        with safe_open(str(path), framework="pt") as file:
            kind = (file.metadata() or {}).get("kind")
    # OSError, SafetensorError: the reader of a kind says which
    except Exception:
        kind = None
    kinds: dict[str | None, type[DepthScores] | type[ExpertScores]] = {"depth": DepthScores, "experts": ExpertScores}
    return kinds[kind].load(path) if kind in kinds else Scores.load(path)


def _named(scorer: str | None) -> dict[str, str]:
    return {} if scorer is None else {"scorer": scorer}


def _save(path: str | Path, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path), metadata=about)
    # safetensors reports a failed write as its own error
    except Exception as error:
        raise InputError(f"cannot write the scores: {error}", where=str(path)) from error


def _not_scores(error: Exception, path: str | Path) -> InputError:
    return InputError(f"not a scores file ({error})", where=str(path), hint="measure the scores again")
