"""`regrow plan`: the optimal amount of tokens, and what it costs; with `--compare`, of which method and rate."""

# without `from __future__ import annotations`: typer would compile every option's annotation anew at each start
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import (
    AsJson,
    Context,
    Family,
    Gpu,
    LawFile,
    Level,
    LossBefore,
    LossPruned,
    Method,
    Mfu,
    ModelName,
    NamedLaw,
    Price,
    Rate,
    number,
    parse_rates,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.planning.frontier import Candidate, Comparison


#: the rate at which the reference law is asked where none is given
_USUAL_RATE = 0.25


def plan(
    loss_before: LossBefore,
    law: LawFile = None,
    named: NamedLaw = None,
    model: ModelName = None,
    params_before: Annotated[
        str | None, typer.Option(help="Parameters before pruning, e.g. 8B, if no --model is given.")
    ] = None,
    rate: Rate = None,
    family: Family = None,
    method: Method = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="When to stop: `gain`, `slope`, `recovery`, `target` or `budget`. [from the options given, else gain]",
            show_default=False,
        ),
    ] = None,
    min_gain: Annotated[
        float | None,
        typer.Option(help="gain: stop when doubling the tokens lowers the loss by less than this, nats. [0.01]"),
    ] = None,
    max_slope: Annotated[
        float | None,
        typer.Option(help="slope: stop when the loss falls more slowly than this, nats per million tokens."),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="recovery: stop when this share of the recoverable gap is closed. [0.9]")
    ] = None,
    loss_pruned: LossPruned = None,
    target: Annotated[float | None, typer.Option(help="target: stop when the loss reaches this, nats/token.")] = None,
    budget_hours: Annotated[float | None, typer.Option(help="budget: GPU-hours to spend.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="budget: USD to spend; needs --price.")] = None,
    gpu: Gpu = "h100",
    price: Price = None,
    mfu: Mfu = None,
    mfu_from: Annotated[
        str | None,
        typer.Option(metavar="RUNS", help="Measure --mfu from these run folders; they must have run on --gpu."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher to distil from (a model or its parameters): adds the cost of its forward pass."),
    ] = None,
    context: Context = 4096,
    level: Level = 0.9,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Rank all methods of the law file at --rates, for the same size or budget."),
    ] = False,
    rates: Annotated[str | None, typer.Option(help="compare: pruning rates. [0.15,0.25,0.35]")] = None,
    params_after: Annotated[str | None, typer.Option(help="compare: the most parameters to deploy, e.g. 6B.")] = None,
    served_tokens: Annotated[
        str | None, typer.Option(help="compare: tokens that the model will serve, e.g. 1T; adds their cost.")
    ] = None,
    sparse_speedup: Annotated[
        float | None, typer.Option(help="compare: how many times faster N:M kernels serve than dense ones. [1]")
    ] = None,
    serving_mfu: Annotated[float | None, typer.Option(help="compare: MFU of serving. [that of training]")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every warning in full.")] = False,
    as_json: AsJson = False,
) -> None:
    """How many tokens to post-train on, with an interval, and what they cost.

    Example: `regrow plan law.json --model Llama-3.1-8B --method depth --rate 0.25 --loss-before 2.0 --price 2.5`

    No runs yet: `regrow plan --law reference --model Llama-3.1-8B --method depth --rate 0.25 --loss-before 2.0`

    Which method: `regrow plan law.json --compare --model Llama-3.1-8B --loss-before 2.0 --params-after 6B`
    """
    from dataclasses import replace

    from regrow.cli.asking import find_shape, law_source, stopping
    from regrow.errors import InputError, one_of
    from regrow.laws.files import ANY, REFERENCE_NAME, load_laws
    from regrow.laws.law import select_law
    from regrow.planning.cost import DEFAULT_MFU, find_gpu
    from regrow.planning.plan import PlanSpec
    from regrow.planning.plan import plan as run
    from regrow.units import parse_count

    how = None
    if mfu_from is not None:
        from regrow.planning.utilisation import measured_mfu

        if mfu is not None:
            raise InputError("--mfu and --mfu-from", hint="give one of them")
        measured = measured_mfu([mfu_from], find_gpu(gpu))
        mfu, how = measured.mfu, measured.how
    only = {
        "--rates": rates,
        "--params-after": params_after,
        "--served-tokens": served_tokens,
        "--sparse-speedup": sparse_speedup,
        "--serving-mfu": serving_mfu,
    }
    stray = [name for name, value in only.items() if value is not None]
    if stray and not compare:
        raise InputError(f"{', '.join(stray)} without --compare", hint="add it, or leave them out")
    if compare and rate is not None:
        raise InputError("--rate with --compare", hint="give the rates to compare with --rates 0.15,0.25,0.35")
    spec = PlanSpec(
        architecture=None if model is None else find_shape(model),
        params_before=None if params_before is None else parse_count(params_before, what="--params-before"),
        pruning_rate=rate,
        loss_before=loss_before,
        loss_pruned=loss_pruned,
        criterion=stopping(
            criterion,
            {
                "--min-gain": min_gain,
                "--max-slope": max_slope,
                "--share": share,
                "--target": target,
                "--budget-hours": budget_hours,
                "--budget-usd": budget_usd,
            },
            loss_pruned=loss_pruned,
        ),
        gpu=gpu,
        mfu=DEFAULT_MFU if mfu is None else mfu,
        mfu_how=how,
        teacher=None if teacher is None else _shape_or_params(teacher),
        price_usd_per_hour=price,
        context=context,
        level=level,
    )
    laws = load_laws(law_source(law, named))
    if named == REFERENCE_NAME and not compare:
        method = method or ANY
        if rate is None and ":" not in method:
            typer.echo(f"note: no --rate: FLOPs and parameters are those of a rate of {_USUAL_RATE}", err=True)
            spec = replace(spec, pruning_rate=_USUAL_RATE)
    if not compare:
        answer = run(select_law(laws, family=family, method=method), spec)
        if as_json:
            print_json(answer.to_dict())
        else:
            typer.echo(answer.judgement())
            typer.echo(answer.sentence())
            _say_notes(answer.warnings, verbose=verbose)
        return
    from regrow.planning.frontier import CompareSpec
    from regrow.planning.frontier import compare as compare_laws

    wanted = CompareSpec(
        base=spec,
        rates=None if rates is None else parse_rates(rates),
        params_after=None if params_after is None else parse_count(params_after, what="--params-after"),
        served_tokens=None if served_tokens is None else parse_count(served_tokens, what="--served-tokens"),
        sparse_speedup=1.0 if sparse_speedup is None else sparse_speedup,
        serving_mfu=serving_mfu,
    )
    if family is not None:
        one_of(family, sorted({one.family for one in laws}), what="family", where="laws")
    if method is not None:
        one_of(method, sorted({one.method for one in laws}), what="method", where="laws")
    chosen = [one for one in laws if family in (None, one.family) and method in (None, one.method)]
    comparison = compare_laws(chosen, wanted)
    if as_json:
        print_json(comparison.to_dict())
    else:
        _print_comparison(comparison)


def _shape_or_params(text: str) -> "Architecture | float":
    """A count such as 8B, or the architecture of a model's name or folder."""
    from regrow.cli.asking import find_shape
    from regrow.errors import InputError
    from regrow.units import parse_count

    try:
        return float(parse_count(text))
    except InputError:
        return find_shape(text)


def _print_comparison(comparison: "Comparison") -> None:
    """The rows as a table, the choice as a sentence, what was refused and the warnings on stderr."""
    from regrow.planning.cost import say_gpu_time, say_usd
    from regrow.units import format_count

    serves = comparison.spec.served_tokens is not None
    columns = ["", "method", "rate", "left", "tokens", "loss", "interval", "training"]
    columns += ["FLOPs/token served", "serving"] * serves + ["total"] * serves

    def paid(hours: float | None, usd: float | None) -> str:
        if hours is None:
            return "-"
        return f"{say_gpu_time(hours)}, {say_usd(usd)}" if usd is not None else say_gpu_time(hours)

    def cells(row: "Candidate") -> list[str]:
        p = row.plan
        ends = "-" if p.loss_low is None else f"{number(p.loss_low)} to {number(p.loss_high)}"
        tokens = "-" if p.tokens is None else format_count(p.tokens)
        told = [
            ">" if row.chosen else "*" if row.on_frontier else "",
            p.method,
            number(p.pruning_rate),
            format_count(p.params_after),
            tokens,
            number(p.loss),
            ends,
            paid(p.gpu_hours, p.cost_usd),
        ]
        if serves:
            told += [
                f"{row.inference_flops_per_token:.3g}",
                paid(row.serving_gpu_hours, row.serving_cost_usd),
                paid(row.total_gpu_hours, row.total_cost_usd),
            ]
        return told

    print_table("", columns, [cells(row) for row in comparison.candidates])
    typer.echo("* on the frontier of loss, parameters left and total cost; > the one to take")
    first, spec = comparison.candidates[0].plan, comparison.spec
    means = f"GPU-hours are of {first.gpu} at MFU {first.mfu:.3g} ({first.mfu_how})"
    if serves:
        means += f", when serving {spec.serving_mfu or first.mfu:.3g}"
        means += f"; N:M sparsity is served at {spec.sparse_speedup:g} times the speed of dense matrices"
    typer.echo(means)
    typer.echo(comparison.sentence())
    for row in comparison.candidates:
        if row.plan.tokens_reason is not None:
            typer.echo(f"no answer: {row.name}: {row.plan.tokens_reason}", err=True)
    for refusal in comparison.refused:
        rate = "" if refusal.pruning_rate is None else f" at {refusal.pruning_rate:.3g}"
        typer.echo(f"refused: {refusal.method}{rate}: {refusal.why}", err=True)
    said: dict[str, list[str]] = {}
    for row in comparison.candidates:
        for warning in row.plan.warnings:
            said.setdefault(warning, []).append(row.name)
    everywhere = len(comparison.candidates)
    _warn(w if len(rows) == everywhere else f"{', '.join(rows)}: {w}" for w, rows in said.items())


def _say_notes(warnings: tuple[str, ...], *, verbose: bool) -> None:
    """The two that matter most in one line on stderr; each on its own with `--verbose`."""
    from regrow.planning.notes import merged

    if verbose:
        _warn(warnings)
    elif warnings:
        _warn([f"{merged(warnings)}; docs/plan.md explains them"])


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
