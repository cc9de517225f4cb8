"""Pruned checkpoints of every family, read by transformers 4 and 5: are they the same model?

    python -m benchmarks.models.family_versions [--packages DIR]

The tiny random models of the tests (`tests/models/tiny_families.py`) are pruned by depth, by width in every axis that
the family has, and by experts. Each folder is then read by plain transformers of this environment and of version 4.57.1
(see versions.py). Shown is the largest difference of the logits, float32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.models.versions import PACKAGES, READER, apart, read

from regrow.families import FAMILIES
from regrow.models import architecture_of, save_checkpoint
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))
from tiny_families import make_tiny

STEPS = ("original", "depth", "width", "experts")
#: The same reader, on tokens of the tiny vocabulary, every logit.
TINY_READER = READER.replace("randint(1, 300, (2, 200)", "randint(1, 64, (2, 20)").replace("[:, ::20, ::16]", "")


def work(model_type: str, folder: Path) -> dict[str, Path]:
    """The folders of a family by step."""
    model = make_tiny(model_type)
    arch = architecture_of(model)
    shapes: dict[str, dict[str, int]] = {"depth": {"layers": 2}}
    widths = {"hidden": 16 if arch.square else 24, "intermediate": 40, "kv_heads": 1}
    shapes["width"] = {axis: size for axis, size in widths.items() if axis not in arch.fixed_axes}
    if arch.experts:
        shapes["experts"] = {"experts": 4}
    folders = {"original": save_checkpoint(model, None, folder / "original")}
    for method, shape in shapes.items():
        spec = PruneSpec(method=method, scorer="random", shape=shape)
        prune(folders["original"], spec, calibration=None, out=folder / method)
        folders[method] = folder / method
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder with transformers 4; made where it is not there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        packages = options.packages or Path(scratch) / "packages"
        if not (packages / "transformers").is_dir():
            install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages), *PACKAGES]
            subprocess.run(install, check=True)
        found = {name: work(name, Path(scratch) / name) for name in FAMILIES}
        every = [folder for folders in found.values() for folder in folders.values()]
        pairs = zip(read(every, None, TINY_READER), read(every, packages, TINY_READER), strict=True)
        differ = dict(zip(every, (apart(four, five) for five, four in pairs), strict=True))
    print(f"| family | {' | '.join(STEPS)} |")
    print(f"|{'---|' * (len(STEPS) + 1)}")
    for name, folders in found.items():
        row = {step: differ[folder] for step, folder in folders.items()}
        print(f"| {name} | {' | '.join(row.get(step, '') for step in STEPS)} |")
        # where the versions disagree on the original, the fault is not in what was pruned
        if not row["original"].startswith("not read") and float(row["original"]) < 1e-3:
            wrong += sum(text.startswith("not read") or float(text) >= 1e-3 for text in row.values())
    print(f"{wrong} of {len(every)} checkpoints differ between the versions where their original does not")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
