"""What `regrow study` costs beside calling prune and train by hand: to the first training step, and per cell.

    python -m benchmarks.study.overhead [--repeats 3] [--out DIR]

Eight cells of tiny-llama-0.2m (a control, depth, feed-forward width and 2:4, two seeds each, 8 steps each, fp32), on
one worker. By hand is one process that loads the model, reads its loss, prunes and trains, cell by cell, with the same
specs, and shares nothing. Both find the text tokenised in the cache, which a first round has filled. Times are from the
start of the command, medians of `--repeats` rounds in which the two alternate; CPU seconds are of all processes, and
hold where the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

STUDY = """
family: tiny-llama
models: [tiny-llama-0.2m]
methods: [depth, width, "2:4"]
rates: [0.17]
width_axes: [intermediate]
seeds: [0, 1]
train: {tokens: 8192, batch_tokens: 1024, held_out_blocks: 16, eval_at: [4096], precision: fp32}
"""


def by_hand(file: Path, out: Path) -> None:
    """What one would write without `regrow study`; prints when the first step was done and when all were."""
    import torch

    from regrow.data import read_blocks
    from regrow.evaluation import evaluate
    from regrow.ladder import find_corpus, find_model
    from regrow.methods import is_masked
    from regrow.models.beside import beside
    from regrow.models.load import count_params, load_model, load_tokenizer, local_checkpoint
    from regrow.models.masks import zero_masks
    from regrow.pruning.calibration import choose_blocks
    from regrow.pruning.prune import prune_model
    from regrow.runs import RunRecord
    from regrow.study import StudySpec
    from regrow.training.inputs import RunInputs
    from regrow.training.run import RunOptions, train_model

    first: list[float] = []
    cells = StudySpec.from_yaml(file).cells()
    folder = find_model(cells[0].model)
    around = beside(local_checkpoint(folder))
    tokenizer, length = load_tokenizer(folder), cells[0].train.sequence_length
    train = read_blocks(find_corpus("ladder", "post_train"), tokenizer, sequence_length=length)
    held_out = read_blocks(find_corpus("ladder", "held_out"), tokenizer, sequence_length=length)
    held_out = held_out.sample(cells[0].train.held_out_blocks, seed=0)
    for cell in cells:
        model = load_model(folder, dtype=torch.float32)
        before, loss_before = count_params(model), evaluate(model, held_out).loss
        after, rate = before, 0.0
        if cell.prune is not None:
            asked = cell.prune
            blocks = choose_blocks(
                train, count=asked.calibration_blocks, length=asked.calibration_length, seed=asked.seed
            )
            model, plan = prune_model(model, asked, blocks)
            after, rate = plan.params_after, plan.pruning_rate
        record = RunRecord(
            run=cell.name,
            family=cell.family,
            method=cell.method,
            params_before=before,
            params_after=after,
            pruning_rate=rate,
            loss_before=loss_before,
            spec=cell.spec,
        )
        inputs = RunInputs(
            model=model,
            train=train,
            held_out=held_out,
            masks=zero_masks(model) if is_masked(cell.method) else {},
            beside=around,
        )
        options = RunOptions(on_progress=lambda progress: None if first else first.append(time.time()))
        train_model(inputs, spec=cell.train, record=record, out=out / cell.name, options=options)
    print(json.dumps({"first": first[0], "end": time.time()}))


def children_cpu() -> float:
    """CPU seconds of the processes that have ended below this one."""
    times = os.times()
    return times.children_user + times.children_system


def time_by_hand(file: Path, out: Path) -> tuple[float, float]:
    began = time.time()
    command = [sys.executable, __file__, "--hand", str(file), "--out", str(out)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return said["first"] - began, time.time() - began


def time_study(file: Path, out: Path, engine: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "regrow.cli.main", "study", str(file), "--out", str(out)]
    began, first = time.time(), 0.0
    process = subprocess.Popen(
        [*command, "--engine", engine, "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        if not first and any(out.glob("runs/*/progress.json")):  # written after a run's first step
            first = time.time() - began
        time.sleep(0.01)
    assert process.returncode == 0
    return first, time.time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("overhead"))
    parser.add_argument("--hand", type=Path, help=argparse.SUPPRESS)
    ask = parser.parse_args()
    if ask.hand:
        by_hand(ask.hand, ask.out)
        return
    # one worker has all CPUs, as the process by hand does
    os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    shutil.rmtree(ask.out, ignore_errors=True)
    ask.out.mkdir(parents=True)
    file = ask.out / "study.yaml"
    file.write_text(STUDY)
    ways = {"by hand": time_by_hand, "study": lambda file, out: time_study(file, out, "local")}
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for i in range(ask.repeats + 1):
        for name, way in ways.items():
            before = children_cpu()
            took = way(file, ask.out / f"{name.replace(' ', '-')}-{i}")
            if i:  # the first round fills the caches
                times[name].append((*took, children_cpu() - before))
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    for name, (first, whole, cpu) in middle.items():
        print(f"{name}: first step after {first:.1f} s, 8 cells in {whole:.1f} s, {cpu:.1f} s of CPU")
    (hand_first, hand_all, hand_cpu), (study_first, study_all, study_cpu) = middle["by hand"], middle["study"]
    after = ((study_all - study_first) - (hand_all - hand_first)) / 8
    print(f"study: {study_first - hand_first:+.1f} s to the first step, {after:+.2f} s a cell after it")
    print(f"study: {study_cpu - hand_cpu:+.1f} s of CPU in all, {(study_cpu - hand_cpu) / 8:+.2f} s a cell")


if __name__ == "__main__":
    main()
