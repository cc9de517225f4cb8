"""Text by the name a user types, as packed blocks; heavy, so imported inside handlers only."""

from __future__ import annotations

from regrow.data import Blocks, find_cached, read_blocks, read_split
from regrow.errors import InputError
from regrow.ladder import find_corpus, find_model
from regrow.models.load import load_tokenizer, read_config
from regrow.runs import RunRecord


def load_blocks(
    data: str, model: str, *, sequence_length: int, limit: int | None = None, seed: int = 0, cache: bool = True
) -> Blocks:
    """Text as packed blocks of at most `sequence_length` tokens, all of them or a sample of `limit`."""
    # report a wrong model before the text is tokenised
    config, _ = read_config(model)
    longest = getattr(config, "max_position_embeddings", None) or sequence_length
    blocks = read_blocks(data, load_tokenizer(model), sequence_length=min(sequence_length, longest), cache=cache)
    return blocks if limit is None else blocks.sample(limit, seed=seed)


def training_blocks(run: RunRecord) -> Blocks:
    """The blocks that a run was trained on: read from the cache by fingerprint, or tokenised again from its data.

    Raises `InputError` for a record that does not name them, and where the data are gone or have changed since.
    """
    wanted, length = run.details.get("train_fingerprint"), run.details.get("sequence_length")
    model, data = run.spec.get("model"), run.spec.get("data")
    if not (wanted and length and model and data):
        raise InputError(
            "the record does not name the blocks it was trained on", where=f"run {run.run}", hint="give a run of regrow"
        )
    found = find_cached(wanted, sequence_length=length)
    if found is not None:
        return found
    text, tokenizer = find_corpus(data, "post_train"), load_tokenizer(find_model(model))
    share = run.spec.get("held_out_share")
    if share is None:
        found = read_blocks(text, tokenizer, sequence_length=length)
    else:
        found, _ = read_split(text, tokenizer, sequence_length=length, held_out_share=share)
    if found.fingerprint != wanted:
        raise InputError(
            f"{data} is not what the run saw (blocks {found.fingerprint}, not {wanted})",
            where=f"run {run.run}",
            hint="the data or the tokenizer have changed since",
        )
    return found
