"""The options of a plan, which `regrow plan` and `regrow report` share, and the question that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.units import check_rate

if TYPE_CHECKING:
    from regrow.planning.criteria import Budget, Criterion


def each_rate(rates: list[str] | None) -> list[float]:
    """The rates of `--rate`, given several times or with commas. Raises `InputError` for what is no rate."""
    from regrow.cli.options import parse_rates

    return [check_rate(rate, where="--rate") for text in rates or () for rate in parse_rates(text, where="--rate")]


ParamsBefore = Annotated[
    str | None, typer.Option(help="Parameters before pruning, e.g. 8B, if no --model is given.", show_default=False)
]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="FLOAT,...",
        help="Pruning rate: the share of the parameters to remove, a fraction; several (0.25,0.35) give a plan each. "
        "N:M needs none.",
        show_default=False,
    ),
]
Layers = Annotated[
    int | None, typer.Option(help="Depth: blocks to keep, instead of a rate; needs --model.", show_default=False)
]
Shape = Annotated[
    str | None,
    typer.Option(
        help="Sizes to keep, instead of a rate: layers=24, or hidden=3072,intermediate=10752; needs --model.",
        show_default=False,
    ),
]
CriterionName = Annotated[
    str | None,
    typer.Option(
        "--criterion",
        help="When to stop: `gain`, `slope`, `recovery`, `target` or `budget`. "
        "[default: that of the option given, else gain]",
        show_default=False,
    ),
]
MinGain = Annotated[
    float | None,
    typer.Option(
        help="gain: stop when doubling the tokens lowers the loss by less than this, nats/token [default: 0.01], or "
        "raises the score by fewer points [default: 0.5].",
        show_default=False,
    ),
]
MaxSlope = Annotated[
    float | None,
    typer.Option(
        help="slope: stop when the loss falls more slowly than this, nats/token per million tokens.", show_default=False
    ),
]
Share = Annotated[
    float | None,
    typer.Option(
        help="recovery: stop when this share of the recoverable gap, or of the parent's score, is back, a fraction. "
        "[default: 0.9]",
        show_default=False,
    ),
]
Target = Annotated[
    float | None,
    typer.Option(help="target: stop when the loss (nats/token) or the score reaches this.", show_default=False),
]
BudgetHours = Annotated[float | None, typer.Option(help="budget: GPU-hours to spend.", show_default=False)]
BudgetUsd = Annotated[float | None, typer.Option(help="budget: USD to spend; needs --price.", show_default=False)]
MfuFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUNS", help="Measure --mfu from these run folders; they must have run on --gpu.", show_default=False
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="Teacher to distil from (a model or its parameters): adds the cost of its forward pass.",
        show_default=False,
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Rank all methods of the law file at --rates, for the same size or budget, or within --max-memory.",
    ),
]
CompareRates = Annotated[
    str | None,
    typer.Option("--rates", help="compare: pruning rates. [default: 0.15,0.25,0.35]", show_default=False),
]
ParamsAfter = Annotated[
    str | None, typer.Option(help="compare: the most parameters to deploy, e.g. 6B.", show_default=False)
]
ServedTokens = Annotated[
    str | None,
    typer.Option(help="compare: tokens that the model will serve, e.g. 1T; adds their cost.", show_default=False),
]
SparseSpeedup = Annotated[
    float | None,
    typer.Option(
        help="compare: how many times faster N:M kernels serve than dense ones. [default: 1]", show_default=False
    ),
]
ServingMfu = Annotated[
    float | None, typer.Option(help="compare: MFU of serving, a fraction. [default: --mfu]", show_default=False)
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print every warning in full.")]


def plan_fields(
    *,
    model: str | None,
    params_before: str | None,
    layers: int | None,
    shape: str | None,
    loss_pruned: float | None,
    criterion: str | None,
    stop: Mapping[str, float | None],
    costs: Mapping[str, Any],
    memory: Mapping[str, Any],
    active_params: str | None,
    level: float,
    of_scores: bool = False,
) -> dict[str, Any]:
    """The fields of a `PlanSpec` that the options make: all but the rate and the loss before pruning.

    Args:
        stop: `--min-gain`, `--max-slope`... by the names of their fields.
        costs: `gpu`, `price`, `mfu`, `mfu_from` and `teacher`.
        memory: `max_memory`, `context`, `training_context`, `batch`, `dtype` and `cache_dtype`.
        active_params: `--active-params`.
        of_scores: whether the law is of scores.

    Raises `InputError` for options that contradict each other.
    """
    from regrow.cli.asking import find_shape
    from regrow.cli.memory_options import contexts, memory_target
    from regrow.units import parse_count

    served, trained = contexts(memory["context"], memory["training_context"], memory["max_memory"])
    of_memory = {name: memory[name] for name in ("batch", "dtype", "cache_dtype")}
    return {
        "architecture": None if model is None else find_shape(model),
        "model": None if model is None else model_name(model),
        "params_before": None if params_before is None else parse_count(params_before, what="--params-before"),
        "sizes": sizes_kept(layers, shape),
        "memory": memory_target(memory["max_memory"], context=served, model=model, **of_memory),
        "active_params": None if active_params is None else parse_count(active_params, what="--active-params"),
        "loss_pruned": loss_pruned,
        "criterion": criterion_of(criterion, stop, loss_pruned, scores=of_scores),
        "gpu": costs["gpu"],
        **utilisation(costs["mfu"], costs["mfu_from"], costs["gpu"]),
        "teacher": teacher_of(costs["teacher"]),
        "price_usd_per_hour": costs["price"],
        "context": trained,
        "level": level,
    }


def compare_fields(
    *,
    rates: str | None,
    params_after: str | None,
    served_tokens: str | None,
    sparse_speedup: float | None,
    serving_mfu: float | None,
) -> dict[str, Any]:
    """The fields of a `CompareSpec` that were given; the others are left out, so that its defaults hold."""
    from regrow.cli.options import parse_rates
    from regrow.units import parse_count

    fields = {
        "rates": None if rates is None else parse_rates(rates),
        "params_after": None if params_after is None else parse_count(params_after, what="--params-after"),
        "served_tokens": None if served_tokens is None else parse_count(served_tokens, what="--served-tokens"),
        "sparse_speedup": sparse_speedup,
        "serving_mfu": serving_mfu,
    }
    return {name: value for name, value in fields.items() if value is not None}


def model_name(model: str) -> str:
    """What a model is called: a folder or a `config.json` by the name of its folder."""
    path = Path(model)
    if not path.exists():
        return model
    return path.resolve().parent.name if path.is_file() else path.resolve().name


def sizes_kept(layers: int | None, shape: str | None) -> dict[str, int]:
    """The sizes of `--layers` or `--shape`; empty without either. Raises `InputError` for both."""
    from regrow.errors import InputError

    if layers is not None and shape is not None:
        raise InputError("--layers and --shape", hint="--shape layers=24 says the same: give one of them")
    if not shape:
        return {} if layers is None else {"layers": layers}
    from regrow.shapes import parse_shape  # a size alone starts without shapes

    return parse_shape(shape)


def teacher_of(text: str | None) -> Any:
    """The shape or the parameters of a teacher; ladder models count as models. None without."""
    from regrow.cli.asking import find_shape
    from regrow.errors import InputError
    from regrow.units import parse_count

    if text is None:
        return None
    try:
        return float(parse_count(text))
    except InputError:
        return find_shape(text)


def utilisation(mfu: float | None, mfu_from: str | None, gpu: str) -> dict[str, Any]:
    """The MFU and where it is from, as fields of a plan's question. Raises `InputError` for both options."""
    from regrow.errors import InputError
    from regrow.planning.cost import DEFAULT_MFU, find_gpu

    if mfu_from is None:
        return {"mfu": DEFAULT_MFU if mfu is None else mfu, "mfu_how": None}
    from regrow.planning.utilisation import measured_mfu

    if mfu is not None:
        raise InputError("--mfu and --mfu-from", hint="give one of them")
    measured = measured_mfu([mfu_from], find_gpu(gpu))
    return {"mfu": measured.mfu, "mfu_how": measured.how}


def criterion_of(
    name: str | None, options: Mapping[str, float | None], loss_pruned: float | None, *, scores: bool = False
) -> Criterion | Budget:
    """The criterion that the options make; `options` by the names of their fields: `min_gain`, `max_slope`..."""
    from regrow.cli.asking import stopping

    return stopping(
        name,
        {f"--{key.replace('_', '-')}": value for key, value in options.items()},
        loss_pruned=loss_pruned,
        scores=scores,
    )
