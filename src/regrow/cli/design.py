"""`regrow design`: which small runs predict the tokens of a large one best, for a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.memory_options import ActiveParams, Batch, CacheDtype, Dtype, MaxMemory, TrainingContext
from regrow.cli.options import (
    AsJson,
    Context,
    Family,
    Gpu,
    Level,
    Mfu,
    Price,
    Rate,
    number,
    parse_rates,
    print_json,
)
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.planning.design_model import DesignModel
    from regrow.planning.study_design import StudyDesign


def design(
    law: Annotated[
        str | None,
        typer.Argument(metavar="[law.json]", help="A law from pilot runs. [default: a prior, which is printed]"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The large model: a catalogue name or a config.json.")] = None,
    params_before: Annotated[
        str | None, typer.Option(help="Parameters of the large model, if no --target is given.")
    ] = None,
    loss_before: Annotated[float | None, typer.Option(help="Its loss before pruning, nats/token.")] = None,
    loss_pruned: Annotated[
        float | None, typer.Option(help="Its loss right after pruning at --rate, nats/token (one evaluation).")
    ] = None,
    rate: Rate = None,
    method: Annotated[
        str | None,
        typer.Option(help="Pruning method: `depth`, `width`, `experts` or N:M. [default: the law's, or depth]"),
    ] = None,
    family: Family = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="Models or sizes that the study may prune, separated by commas. `1B@2.4` also gives the loss."
        ),
    ] = None,
    rates: Annotated[str, typer.Option(help="Pruning rates to choose from, fractions.")] = "0.15,0.25,0.35",
    tokens: Annotated[
        str | None,
        typer.Option(help="Lengths of runs to choose from, tokens. [default: doublings from 0.2 per parameter]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of one size and rate, at most.")] = 2,
    budget_hours: Annotated[float | None, typer.Option(help="GPU-hours of the study, its controls included.")] = None,
    budget_flops: Annotated[
        float | None, typer.Option(help="Budget of the study in FLOPs, instead of GPU-hours.")
    ] = None,
    controls: Annotated[bool, typer.Option(help="Count an unpruned control of each size.")] = True,
    runs: Annotated[
        list[str] | None,
        typer.Option(help="Runs that the pilot law was fitted to: what they already tell is counted."),
    ] = None,
    next_runs: Annotated[
        int | None, typer.Option("--next", help="Propose only this many runs, the most useful first.")
    ] = None,
    min_gain: Annotated[
        float,
        typer.Option(
            help="D* is the number of tokens after which doubling them lowers the loss by less than this, nats."
        ),
    ] = 0.01,
    discrepancy: Annotated[
        float,
        typer.Option(
            help="Scale of the model discrepancy: how far the true curve may be from the law. 0: the law is exact."
        ),
    ] = 1.0,
    gpu: Gpu = "h100",
    price: Price = None,
    mfu: Mfu = None,
    max_memory: MaxMemory = None,
    active_params: ActiveParams = None,
    context: Context = "4096",
    training_context: TrainingContext = None,
    batch: Batch = None,
    dtype: Dtype = None,
    cache_dtype: CacheDtype = None,
    level: Level = 0.9,
    out: Annotated[Path | None, typer.Option("--out", help="Write study files for `regrow study`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Design the study that gives the narrowest interval of D* for a large model, and show its cost.

    Example: `regrow design --target Qwen2.5-7B --rate 0.25 --candidate Qwen2.5-0.5B,Qwen2.5-1.5B,Qwen2.5-3B
    --budget-hours 200`

    Next run: `regrow design law.json --runs study --next 1 --target 8B --rate 0.25 --candidate 1B,3B --budget-hours 50`
    """
    from regrow.cli.memory_options import contexts, memory_target
    from regrow.errors import InputError
    from regrow.laws.files import load_laws
    from regrow.laws.select import select_law
    from regrow.methods import is_masked
    from regrow.planning.cost import DEFAULT_MFU
    from regrow.planning.design import design as run
    from regrow.planning.information import Discrepancy
    from regrow.planning.study_design import DesignSpec
    from regrow.pruning.spec import PruneSpec
    from regrow.runs import read_runs

    if (target is None) == (params_before is None):
        raise InputError("--target or --params-before", hint="give one of them: the model whose tokens are asked for")
    if not candidate:
        raise InputError("--candidate is missing", hint="name the small models that could be run, e.g. 500M,1B,3B")
    found = None if law is None else select_law(load_laws(law), family=family, method=method)
    served, trained = contexts(context, training_context, max_memory)
    wanted = _target(target or params_before or "", loss_before, loss_pruned)
    spec = DesignSpec(
        target=wanted,
        pruning_rate=rate,
        memory=memory_target(
            max_memory, context=served, batch=batch, dtype=dtype, cache_dtype=cache_dtype, model=wanted.name
        ),
        active_params=active_params,
        candidates=tuple(_model(part) for text in candidate for part in _parts(text)),
        method=method or (found.method if found else "depth"),
        family=family,
        rates=parse_rates(rates),
        tokens=() if tokens is None else tuple(_count(part, "--tokens") for part in _parts(tokens)),
        seeds=seeds,
        budget_flops=budget_flops,
        budget_gpu_hours=budget_hours,
        controls=controls,
        next=next_runs,
        min_gain=min_gain,
        discrepancy=Discrepancy().times(discrepancy),
        gpu=gpu,
        mfu=DEFAULT_MFU if mfu is None else mfu,
        price_usd_per_hour=price,
        context=trained,
        level=level,
    )
    # report an unknown method before the search
    PruneSpec(method=spec.method, rate=None if is_masked(spec.method) else spec.pruning_rate)
    answer = run(spec, found, None if not runs else read_runs(*runs))
    written = [] if out is None else _write(answer.studies(), out)
    if as_json:
        print_json({**answer.to_dict(), "files": list(map(str, written))})
    else:
        _print(answer)
        if written:
            folder = out.with_suffix("") if out is not None else ""
            typer.echo("\n".join(f"regrow study {path} --out {folder}" for path in written))
    for warning in answer.warnings:
        say(f"warning: {warning}", err=True)
    blanks = _blanks(answer)
    if written and blanks:
        say(f"fill in before you run them: {', '.join(blanks)}", err=True)


def _blanks(answer: StudyDesign) -> list[str]:
    """What the user has to fill in to the study files: the family, and models known by their size only."""
    models = {model for study in answer.studies() for model in study["models"] if model.startswith("FILL-IN")}
    return [*(["family"] if answer.family == "FILL-IN" else []), *sorted(models)]


def _print(answer: StudyDesign) -> None:
    from regrow.planning.cost import say_gpu_time
    from regrow.units import format_count

    ordered = answer.spec.next is not None
    total = sum(run.flops for run in answer.runs) or 1.0
    columns = ["model", "rate", "tokens", "runs", "FLOPs", "of the runs"] + ["then x/÷"] * ordered
    rows = [
        [run.model, number(run.pruning_rate), format_count(run.tokens), str(run.repeats), number(run.flops, ".3g"),
         f"{run.flops / total:.0%}"] + [number(run.factor_after, ".3g")] * ordered
        for run in answer.runs
    ]  # fmt: skip
    print_table("", columns, rows)
    controls = answer.expected.flops - sum(run.flops for run in answer.runs)
    if controls > 0:
        share = controls / answer.expected.flops
        typer.echo(f"and an unpruned control of each model, {say_gpu_time(share * answer.expected.gpu_hours)} in all")
    say(answer.sentence())
    say(f"From {answer.assumes}.")


def _write(studies: list[dict[str, Any]], out: Path) -> list[Path]:
    """One file, or several numbered in the order in which to run them."""
    import yaml

    from regrow.disk import write_text
    from regrow.errors import InputError

    several = [out.with_name(f"{out.stem}-{i + 1}{out.suffix or '.yaml'}") for i in range(len(studies))]
    paths = [out] if len(studies) == 1 else several
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, study in zip(paths, studies, strict=True):
            write_text(path, yaml.safe_dump(study, sort_keys=False))
    except OSError as failed:
        raise InputError(f"can't write here ({failed.strerror})", where=str(out), hint="choose another --out") from None
    return paths


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _model(text: str) -> DesignModel:
    """`1B`, `Llama-3.2-1B`, a ladder model or a config, each with `@` and its loss where that is known."""
    import re

    from regrow.cli.asking import find_shape
    from regrow.planning.design_model import DesignModel

    name, _, loss = text.partition("@")
    before = _number(loss, f"the loss of {name}") if loss else None
    if re.match(r"[\d.]", name) and not Path(name).exists():
        return DesignModel(params_before=_count(name, "model"), loss_before=before)
    return DesignModel(architecture=find_shape(name), name=name, loss_before=before)


def _target(text: str, loss_before: float | None, loss_pruned: float | None) -> DesignModel:
    """The large model, with its losses."""
    from dataclasses import replace

    model = _model(text)
    before = model.loss_before if loss_before is None else loss_before
    return replace(model, loss_before=before, loss_pruned=loss_pruned)


def _count(text: str, what: str) -> float:
    from regrow.units import parse_count

    return float(parse_count(text, what=what))


def _number(text: str, what: str) -> float:
    from regrow.errors import InputError

    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number", where=what, hint="write it like 0.25") from None
