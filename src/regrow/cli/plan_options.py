"""The options of a plan, which `regrow plan` and `regrow report` share, and the question that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from regrow.units import check_rate


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


#: The options that belong to one criterion each, and those that a comparison of methods takes.
_STOPPING = ("min_gain", "max_slope", "share", "target", "budget_hours", "budget_usd")
COMPARED = ("rates", "params_after", "served_tokens", "sparse_speedup", "serving_mfu")


def plan_fields(options: Mapping[str, Any], *, of_scores: bool) -> dict[str, Any]:
    """The fields of a `PlanSpec` that the options make: all but the rate.

    Args:
        options: values by the names of the options' parameters, as the context of `regrow plan` or `regrow report` has
            them.
        of_scores: whether the law is of scores.

    Raises `InputError` for options that contradict each other.
    """
    from regrow.cli.asking import find_shape, planned_recipe, stopping
    from regrow.cli.memory_options import contexts, memory_target
    from regrow.units import parse_count

    model, size, active = options["model"], options["params_before"], options["active_params"]
    served, trained = contexts(options["context"], options["training_context"], options["max_memory"])
    of_memory = {name: options[name] for name in ("batch", "dtype", "cache_dtype")}
    stop = {f"--{name.replace('_', '-')}": options[name] for name in _STOPPING}
    pruned = options["loss_pruned"]
    return {
        "architecture": None if model is None else find_shape(model),
        "model": None if model is None else model_name(model),
        "params_before": None if size is None else parse_count(size, what="--params-before"),
        "sizes": sizes_kept(options["layers"], options["shape"]),
        "memory": memory_target(options["max_memory"], context=served, model=model, **of_memory),
        "active_params": None if active is None else parse_count(active, what="--active-params"),
        **{name: options[name] for name in ("loss_before", "loss_pruned", "score_before", "score_pruned")},
        "others": planned_recipe(options["learning_rate"], options["batch_tokens"], options["scorer"]),
        "criterion": stopping(options["criterion"], stop, loss_pruned=pruned, scores=of_scores),
        "gpu": options["gpu"],
        **utilisation(options["mfu"], options["mfu_from"], options["gpu"]),
        "teacher": teacher_of(options["teacher"]),
        "price_usd_per_hour": options["price"],
        "context": trained,
        "level": options["level"],
    }


def compare_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `CompareSpec` that were given; the others are left out, so that its defaults hold."""
    from regrow.cli.options import parse_rates
    from regrow.units import parse_count

    given = {name: options[name] for name in COMPARED if options[name] is not None}
    for name in ("params_after", "served_tokens"):
        if name in given:
            given[name] = parse_count(given[name], what=f"--{name.replace('_', '-')}")
    if "rates" in given:
        given["rates"] = parse_rates(given["rates"])
    return given


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
