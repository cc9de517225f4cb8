"""The ladder's tokenizer: byte-level BPE with 2,048 entries, trained on the train split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from regrow.ladder.recipe import END_OF_TEXT, SEQUENCE_LENGTH, VOCAB_SIZE


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
