"""The options of a plan, which `regrow plan` and `regrow report` share, and the question that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.units import check_rate

if TYPE_CHECKING:
    from regrow.planning.criteria import Budget, Criterion


def _each_rate(rates: list[float] | None) -> list[float]:
    return [check_rate(rate, where="--rate") for rate in rates or ()]


ParamsBefore = Annotated[
    str | None, typer.Option(help="Parameters before pruning, e.g. 8B, if no --model is given.", show_default=False)
]
Rates = Annotated[
    list[float] | None,
    typer.Option(
        "--rate",
        help="Pruning rate: the share of the parameters to remove; several give a plan each. N:M needs none.",
        callback=_each_rate,
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
        help="gain: stop when doubling the tokens lowers the loss by less than this, nats/token. [default: 0.01]",
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
        help="recovery: stop when this share of the recoverable gap is closed, a fraction. [default: 0.9]",
        show_default=False,
    ),
]
Target = Annotated[
    float | None, typer.Option(help="target: stop when the loss reaches this, nats/token.", show_default=False)
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


def model_name(model: str) -> str:
    """What a model is called: a folder or a `config.json` by the name of its folder."""
    path = Path(model)
    if not path.exists():
        return model
    return path.resolve().parent.name if path.is_file() else path.resolve().name


def sizes_kept(layers: int | None, shape: str | None) -> dict[str, int]:
    """The sizes of `--layers` or `--shape`; empty without either. Raises `InputError` for both."""
    from regrow.errors import InputError
    from regrow.shapes import parse_shape

    if layers is not None and shape is not None:
        raise InputError("--layers and --shape", hint="--shape layers=24 says the same: give one of them")
    return {"layers": layers} if layers is not None else parse_shape(shape) if shape else {}


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
    name: str | None, options: Mapping[str, float | None], loss_pruned: float | None
) -> Criterion | Budget:
    """The criterion that the options make; `options` by the names of their fields: `min_gain`, `max_slope`..."""
    from regrow.cli.asking import stopping

    return stopping(
        name, {f"--{key.replace('_', '-')}": value for key, value in options.items()}, loss_pruned=loss_pruned
    )
