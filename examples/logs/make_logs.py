"""Makes the logs beside it: six runs of the embedded models, pruned in depth at two rates, trained by the plain
`transformers.Trainer` as anybody would run it, and the manifest that `regrow import --manifest` reads.

    python examples/logs/make_logs.py             # trainer_state.json of each run, and manifest.csv
    python examples/logs/make_logs.py --tracked   # one of them again, as W&B and TensorBoard log it, in formats/

The second needs `pip install wandb tensorboard`; W&B writes offline.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

# what the libraries would otherwise note of the machine, the code and the console stays out of the files
os.environ.update(
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    WANDB_CONSOLE="off",
    WANDB_DISABLE_GIT="true",
    WANDB_DISABLE_CODE="true",
    WANDB_X_DISABLE_STATS="true",
    WANDB_X_DISABLE_META="true",
    WANDB_X_DISABLE_MACHINE_INFO="true",
    WANDB_PROGRAM="make_logs.py",
    WANDB_HOST="localhost",
    WANDB_USERNAME="somebody",
    WANDB_DIR=".",
    TENSORBOARD_LOGGING_DIR="events",
)

import pandas as pd
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from regrow.data import Blocks, read_documents, tokenize
from regrow.ladder import find_corpus, find_model
from regrow.models.load import count_params, load_model, load_tokenizer
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.prune import prune_model
from regrow.pruning.spec import PruneSpec
from regrow.runs.importers import wandb_run

HERE = Path(__file__).resolve().parent
#: Model, pruning rate, and a data seed of its own: one order of the text for all would bend every curve at one step.
RUNS = {
    "tiny-llama-0.2m-depth-0.17": ("tiny-llama-0.2m", 0.17, 1),
    "tiny-llama-0.2m-depth-0.33": ("tiny-llama-0.2m", 0.33, 2),
    "tiny-llama-0.3m-depth-0.17": ("tiny-llama-0.3m", 0.17, 3),
    "tiny-llama-0.3m-depth-0.33": ("tiny-llama-0.3m", 0.33, 4),
    "tiny-llama-0.6m-depth-0.17": ("tiny-llama-0.6m", 0.17, 5),
    "tiny-llama-0.6m-depth-0.33": ("tiny-llama-0.6m", 0.33, 6),
}
TRACKED = "tiny-llama-0.2m-depth-0.33"
#: The columns kept of the tracked run's W&B history.
HISTORY = ["_step", "_runtime", "train/global_step", "train/num_input_tokens_seen", "train/loss", "eval/loss"]
LENGTH, BATCH, STEPS = 256, 4, 96


class AsDataset(Dataset):
    """Packed blocks as the Trainer wants them."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.blocks.tokens[index]).long()
        return {"input_ids": ids, "labels": ids}


def make_run(run: str, report_to: list[str]) -> tuple[Trainer, dict[str, object]]:
    """Prune and train one run in the working folder; the Trainer, and its row of the manifest but for the path."""
    name, rate, seed = RUNS[run]
    folder = find_model(name)
    tokenizer = load_tokenizer(folder)
    train, held_out = (
        tokenize(read_documents(find_corpus("ladder", split)), tokenizer, sequence_length=LENGTH)
        for split in ("post_train", "held_out")
    )
    held_out = held_out.sample(32, seed=0)
    model = load_model(folder, dtype=torch.float32)
    before = _trainer(model, run, train, held_out, seed, []).evaluate()["eval_loss"]
    spec = PruneSpec(method="depth", rate=rate)
    calibration = choose_blocks(train, count=spec.calibration_blocks, length=spec.calibration_length, seed=0)
    pruned, plan = prune_model(load_model(folder, dtype=torch.float32), spec, calibration)
    loop = _trainer(pruned, run, train, held_out, seed, report_to)
    loop.train()
    row: dict[str, object] = {
        "run": run,
        "family": "tiny-llama",
        "method": "depth",
        "params_before": count_params(model),
        "params_after": plan.params_after,
        "loss_before": round(before, 6),
        "seed": seed,
    }
    return loop, row


def _trainer(
    model: torch.nn.Module, run: str, train: Blocks, held_out: Blocks, seed: int, report_to: list[str]
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=run,
        run_name=run,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=16,
        learning_rate=3e-4,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=4,
        eval_strategy="steps",
        eval_steps=8,
        eval_on_start=True,  # the loss right after pruning
        logging_steps=24,
        save_strategy="no",
        include_num_input_tokens_seen="all",
        seed=seed,
        use_cpu=True,
        report_to=report_to,
        disable_tqdm=True,
    )
    return Trainer(model=model, args=arguments, train_dataset=AsDataset(train), eval_dataset=AsDataset(held_out))


def make_all() -> None:
    """Every run's trainer_state.json, and the manifest."""
    rows = []
    for run in RUNS:
        loop, row = make_run(run, [])
        (HERE / run).mkdir(exist_ok=True)
        loop.state.save_to_json(str(HERE / run / "trainer_state.json"))
        rows.append({"path": f"{run}/trainer_state.json", **row})
    with (HERE / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_tracked() -> None:
    """The tracked run again, as W&B and TensorBoard write it, and its W&B history as `run.history().to_csv` has it."""
    import wandb

    make_run(TRACKED, ["wandb", "tensorboard"])
    wandb.finish()  # or the file lacks its end
    (run_file,) = Path("wandb").glob("offline-run-*/run-*.wandb")
    (events,) = Path("events").rglob("events.out.tfevents.*")
    shutil.copy(run_file, HERE / "formats" / "run-tracked.wandb")
    shutil.copy(events, HERE / "formats" / "events.out.tfevents.0")
    history = pd.DataFrame(dict(wandb_run.read(run_file).columns))
    history[HISTORY].to_csv(HERE / "formats" / "wandb_history.csv", index=False)


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    make_tracked() if "--tracked" in sys.argv[1:] else make_all()
