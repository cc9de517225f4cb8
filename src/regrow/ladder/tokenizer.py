"""The ladder's tokenizer: byte-level BPE with 2,048 entries, trained on the train split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from regrow.ladder.recipe import END_OF_TEXT, QWEN2, SEQUENCE_LENGTH, VOCAB_SIZE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def family_tokenizer(family: str, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder` as `AutoTokenizer` reads it beside a model of `family`.

    Beside a Qwen-2 transformers takes Qwen's own class whatever the files say: the same entries and merges, but text is
    split as Qwen splits it. Models are trained on what they will be given.
    """
    import json

    from transformers import AutoTokenizer, Qwen2Tokenizer

    if family != QWEN2:
        return AutoTokenizer.from_pretrained(str(folder))
    bpe = json.loads((folder / "tokenizer.json").read_text())["model"]
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    merges = [tuple(pair) for pair in bpe["merges"]]
    return Qwen2Tokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=SEQUENCE_LENGTH, **special)


def train_tokenizer(texts: Iterable[str], out: Path) -> None:
    """Train the tokenizer and save it as `AutoTokenizer` reads it. Deterministic for the same texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=SEQUENCE_LENGTH,
    )
    wrapped.save_pretrained(str(out))
