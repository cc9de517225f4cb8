"""The ladder's post-training text with a share of the text that its models learned from.

    python -m benchmarks.data.mixed_text --out DIR [--share 0.33]

One `train.parquet`, a document a row. The documents of the pretraining text are drawn without replacement until they
hold the share of all characters.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from regrow.ladder import find_corpus


def make(out: Path, *, share: float = 0.33, seed: int = 0) -> tuple[int, int]:
    """Write the file; returns the characters of the post-training and of the pretraining text in it."""
    post, old = (pd.read_parquet(find_corpus("ladder", split), columns=["text"]) for split in ("post_train", "train"))
    wanted = share / (1 - share) * post["text"].str.len().sum()
    order = np.random.default_rng(seed).permutation(len(old))
    lengths = old["text"].str.len().to_numpy()[order]
    drawn = old.iloc[order[: int(np.searchsorted(lengths.cumsum(), wanted)) + 1]]
    out.mkdir(parents=True, exist_ok=True)
    pd.concat([post, drawn], ignore_index=True).to_parquet(out / "train.parquet", index=False)
    return int(post["text"].str.len().sum()), int(drawn["text"].str.len().sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--share", type=float, default=0.33, help="share of pretraining text; default %(default)s")
    given = parser.parse_args()
    post, old = make(given.out, share=given.share)
    print(f"{post:,} characters of the post-training text, {old:,} of the pretraining text")
