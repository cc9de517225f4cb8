"""What logs call their columns, and how to tell a held-out loss from a training loss by its name.

The names are those that the tools write: `eval_loss` and `num_input_tokens_seen` (transformers.Trainer, and axolotl and
LLaMA-Factory, which run it), `num_tokens` (TRL's SFTTrainer), `eval/loss` (the Trainer's W&B and TensorBoard
callbacks), `validation_metrics/loss` and `n_tokens_seen` (torchtitan, components/metrics.py and train.py),
`lm loss validation` (Megatron-LM, training/training.py), `val_loss` and `consumed_samples` (NeMo).
"""

from __future__ import annotations

import re

from regrow.errors import InputError
from regrow.runs.importers.history import History

HELD_OUT = (
    "eval_loss",
    "eval/loss",
    "val_loss",
    "val/loss",
    "valid_loss",
    "valid/loss",
    "validation_loss",
    "validation/loss",
    "validation_metrics/loss",
    "lm loss validation",
    "lm-loss-validation/lm loss validation",
    "held_out_loss",
    "heldout_loss",
    "loss/val",
    "loss/valid",
    "loss/validation",
    "loss/eval",
)
TRAIN = (
    "loss",
    "train_loss",
    "train/loss",
    "training_loss",
    "training/loss",
    "lm loss",
    "lm-loss-training/lm loss",
    "reduced_train_loss",
    "loss_metrics/global_avg_loss",
    "loss/train",
)
TOKENS = (
    "num_input_tokens_seen",
    "train/num_input_tokens_seen",
    "num_tokens",
    "train/num_tokens",
    "total_tokens",
    "tokens",
    "tokens_seen",
    "n_tokens_seen",
    "train/n_tokens_seen",
    "consumed_tokens",
    "consumed tokens",
    "train/tokens",
)
SAMPLES = ("consumed_samples", "consumed samples", "consumed-samples", "train/consumed_samples")
#: W&B's own `_step` is not among them: it counts log calls, which are optimizer steps in some tools only.
STEPS = (
    "step",
    "global_step",
    "train/global_step",
    "trainer/global_step",
    "current_steps",
    "iteration",
    "steps",
)
_SETS = r"(eval|val|valid|validation|dev|test|held[_-]?out)"
_HELD_OUT = re.compile(rf"(^|[/_ -]){_SETS}([/_ -].*)?[/_ -]loss$|(^|[/_ -])loss[/_ -]{_SETS}$", re.IGNORECASE)
_PERPLEXITY = re.compile(r"(^|[^a-z])(ppl|perplexity)($|[^a-z])", re.IGNORECASE)
_BITS_PER_BYTE = re.compile(r"(^|[^a-z])(bpb|bits?[_ -]?per[_ -]?(byte|char)|bpc)($|[^a-z])", re.IGNORECASE)
_BITS = re.compile(r"(^|[^a-z])(bits?|bpt|bits?[_ -]?per[_ -]?token)($|[^a-z])", re.IGNORECASE)


def first_of(names: tuple[str, ...], history: History) -> str | None:
    """The first of these that the log holds, whatever its capitals; for a W&B chart, behind its run's name."""
    held = {_bare(name).lower(): name for name in reversed(list(history.columns)) if history.has(name)}
    return next((held[name] for name in names if name in held), None)


def _bare(name: str) -> str:
    """`run name - eval/loss`, as a chart's CSV has it, without the run."""
    return name.rsplit(" - ", 1)[-1]


def is_train(name: str) -> bool:
    """Whether a column is known to be a training loss."""
    return _bare(name).lower() in TRAIN


def unit_of_name(name: str) -> str | None:
    """The unit that a column's name states, if any."""
    bare = _bare(name)
    if _PERPLEXITY.search(bare):
        return "perplexity"
    if _BITS_PER_BYTE.search(bare):
        return "bits-per-byte"
    return "bits" if _BITS.search(bare) else None


def held_out_column(history: History) -> str:
    """The column with the held-out loss. Raises `InputError` where there is none, or several that none goes before."""
    alike = [n for n in history.columns if history.has(n) and (_HELD_OUT.search(_bare(n)) or _bare(n) in HELD_OUT)]
    for name in HELD_OUT:
        exact = [n for n in alike if _bare(n).lower() == name]
        if len(exact) == 1:
            return exact[0]
        if exact:
            break
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(
            f"several held-out losses: {', '.join(alike)}", where=history.where, hint="choose one with --loss-column"
        )
    named = next((name for name in history.columns if history.has(name) and unit_of_name(name)), None)
    train = [name for name in history.columns if history.has(name) and is_train(name)]
    why = f"; {train[0]!r} is the training loss, which --train-loss takes and marks" if train else ""
    if named is not None:
        why += f"; {named!r} is no loss, but --loss-column {named!r} --unit {unit_of_name(named)} converts it"
    raise InputError(
        f"no held-out loss; there are: {history.named()}", where=history.where, hint=f"name it with --loss-column{why}"
    )


def train_column(history: History) -> str:
    """The column with the training loss. Raises `InputError` where there is none."""
    found = first_of(TRAIN, history)
    if found is None:
        raise InputError(
            f"no training loss; there are: {history.named()}", where=history.where, hint="name it with --loss-column"
        )
    return found
