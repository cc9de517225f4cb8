"""`regrow prune`: a model in, a smaller one out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, NoCache, print_json, print_table

if TYPE_CHECKING:
    from regrow.data import Blocks
    from regrow.pruning.plan import PrunePlan
    from regrow.pruning.spec import PruneSpec

_COUNTING = "Parameters are all of them, tied embeddings counted once; non-embedding leaves the embeddings out."


def prune(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a ladder model such as tiny-llama-3m.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the pruned model is written; a dry run needs none.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="`depth`, `width`, or N:M such as `2:4` (2 kept of every 4).")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Share of the parameters to remove, e.g. 0.25.")] = None,
    params: Annotated[
        str | None, typer.Option(help="Parameters to leave instead of a rate, e.g. 6B; tied embeddings count once.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Sizes to leave instead of a rate: layers=24, or hidden=768,intermediate=2048.")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help="What ranks the parts; each method has its default.")] = None,
    axes: Annotated[
        str | None, typer.Option(help="What width may shrink, e.g. intermediate or hidden,intermediate,kv_heads.")
    ] = None,
    multiple_of: Annotated[int | None, typer.Option(help="Widths are multiples of this, and no other.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Depth: a rate more than 0.5 points off is an error, not a note.")
    ] = False,
    calibration: Annotated[
        str | None, typer.Option(help="Text the scores are measured on; `ladder` is the embedded corpus.")
    ] = None,
    calibration_blocks: Annotated[int, typer.Option(help="Blocks of calibration text.")] = 32,
    calibration_length: Annotated[int, typer.Option(help="Tokens in a block, at most the model's context.")] = 512,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan's shapes and counts; change nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Which blocks are drawn.")] = 0,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Prune a model by depth, by width or to N:M sparsity, and write a standard Hugging Face checkpoint.

    Example: `regrow prune tiny-llama-3m --method depth --rate 0.25 --out pruned`
    """
    from regrow.arch import find_architecture
    from regrow.errors import InputError
    from regrow.ladder import find_model
    from regrow.pruning.plan import outline
    from regrow.pruning.spec import METHODS, PruneSpec, parse_shape
    from regrow.units import parse_count

    if method is None:
        raise InputError("no method given", where="--method", hint=f"choose from: {', '.join(METHODS)}")
    spec = PruneSpec(
        method=method,
        rate=rate,
        params=None if params is None else parse_count(params, what="--params"),
        shape=None if shape is None else parse_shape(shape),
        scorer=scorer,
        axes=None if axes is None else tuple(axis.strip() for axis in axes.split(",") if axis.strip()),
        multiple_of=multiple_of,
        strict=strict,
        calibration_blocks=calibration_blocks,
        calibration_length=calibration_length,
        seed=seed,
    )
    folder = find_model(model)
    if dry_run:
        _print_plan(outline(find_architecture(folder), spec), model, as_json)
        return
    if out is None:
        raise InputError("no output folder given", where="--out", hint="name one, or ask for a --dry-run")
    blocks = _calibration_blocks(model, folder, spec, calibration, cache=not no_cache)
    from regrow.pruning.prune import prune as run

    plan = run(folder, spec, calibration=blocks, out=Path(out))
    _print_plan(plan, model, as_json, out)


def _calibration_blocks(
    model: str, folder: str, spec: PruneSpec, calibration: str | None, *, cache: bool
) -> Blocks | None:
    """The calibration text in the model's tokens; None if the scorer reads none."""
    from regrow.errors import InputError
    from regrow.ladder import find_corpus

    if not spec.needs_calibration:
        return None
    if calibration is None and folder == model:
        from regrow.models.load import load_tokenizer

        load_tokenizer(model)  # a model that is not there is the first thing to say
        raise InputError(
            f"the scorer {spec.scorer!r} needs text", where="--calibration", hint="give text data, or `ladder`"
        )
    from regrow.cli.loading import load_blocks

    text = find_corpus(calibration or "ladder", "post_train")
    return load_blocks(text, folder, sequence_length=spec.calibration_length, cache=cache)


def _print_plan(plan: PrunePlan, model: str, as_json: bool, out: Path | None = None) -> None:
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print_json({**plan.to_dict(), "out": None if out is None else str(out)})
        return
    title = f"{model}: {plan.method} by {plan.scorer}"
    print_table(title, ["", "before", "after", "change"], plan_rows(plan))
    typer.echo(_COUNTING)
    if plan.dropped_layers is not None:
        typer.echo(f"blocks that go: {', '.join(map(str, plan.dropped_layers))}")
    if not plan.decided:
        typer.echo("which parts go is decided by the scores")
    if out is not None:
        typer.echo(f"written to {out}")


def plan_rows(plan: PrunePlan) -> list[list[str]]:
    """The plan as rows of a table: name, before, after, change. Shapes first, then counts."""
    from regrow.units import format_count

    was, now = plan.before, plan.after
    names = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab")
    rows = [_row(name.replace("_", " "), getattr(was, name), getattr(now, name), str) for name in names]
    kind = " (not zero)" if plan.pattern else ""
    rows.append(_row(f"parameters{kind}", plan.params_before, plan.params_after, format_count))
    rows.append(_row(f"non-embedding{kind}", plan.non_embedding_before, plan.non_embedding_after, format_count))
    target = "" if plan.target_rate is None else f"asked {plan.target_rate:.4f}"
    rows.append(["pruning rate", "", f"{plan.pruning_rate:.4f}", target])
    return rows


def _row(name: str, was: int, now: int, show: Any) -> list[str]:
    return [name, show(was), show(now), "" if was == now else f"{100 * (now / was - 1):+.1f}%"]
