"""Distillation against cross-entropy on the ladder, at equal FLOPs.

    python benchmarks/training_distillation.py [--model tiny-llama-0.6m] [--rate 0.25] [--tokens 300k] [--figure SVG]

A ladder model is pruned in width and post-trained twice per seed from the same weights: on the text alone, and towards
the unpruned model's predictions (forward KL, temperature 1). A distilled token costs the teacher's forward pass more,
so the distilled run gets fewer tokens: both are read at the same FLOPs. Prints both curves; `--figure` draws them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from training_common import machine, model_folder, prune_width, table

from regrow.ladder import find_corpus
from regrow.models.load import load_model
from regrow.runs import RunRecord
from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.run import training_flops_per_token
from regrow.training.spec import parse_eval_at
from regrow.units import parse_count

WIDTH, HEIGHT, LEFT, BOTTOM = 460, 260, 56, 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-0.6m")
    parser.add_argument("--rate", type=float, default=0.25)
    parser.add_argument("--tokens", default="300k", help="of the cross-entropy runs")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=2)
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
    curves: dict[str, list[tuple[float, float]]] = {}
    rows = []
    for i in range(len(runs["cross-entropy"][0].curve)):
        row: list[str] = []
        for name, found in runs.items():
            at, loss = found[0].curve[i].tokens, statistics.mean(run.curve[i].loss for run in found)
            curves.setdefault(name, []).append((at * per_token[name], loss))
            row += [f"{at * per_token[name]:.2e}", f"{at:,}", f"{loss:.4f}"]
        rows.append([*row, f"{float(row[5]) - float(row[2]):+.4f}"])
    head = ["FLOPs", "tokens", "loss"]
    table([*(f"{h} (CE)" for h in head), *(f"{h} (distilled)" for h in head), "distilled - CE"], rows)
    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        options.figure.write_text(figure(curves))


def figure(curves: dict[str, list[tuple[float, float]]]) -> str:
    """The curves over FLOPs as a small SVG, which follows the reader's light or dark theme."""
    points = [point for curve in curves.values() for point in curve]
    right, low, high = max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 12) * x / right
        return across, 10 + (HEIGHT - BOTTOM - 10) * (high - y) / (high - low)

    style = "text{font:12px sans-serif;fill:#444}@media(prefers-color-scheme:dark){text{fill:#ccc}}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    parts.append(f"<title>Held-out loss over training FLOPs</title><style>{style}</style>")
    for k in range(5):
        value = low + (high - low) * k / 4
        y = place(0, value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 12}" stroke="#8884" />')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for k in (0.25, 0.5, 0.75, 1.0):
        x = place(right * k, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{right * k:.1e}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 3}" text-anchor="middle">training FLOPs</text>')
    for (name, curve), colour, dash in zip(curves.items(), ("#0072b2", "#d55e00"), ("", "6 3"), strict=True):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        x, y = place(*curve[len(curve) // 2])
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 8 + 26 * (dash != ""):.1f}" style="fill:{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
