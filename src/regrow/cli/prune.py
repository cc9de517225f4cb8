"""`regrow prune`: a model in, a smaller one out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import AsJson, Out, print_json

if TYPE_CHECKING:
    from regrow.pruning.plan import PrunePlan


def prune(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a ladder model such as tiny-llama-3m.")],
    out: Out,
    method: Annotated[str, typer.Option(help="`depth`, `width`, or N:M such as `2:4` (2 kept of every 4).")],
    rate: Annotated[float | None, typer.Option(help="Share of the parameters to remove, e.g. 0.25.")] = None,
    scorer: Annotated[str | None, typer.Option(help="What ranks the parts; each method has its default.")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Text the scores are measured on; `ladder` is the embedded corpus.")
    ] = None,
    calibration_blocks: Annotated[int, typer.Option(help="Blocks of calibration text.")] = 32,
    calibration_length: Annotated[int, typer.Option(help="Tokens in a block, at most the model's context.")] = 512,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan's shapes and counts; change nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Which blocks are drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Prune a model by depth, by width or to N:M sparsity, and write a standard Hugging Face checkpoint.

    Example: `regrow prune tiny-llama-3m --method depth --rate 0.25 --out pruned`
    """
    from regrow.arch import find_architecture
    from regrow.errors import InputError
    from regrow.ladder import find_corpus, find_model
    from regrow.pruning.plan import outline
    from regrow.pruning.spec import PruneSpec

    spec = PruneSpec(
        method=method,
        rate=rate,
        scorer=scorer,
        calibration_blocks=calibration_blocks,
        calibration_length=calibration_length,
        seed=seed,
    )
    folder = find_model(model)
    if dry_run:
        _print_plan(outline(find_architecture(folder), spec), model, as_json)
        return
    blocks = None
    if spec.needs_calibration:
        if calibration is None and folder == model:
            from regrow.models.load import load_tokenizer

            load_tokenizer(model)  # a model that is not there is the first thing to say
            raise InputError(
                f"the scorer {spec.scorer!r} needs text", where="--calibration", hint="give text data, or `ladder`"
            )
        from regrow.cli.loading import load_blocks

        text = find_corpus(calibration or "ladder", "post_train")
        blocks = load_blocks(text, folder, sequence_length=calibration_length)
    from regrow.pruning.prune import prune as run

    plan = run(folder, spec, calibration=blocks, out=Path(out))
    _print_plan(plan, model, as_json, out)


def _print_plan(plan: PrunePlan, model: str, as_json: bool, out: Path | None = None) -> None:
    if as_json:
        print_json({**plan.to_dict(), "out": None if out is None else str(out)})
        return
    from regrow.units import format_count

    changes = ", ".join(f"{name} {was} -> {now}" for name, (was, now) in plan.changes.items())
    typer.echo(
        f"{model}: {format_count(plan.params_before)} -> {format_count(plan.params_after)} parameters, "
        f"{plan.pruning_rate:.4f} removed by {plan.method} ({changes or 'zeros keep their place'})"
        + ("" if out is None else f"; written to {out}")
    )
