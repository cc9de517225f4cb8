"""Distillation against cross-entropy on the ladder, at equal FLOPs.

    python -m benchmarks.training.distillation [--model tiny-llama-0.6m] [--rate 0.25] [--tokens 300k] [--figure SVG]

A ladder model is pruned in width and post-trained twice per seed from the same weights: on the text alone, and towards
the unpruned model's predictions (forward KL, temperature 1). A distilled token costs the teacher's forward pass more,
so the distilled run gets fewer tokens: both are read at the same FLOPs. Prints both curves, means over the seeds with
their range, seed by seed for the difference; `--figure` draws them.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.training.common import machine, model_folder, prune_width, table

from regrow.ladder import find_corpus
from regrow.models.load import load_model
from regrow.report.picture import flat_style
from regrow.report.svg import Chart, Line, Marks, draw
from regrow.runs import RunRecord
from regrow.training import TrainSpec
from regrow.training.counts import training_flops_per_token
from regrow.training.post_train import post_train
from regrow.training.spec import parse_eval_at
from regrow.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-0.6m")
    parser.add_argument("--rate", type=float, default=0.25)
    parser.add_argument("--tokens", default="300k", help="of the cross-entropy runs")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    teacher, tokens = model_folder(options.model), parse_count(options.tokens)
    data, held_out = (find_corpus("ladder", split) for split in ("post_train", "held_out"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pruned = prune_width(teacher, options.rate, folder / "pruned")
        student, taught_by = load_model(pruned), load_model(teacher)
        length = TrainSpec(tokens=1).sequence_length
        alone, both = (training_flops_per_token(student, t, length) for t in (None, taught_by))
        assert alone is not None
        assert both is not None
        runs: dict[str, list[RunRecord]] = {"cross-entropy": [], "distillation": []}
        for seed in range(options.seeds):
            for name, share, guide in (("cross-entropy", 1.0, None), ("distillation", alone / both, teacher)):
                total = round(tokens * share)
                recipe = TrainSpec(
                    tokens=total,
                    learning_rate=options.lr,
                    eval_at=parse_eval_at(f"log:{options.points}", total),
                    seed=seed,
                    save_every_tokens=0,
                )
                out = folder / f"{name}-{seed}"
                ask = {"data": data, "held_out": held_out, "spec": recipe, "out": out, "teacher": guide}
                runs[name].append(post_train(pruned, **ask))
    per_token = {name: found[0].details["flops_per_token"] for name, found in runs.items()}
    print(f"{options.model} pruned in width at {options.rate:g}, {options.seeds} seeds, {machine()}")
    print(f"FLOPs per token: {per_token['cross-entropy']:.3g} alone, {per_token['distillation']:.3g} with the teacher")
    print(f"unpruned loss {runs['cross-entropy'][0].loss_before:.4f}")
    curves: dict[str, Curve] = {}
    for name, found in runs.items():
        losses = np.array([[point.loss for point in run.curve] for run in found])
        tokens_at = [point.tokens for point in found[0].curve]
        curves[name] = Curve(tokens=tokens_at, flops=np.array(tokens_at) * per_token[name], losses=losses)
    rows = []
    alone_, taught = curves["cross-entropy"], curves["distillation"]
    for i in range(alone_.losses.shape[1]):
        row: list[str] = []
        for curve in (alone_, taught):
            here = curve.losses[:, i]
            row += [
                f"{curve.flops[i]:.2e}",
                f"{curve.tokens[i]:,}",
                f"{here.mean():.4f} ({here.min():.4f} to {here.max():.4f})",
            ]
        apart = taught.losses[:, i] - alone_.losses[:, i]
        rows.append([*row, f"{apart.mean():+.4f} ({apart.min():+.4f} to {apart.max():+.4f})"])
    head = ("FLOPs", "tokens", "loss")
    table([*(f"{h}, cross-entropy" for h in head), *(f"{h}, distilled" for h in head), "difference"], rows)
    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        options.figure.write_text(figure(curves))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Held-out losses [seeds, points] (nats/token) at tokens and training FLOPs [points]."""

    tokens: list[int]
    flops: np.ndarray
    losses: np.ndarray


def figure(curves: dict[str, Curve]) -> str:
    """The curves over FLOPs with the band of the seeds, as an SVG file that stands alone."""
    lines = [
        Line(
            x=curve.flops,
            y=curve.losses.mean(axis=0),
            low=curve.losses.min(axis=0),
            high=curve.losses.max(axis=0),
            style=style,
            name=name,
        )
        for style, (name, curve) in enumerate(curves.items())
    ]
    marks = []
    for line in lines:
        labels = [""] * len(line.x)
        labels[-2] = line.name
        marks.append(Marks(x=line.x, y=line.y, style=line.style, tips=[line.name] * len(labels), labels=labels))
    chart = Chart(
        title="Held-out loss over training FLOPs",
        description="cross-entropy and distillation, mean over the seeds, and their range",
        x_label="training FLOPs",
        y_label="held-out loss (nats/token)",
        lines=lines,
        marks=marks,
        x_log=False,
        x_format=lambda value: f"{value:.1e}",
        width=480,
    )
    drawn = str(draw(chart, "distillation"))
    paper = f'<rect width="{chart.width}" height="{chart.height}" fill="#ffffff"/>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
    whole = drawn.replace("<svg ", head, 1)
    return whole.replace("<clipPath", f"<style>{flat_style()}</style>{paper}<clipPath", 1) + "\n"


if __name__ == "__main__":
    main()
