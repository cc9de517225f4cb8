"""A text of another kind than the ladder's models learned from: the source code of Python's standard library.

    python -m benchmarks.data.other_text --out DIR

The modules of the interpreter that runs this, without its tests, one document each, in `train.parquet` and
`held_out.parquet` (every twentieth module by the hash of its path). Any Python makes it; versions differ a little.
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
from pathlib import Path

import pandas as pd

#: Folders of the standard library that are tests, or packages which were installed beside it.
_SKIP = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "pydoc_data", "__pycache__"}
_HELD_OUT_ONE_IN = 20


def modules(root: Path) -> list[tuple[str, str]]:
    """Paths relative to `root` and texts of its Python modules, in the order of their paths."""
    found = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        if not _SKIP & set(path.parts):
            found.append((path.as_posix(), file.read_text(encoding="utf-8", errors="replace")))
    return found


def make(out: Path) -> dict[str, int]:
    """Write the two files; returns their characters."""
    out.mkdir(parents=True, exist_ok=True)
    sides: dict[str, list[str]] = {"train": [], "held_out": []}
    for path, text in modules(Path(sysconfig.get_path("stdlib"))):
        held = int(hashlib.sha256(path.encode()).hexdigest(), 16) % _HELD_OUT_ONE_IN == 0
        sides["held_out" if held else "train"].append(text)
    for name, texts in sides.items():
        pd.DataFrame({"text": texts}).to_parquet(out / f"{name}.parquet", index=False)
    return {name: sum(map(len, texts)) for name, texts in sides.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    for name, characters in make(parser.parse_args().out).items():
        print(f"{name}: {characters:,} characters")
