"""A Llama of 10.6M parameters in the recipe of the ladder: the rung above `tiny-llama-3m`.

    python -m benchmarks.models.larger_rung --out DIR

Its weights are too large for the package. A GPU trains it in a minute or two, two CPU cores take hours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from regrow.ladder.pretrain import pretrain
from regrow.ladder.recipe import LLAMA, Rung

#: The widths of `tiny-llama-3m` doubled, one block more; the peak learning rate goes on with the ladder's decline.
RUNG = Rung(
    name=f"{LLAMA}-10m",
    family=LLAMA,
    hidden=256,
    layers=12,
    heads=8,
    kv_heads=4,
    head_dim=32,
    intermediate=832,
    peak_lr=2e-3,
)


def larger_rung(out: Path) -> Path:
    """The checkpoint folder; trained on first use."""
    if not (out / "training.json").is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        pretrain(RUNG, out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    folder = larger_rung(parser.parse_args().out)
    record = json.loads((folder / "training.json").read_text())
    print(f"{folder}: {record['params']:,} parameters, {record['held_out_loss']} nats on the held-out text")
