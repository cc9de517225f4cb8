"""The one command that makes the ladder from nothing: corpus, tokenizer, models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from regrow.ladder.corpus import build_corpus
from regrow.ladder.pretrain import pretrain
from regrow.ladder.recipe import PRETRAINING, RUNGS, Pretraining, rung
from regrow.ladder.tokenizer import train_tokenizer


def build_ladder(
    out: Path,
    *,
    only: Sequence[str] | None = None,
    keep_corpus: bool = False,
    recipe: Pretraining | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Build the ladder into the folder `out`.

    Args:
        only: names of the rungs to train; all if None.
        keep_corpus: train on the corpus and tokenizer that are there.
        recipe: how the models are trained; by their families' if None.
        say: called with a line at each step.

    Raises `InputError` for an unknown rung or a machine without Debian's tools, `RunFailed` for a failed download.
    """
    import pandas as pd

    rungs = [rung(name) for name in only] if only else list(RUNGS)
    if not keep_corpus:
        say("fetching and cleaning the corpus")
        for name, file in build_corpus(out / "corpus")["files"].items():
            say(f"  {name}: {file['documents']} documents, {file['characters']:,} characters")
        say("training the tokenizer")
        texts = pd.read_parquet(out / "corpus" / "train.parquet", columns=["text"])["text"]
        train_tokenizer(texts.tolist(), out / "tokenizer")
    for each in rungs:
        how = recipe or PRETRAINING[each.family]
        say(f"training {each.name} on {how.steps} batches")
        record = pretrain(each, out / "models" / each.name, assets=out, recipe=how)
        say(f"  {record['params']:,} parameters, held-out loss {record['held_out_loss']:.4f} nats/token")
