"""`regrow prune`: a model in, a smaller one out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, NoCache, print_json, print_table

if TYPE_CHECKING:
    from regrow.arch import Architecture
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
    search: Annotated[
        int | None,
        typer.Option(
            help="Width: how many shapes near the target are tried; the one of least calibration loss is kept. 4 by "
            "default where there is text."
        ),
    ] = None,
    iterative: Annotated[
        bool, typer.Option("--iterative", help="Depth: measure again after each block that goes.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Depth: a rate more than 0.5 points off is an error, not a note.")
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(help="Text that scores are measured and shapes compared on; `ladder` is the embedded corpus."),
    ] = None,
    calibration_blocks: Annotated[int, typer.Option(help="Blocks of calibration text.")] = 32,
    calibration_length: Annotated[int, typer.Option(help="Tokens in a block, at most the model's context.")] = 512,
    plan: Annotated[
        str | None, typer.Option(help="Do what this plan says: a file from --dry-run --json, or a regrow_prune.json.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="Scores of this model from --save-scores, in place of a pass.")
    ] = None,
    save_scores: Annotated[str | None, typer.Option(help="Keep the scores in this file, for other rates.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan, write no model; with --calibration or --scores also which parts go."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it holds something.")] = False,
    device: Annotated[str, typer.Option(help="Where blocks are run: `cpu`, `cuda`, `cuda:1`.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Which blocks are drawn.")] = 0,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Prune a model by depth, by width or to N:M sparsity, and write a standard Hugging Face checkpoint.

    Example: `regrow prune tiny-llama-3m --method depth --rate 0.25 --out pruned`
    """
    from regrow.errors import InputError
    from regrow.ladder import find_model

    asked = {
        "method": method,
        "rate": rate,
        "params": params,
        "shape": shape,
        "scorer": scorer,
        "axes": axes,
        "multiple_of": multiple_of,
        "search": search,
        "iterative": iterative,
        "strict": strict,
    }
    # not `v in (None, False)`: 0 equals False, and a rate of 0 is an error to be told
    asked_for = {name: value for name, value in asked.items() if value is not None and value is not False}
    options = {"calibration_blocks": calibration_blocks, "calibration_length": calibration_length, "seed": seed}
    given, spec = _plan_and_spec(plan, asked_for, options)
    folder = find_model(model)
    if dry_run and not (plan or calibration or scores or save_scores):
        from regrow.arch import find_architecture
        from regrow.pruning.plan import outlines

        outlined = outlines(find_architecture(folder), spec)
        shapes = [
            {"hidden": a.hidden, "intermediate": a.intermediate, "kv_heads": a.kv_heads}
            for a in (p.after for p in outlined)
        ]
        _print_plan(outlined[0], model, as_json, memory=_memory(outlined[0].before, spec), shapes=shapes)
        if len(outlined) > 1 and not as_json:
            listed = ", ".join("/".join(map(str, shape.values())) for shape in shapes)
            typer.echo(f"text will choose among hidden/intermediate/KV heads {listed} (--search)")
        return
    if out is None and not dry_run:
        raise InputError("no output folder given", where="--out", hint="name one, or ask for a --dry-run")
    # scores are looked at before the text: a wrong file should not cost a pass
    measured = None
    if scores is not None:
        from regrow.pruning.scores import load_scores
        from regrow.pruning.scoring import check_scorer

        measured = load_scores(scores)
        if spec.needs_calibration:
            check_scorer(measured, spec)
    searches = spec.shapes_tried > 1 and (calibration or spec.search is not None)
    needs_text = spec.needs_calibration and bool(measured is None or searches)
    if given is not None and given.pattern is None:
        needs_text = False
    # weights that stay are solved again on the text, when they are written
    needs_text |= spec.refits and not dry_run
    blocks = _calibration_blocks(model, folder, spec, calibration, cache=not no_cache) if needs_text else None
    from regrow.pruning.prune import prune as run

    done = run(
        folder,
        spec,
        calibration=blocks,
        out=None if dry_run else out,
        plan=given,
        scores=measured,
        save_scores=save_scores,
        overwrite=overwrite,
        device=device,
        text_name="ladder" if calibration in (None, "ladder") else None,
        progress=lambda line: print(line, file=sys.stderr),
    )
    _print_plan(done, model, as_json, None if dry_run else out)


def _plan_and_spec(
    plan: str | None, asked: dict[str, Any], options: dict[str, Any]
) -> tuple[PrunePlan | None, PruneSpec]:
    """The plan of a file, if there is one, and the spec: what the user asks, or what the plan answers."""
    from regrow.errors import InputError
    from regrow.pruning.plan import read_plan, spec_of
    from regrow.pruning.spec import METHODS, PruneSpec, parse_shape
    from regrow.units import parse_count

    if plan is not None:
        for name in asked:
            raise InputError(f"{name} given with a plan", where="--plan", hint="the plan says it; leave it out")
        given = read_plan(plan)
        return given, spec_of(given, **options)
    if "method" not in asked:
        raise InputError("no method given", where="--method", hint=f"choose from: {', '.join(METHODS)}")
    if "params" in asked:
        asked["params"] = parse_count(asked["params"], what="--params")
    if "shape" in asked:
        asked["shape"] = parse_shape(asked["shape"])
    if "axes" in asked:
        asked["axes"] = tuple(axis.strip() for axis in asked["axes"].split(",") if axis.strip())
    return None, PruneSpec(**asked, **options)


def _calibration_blocks(model: str, folder: str, spec: PruneSpec, calibration: str | None, *, cache: bool) -> Blocks:
    """The calibration text in the model's tokens."""
    from regrow.errors import InputError
    from regrow.ladder import find_corpus

    if calibration is None and folder == model:
        from regrow.models.load import load_tokenizer

        load_tokenizer(model)  # a model that is not there is the first thing to say
        raise InputError(
            f"the scorer {spec.scorer!r} needs text", where="--calibration", hint="give text data, or `ladder`"
        )
    from regrow.cli.loading import load_blocks

    text = find_corpus(calibration or "ladder", "post_train")
    return load_blocks(text, folder, sequence_length=spec.calibration_length, cache=cache)


def _memory(before: Architecture, spec: PruneSpec) -> int | None:
    """Bytes that pruning will take; None where torch, which would do it, is not installed."""
    try:
        from regrow.pruning.estimate import estimate_for
    except ModuleNotFoundError:
        return None
    samples = spec.calibration_blocks if spec.needs_calibration else 0
    return estimate_for(before, spec, samples=samples, length=spec.calibration_length).total


def _print_plan(
    plan: PrunePlan,
    model: str,
    as_json: bool,
    out: Path | None = None,
    *,
    memory: int | None = None,
    shapes: list[dict[str, int]] | None = None,
) -> None:
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        choice = {"shapes": shapes} if shapes and len(shapes) > 1 else {}
        print_json({**plan.to_dict(), "out": None if out is None else str(out), "memory_bytes": memory, **choice})
        return
    from regrow.pruning.card import plan_rows

    title = f"{model}: {plan.method} by {plan.scorer}"
    print_table(title, ["", "before", "after", "change"], plan_rows(plan))
    typer.echo(_COUNTING)
    if memory is not None:
        typer.echo(f"pruning will take about {memory / 1e9:.2f} GB of memory")
    if plan.dropped_layers is not None:
        typer.echo(f"blocks that go: {', '.join(map(str, plan.dropped_layers))}")
    for tried in plan.candidates or ():
        typer.echo(
            f"tried hidden {tried.hidden}, intermediate {tried.intermediate}, KV heads {tried.kv_heads}: "
            f"rate {tried.pruning_rate:.4f}, loss {tried.loss:.4f} on the calibration text"
        )
    if not plan.decided:
        typer.echo("which parts go is decided by the scores")
    if out is not None:
        typer.echo(f"written to {out}")
