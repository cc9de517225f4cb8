"""`regrow prune`: a model in, a smaller one out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.held_out import HeldOutLoss
from regrow.cli.joint import Mixes, prune_mixes
from regrow.cli.memory_options import ActiveParams, Batch, CacheDtype, Dtype, MaxMemory, ServedContext, memory_target
from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, NoCache
from regrow.cli.prune_output import print_outline, print_plan, served_by
from regrow.errors import InputError
from regrow.methods import DEPTH_AND_WIDTH

if TYPE_CHECKING:
    from regrow.data import Blocks
    from regrow.pruning.plan import PrunePlan
    from regrow.pruning.scores import AnyScores
    from regrow.pruning.spec import PruneSpec

_Model = Annotated[str, typer.Argument(help="A checkpoint folder, or a ladder model such as tiny-llama-3m.")]
_Out = Annotated[Path | None, typer.Option("--out", help="Where the pruned model is written; a dry run needs none.")]
_Method = Annotated[
    str | None, typer.Option(help="`depth`, `width`, `depth+width`, `experts`, or N:M such as `2:4` (2 of 4 kept).")
]
_Rate = Annotated[float | None, typer.Option(help="Share of the parameters to remove, e.g. 0.25.")]
_Params = Annotated[
    str | None, typer.Option(help="Parameters to leave instead of a rate, e.g. 6B; tied embeddings count once.")
]
_Shape = Annotated[
    str | None,
    typer.Option(help="Sizes to leave instead of a rate: layers=24, experts=64, or hidden=768,intermediate=2048."),
]
_ScorerName = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="How the parts are ranked. Depth: block-influence, perplexity, angular, random. Width: activation, "
        "least-squares, random. Experts: routed-norm, frequency, random. N:M sparsity: sparsegpt, wanda, magnitude. "
        "[default: the first of the method's]",
    ),
]
_Axes = Annotated[
    str | None,
    typer.Option(
        help="What width may shrink, e.g. intermediate or hidden,intermediate,kv_heads. "
        "[default: hidden,intermediate; kv_heads where nothing else reaches the target]"
    ),
]
_MultipleOf = Annotated[int | None, typer.Option(help="Round widths to multiples of this. [default: by their size]")]
_Search = Annotated[
    int | None,
    typer.Option(
        help="Width: how many shapes near the target are tried; the one of least calibration loss is kept. "
        "[default: 4 with text, else 1]"
    ),
]
_Iterative = Annotated[
    bool, typer.Option("--iterative", help="Depth: remove one block at a time and measure again after each.")
]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Depth: a rate more than 0.5 points off is an error, not a note.")
]
_Calibration = Annotated[
    str | None,
    typer.Option(help="Text for scores and for the comparison of shapes; `ladder` is the embedded corpus."),
]
_Blocks = Annotated[int, typer.Option(help="Blocks of calibration text.")]
_Length = Annotated[int, typer.Option(help="Tokens in a block, at most the model's context.")]
_HeldOut = Annotated[
    str | None,
    typer.Option(
        "--held-out",
        help="Text (or `ladder`) to read the loss on before and after pruning: prints what pruning cost and the tokens "
        "to win half back.",
    ),
]
_LawFile = Annotated[
    str | None,
    typer.Option(
        "--law",
        help="With --held-out: the law that predicts the tokens to win half back, a law file. [default: "
        "`reference`, which "
        "the package ships]",
    ),
]
_PlanFile = Annotated[
    str | None,
    typer.Option("--plan", help="Apply this plan: the output of --dry-run --json, or a regrow_prune.json."),
]
_ScoresFile = Annotated[
    str | None, typer.Option("--scores", help="Use these scores, saved by --save-scores, instead of measuring text.")
]
_SaveScores = Annotated[
    str | None, typer.Option(help="Save the scores to this file, to prune at other rates without measuring again.")
]
_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and write no model. With --calibration or --scores it also says which parts go.",
    ),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --out if it is not empty.")]
_Device = Annotated[str, typer.Option(help="Device that runs the blocks: `cpu`, `cuda`, `cuda:1`.")]
_Precision = Annotated[
    str,
    typer.Option(
        help="Matrix products of the passes over text: `fp32`, `bf16`, or `auto`: on a GPU the model's own type; on a "
        "CPU `bf16` if the weights are bf16, the hidden width is at least 512 and the CPU multiplies bf16 natively, "
        "else `fp32`."
    ),
]
_Seed = Annotated[int, typer.Option(help="Seed that selects the calibration blocks.")]


def prune(
    model: _Model,
    out: _Out = None,
    method: _Method = None,
    rate: _Rate = None,
    params: _Params = None,
    active_params: ActiveParams = None,
    shape: _Shape = None,
    max_memory: MaxMemory = None,
    context: ServedContext = None,
    batch: Batch = None,
    dtype: Dtype = None,
    cache_dtype: CacheDtype = None,
    scorer: _ScorerName = None,
    axes: _Axes = None,
    multiple_of: _MultipleOf = None,
    search: _Search = None,
    mixes: Mixes = None,
    iterative: _Iterative = False,
    strict: _Strict = False,
    calibration: _Calibration = None,
    calibration_blocks: _Blocks = 32,
    calibration_length: _Length = 512,
    held_out: _HeldOut = None,
    law: _LawFile = None,
    plan: _PlanFile = None,
    scores: _ScoresFile = None,
    save_scores: _SaveScores = None,
    dry_run: _DryRun = False,
    overwrite: _Overwrite = False,
    device: _Device = "cpu",
    precision: _Precision = "auto",
    seed: _Seed = 0,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Prune a model by depth, by width or to N:M sparsity, and write a standard Hugging Face checkpoint.

    Example: `regrow prune tiny-llama-3m --method depth --rate 0.25 --out pruned`

    Example: `regrow prune tiny-llama-3m --method 2:4 --held-out ladder --out sparse`

    Both ways: `regrow prune tiny-llama-3m --method depth+width --rate 0.3 --out mixed`

    For a card: `regrow prune Qwen/Qwen2.5-7B --method width --max-memory 12GB --context 32k --batch 2 --out pruned`
    """
    from regrow.ladder import find_model

    asked: dict[str, Any] = {
        "method": method,
        "rate": rate,
        "params": params,
        "active_params": active_params,
        "shape": shape,
        "scorer": scorer,
        "axes": axes,
    }
    asked |= {"multiple_of": multiple_of, "search": search, "iterative": iterative, "strict": strict}
    memory = {"context": context, "batch": batch, "dtype": dtype, "cache_dtype": cache_dtype}
    asked["memory"] = memory_target(max_memory, **memory, model=model if dry_run else None)
    options = {"calibration_blocks": calibration_blocks, "calibration_length": calibration_length, "seed": seed}
    folder = find_model(model)
    if held_out is not None and dry_run:
        raise InputError("given with --dry-run", where="--held-out", hint="a model that is not written has no loss")
    if law is not None and held_out is None:
        raise InputError(
            "given without --held-out", where="--law", hint="the law is asked what to expect of held-out losses"
        )
    if method == DEPTH_AND_WIDTH:
        others = {"plan": plan, "scores": scores, "save_scores": save_scores, "held_out": held_out, "law": law}
        prune_mixes(
            model, folder, _set_options({**asked, "mixes": mixes, **others}), options=options, calibration=calibration,
            out=out, dry_run=dry_run, overwrite=overwrite, device=device, precision=precision, cache=not no_cache,
            as_json=as_json,
        )  # fmt: skip
        return
    if mixes is not None:
        raise InputError("--mixes without --method depth+width", hint="width alone tries shapes with --search")
    given, spec = _plan_and_spec(plan, _set_options(asked), options)
    if dry_run and not (plan or calibration or scores or save_scores):
        print_outline(model, folder, spec, as_json)
        return
    need_training("regrow prune")
    _check_out(out, dry_run)
    losses = HeldOutLoss.asked({"held_out": held_out, "law": law}, folder, spec.method, cache=not no_cache)
    measured, blocks = _read_scores(scores, spec), None
    if _needs_text(spec, given, measured=measured is not None, calibration=calibration, dry_run=dry_run):
        blocks = _calibration_blocks(model, folder, spec, calibration, cache=not no_cache)
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
        precision=precision,
        text_name="ladder" if calibration in (None, "ladder") else None,
        model_name=model,
        progress=_say,
    )
    damage = None if losses is None or out is None else losses.read(out, device=device)
    written = None if dry_run else out
    print_plan(done, model, as_json, written, damage=damage, served=served_by(folder, written))


def _set_options(asked: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave."""
    # not `value in (None, False)`: 0 equals False, and a rate of 0 is an error that the spec reports
    return {name: value for name, value in asked.items() if value is not None and value is not False}


def _check_out(out: Path | None, dry_run: bool) -> None:
    if out is None and not dry_run:
        raise InputError("no output folder given", where="--out", hint="name one, or ask for a --dry-run")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _read_scores(scores: str | None, spec: PruneSpec) -> AnyScores | None:
    """The scores of a file, if there is one, checked against the spec's scorer before any text is read."""
    if scores is None:
        return None
    from regrow.pruning.scores import load_scores
    from regrow.pruning.scoring import check_scorer

    measured = load_scores(scores)
    if spec.needs_calibration:
        check_scorer(measured, spec)
    return measured


def _needs_text(
    spec: PruneSpec, given: PrunePlan | None, *, measured: bool, calibration: str | None, dry_run: bool
) -> bool:
    """Whether calibration text is read: to measure scores, to compare shapes, or to solve weights again."""
    if spec.refits and not dry_run:
        return True
    if given is not None and given.pattern is None:
        return False
    searches = spec.shapes_tried > 1 and bool(calibration or spec.search is not None)
    return spec.needs_calibration and (not measured or searches)


def _plan_and_spec(
    plan: str | None, asked: dict[str, Any], options: dict[str, Any]
) -> tuple[PrunePlan | None, PruneSpec]:
    """The plan of a file, if there is one, and the spec: what the user asks, or what the plan answers."""
    from regrow.pruning.plan import read_plan, spec_of
    from regrow.pruning.spec import METHODS, PruneSpec
    from regrow.shapes import parse_shape
    from regrow.units import parse_count

    if plan is not None:
        for name in asked:
            raise InputError(f"{name} given with a plan", where="--plan", hint="the plan sets it; leave it out")
        given = read_plan(plan)
        return given, spec_of(given, **options)
    if "method" not in asked:
        raise InputError("no method given", where="--method", hint=f"choose from: {', '.join(METHODS)}")
    for name in ("params", "active_params"):
        if name in asked:
            asked[name] = parse_count(asked[name], what=f"--{name.replace('_', '-')}")
    if "shape" in asked:
        asked["shape"] = parse_shape(asked["shape"])
    if "axes" in asked:
        asked["axes"] = tuple(axis.strip() for axis in asked["axes"].split(",") if axis.strip())
    return None, PruneSpec(**asked, **options)


def _calibration_blocks(model: str, folder: str, spec: PruneSpec, calibration: str | None, *, cache: bool) -> Blocks:
    """The calibration text in the model's tokens."""
    from regrow.ladder import find_corpus

    if calibration is None and folder == model:
        from regrow.models.load import load_tokenizer

        load_tokenizer(model)  # a missing model is reported before missing text
        raise InputError(
            f"the scorer {spec.scorer!r} needs text", where="--calibration", hint="give text data, or `ladder`"
        )
    from regrow.cli.loading import load_blocks

    text = find_corpus(calibration or "ladder", "post_train")
    return load_blocks(text, folder, sequence_length=spec.calibration_length, cache=cache)
