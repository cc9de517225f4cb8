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
    "lm_loss",
    "train/lm_loss",
    "lm-loss-training/lm loss",
    "train/ce loss",
    "train/crossentropyloss",
    "loss/train/total",
    "metrics/train/languagecrossentropy",
    "reduced_train_loss",
    "loss_metrics/global_avg_loss",
    "loss/train",
)
TOKENS = (
    "num_input_tokens_seen",
    "train/num_input_tokens_seen",
    "num_tokens",
    "train/num_tokens",
    "tokens/total",
    "train/tokens/total",
    "throughput/total tokens",
    "throughput/total_tokens",
    "time/token",
    "total_tokens",
    "tokens_seen",
    "n_tokens_seen",
    "train/n_tokens_seen",
    "consumed_tokens",
    "consumed tokens",
    "consumed_train_tokens",
    "train/consumed_tokens",
    "train/total_tokens",
    "tokens_trained",
    "tokens_consumed",
    "tokens",
    "train/tokens",
)
#: Any other count of tokens by its name: a word for a total beside `tokens`, and no word for a speed or a part.
_TOKENS = re.compile(
    r"(^|[/_. -])((total|seen|consumed|cumulative|trained|processed)[_ ]?(train(ing)?[_ ])?tokens"
    r"|tokens[_ ](total|seen|consumed|cumulative|trained|processed))$",
    re.IGNORECASE,
)
SAMPLES = ("consumed_samples", "consumed samples", "consumed-samples", "train/consumed_samples")
#: The particular before the general: where `step` stands beside `global_step`, it counts something else (log calls in
#: trackio, micro-batches elsewhere). W&B's own `_step` is not among them, as it counts log calls.
STEPS = (
    "train/global_step",
    "trainer/global_step",
    "global_step",
    "current_steps",
    "optimizer_step",
    "train/step",
    "time/batch",
    "batch",
    "iteration",
    "step",
    "steps",
)
_EVALUATION = re.compile(r"^(eval|val|valid|validation)[/_]")
_PREFIX = re.compile(r"^(eval|val|valid|validation|train|training)[/_]")
_SETS = r"(eval|val|valid|validation|dev|test|held[_-]?out)"
_LOSS = r"(loss|nll|cross[_ -]?entropy([_ -]?loss)?|languagecrossentropy)"
_HELD_OUT = re.compile(
    rf"(^|[/_. -]){_SETS}([/_. -].*)?[/_. -]{_LOSS}$|(^|[/_. -])loss[/_. -]{_SETS}([-/][^/]+)?$", re.IGNORECASE
)
_PERPLEXITY = re.compile(r"(^|[^a-z])(ppl|perplexity|languageperplexity)($|[^a-z])", re.IGNORECASE)
_BITS_PER_BYTE = re.compile(r"(^|[^a-z])(bpb|bits?[_ -]?per[_ -]?(byte|char)|bpc)($|[^a-z])", re.IGNORECASE)
_BITS = re.compile(r"(^|[^a-z])(bits?|bpt|bits?[_ -]?per[_ -]?token)($|[^a-z])", re.IGNORECASE)


def first_of(names: tuple[str, ...], history: History) -> str | None:
    """The first of these that the log holds, whatever its capitals; for a W&B chart, behind its run's name."""
    held = {
        bare_name(name).lower(): name
        for name in reversed(list(history.columns))
        if history.has(name) and name not in history.log_calls
    }
    return next((held[name] for name in names if name in held), None)


def token_columns(history: History) -> list[str]:
    """The columns that by their names count the tokens trained on, likeliest first.

    The count of an evaluation, `eval_num_tokens`, is one of its own only where there is no `num_tokens` beside it.
    """
    held = [name for name in history.columns if history.has(name) and name not in history.log_calls]
    known = [name for wanted in TOKENS for name in held if _training(name) == wanted]
    found = dict.fromkeys([*known, *(name for name in held if _TOKENS.search(bare_name(name)))])
    trained = {_PREFIX.sub("", bare_name(name).lower()) for name in found if not _EVALUATION.search(bare_name(name))}
    return [
        n for n in found if not (_EVALUATION.search(bare_name(n)) and _PREFIX.sub("", bare_name(n).lower()) in trained)
    ]


def twin_columns(name: str, history: History) -> list[str]:
    """Columns with the same count in other rows: `eval_num_tokens` of `num_tokens`, `eval/X` of `train/X`."""
    base = _PREFIX.sub("", bare_name(name).lower())
    alike = [other for other in history.columns if other != name and history.has(other)]
    return [other for other in alike if _PREFIX.sub("", bare_name(other).lower()) == base]


def _training(name: str) -> str:
    """A column's name in lower case, without the run of a chart and without the prefix of an evaluation."""
    return _EVALUATION.sub("", bare_name(name).lower())


def bare_name(name: str) -> str:
    """`run name - eval/loss`, as a chart's CSV has it, without the run."""
    return name.rsplit(" - ", 1)[-1]


def is_train(name: str) -> bool:
    """Whether a column is known to be a training loss."""
    return bare_name(name).lower() in TRAIN


def unit_of_name(name: str) -> str | None:
    """The unit that a column's name states, if any."""
    bare = bare_name(name)
    if _PERPLEXITY.search(bare):
        return "perplexity"
    if _BITS_PER_BYTE.search(bare):
        return "bits-per-byte"
    return "bits" if _BITS.search(bare) else None


def held_out_column(history: History, otherwise: str | None = None) -> str:
    """The column with the held-out loss.

    Args:
        otherwise: what else a message may offer where there is none.

    Raises `InputError` where there is none, or several that none goes before.
    """
    alike = [n for n in history.columns if history.has(n) and _is_held_out(bare_name(n))]
    for name in HELD_OUT:
        exact = [n for n in alike if bare_name(n).lower() == name]
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
    why = f"; {otherwise}" if otherwise else ""
    why += f"; {train[0]!r} is the training loss, which --train-loss takes and marks" if train else ""
    if named is not None:
        why += f"; {named!r} is no loss, but --loss-column {named!r} --unit {unit_of_name(named)} converts it"
    raise InputError(
        f"no held-out loss; there are: {history.named()}", where=history.where, hint=f"name it with --loss-column{why}"
    )


def _is_held_out(name: str) -> bool:
    return unit_of_name(name) is None and (_HELD_OUT.search(name) is not None or name in HELD_OUT)


def train_column(history: History) -> str:
    """The column with the training loss. Raises `InputError` where there is none."""
    found = first_of(TRAIN, history)
    if found is None:
        raise InputError(
            f"no training loss; there are: {history.named()}", where=history.where, hint="name it with --loss-column"
        )
    return found
