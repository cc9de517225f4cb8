"""Options that make the rate: memory where it is served, parameters of a token. For `prune`, `plan` and `design`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from regrow.footprint import MemoryTarget

ActiveParams = Annotated[
    str | None,
    typer.Option(
        "--active-params",
        help="Instead of a rate: of a mixture of experts, the parameters to leave that a token is computed with, e.g. "
        "2B. Depth and width lower them.",
        show_default=False,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="Instead of a rate: memory for weights and KV cache where the model is served, e.g. 12GB (10^9 bytes) or "
        "12GiB; the largest shape within it is left.",
        show_default=False,
    ),
]
ServedContext = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="With --max-memory: tokens of each sequence served, e.g. 32k (32,000). [default: 4096]",
        show_default=False,
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(help="With --max-memory: sequences served at a time. [default: 1]", show_default=False),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="With --max-memory: how weights are served: fp32, bf16, fp16, fp8, int8 or int4. [default: bf16]",
        show_default=False,
    ),
]
CacheDtype = Annotated[
    str | None,
    typer.Option(
        help="With --max-memory: how the KV cache is held: fp32, bf16, fp16, fp8 or int8. [default: as --dtype, "
        "quantised weights with bf16]",
        show_default=False,
    ),
]


TrainingContext = Annotated[
    str | None,
    typer.Option(
        help="With --max-memory: tokens in a training sequence, as --context is that of a served one. [default: 4096]",
        show_default=False,
    ),
]

#: Tokens of a training sequence where none are given.
_USUAL_CONTEXT = "4096"


def memory_target(
    max_memory: str | None,
    *,
    context: str | None,
    batch: str | None,
    dtype: str | None,
    cache_dtype: str | None,
    model: str | None = None,
) -> MemoryTarget | None:
    """The target that the options make, with the sliding windows of `model`; None without `--max-memory`.

    Raises `InputError` for an option that stands without it.
    """
    from regrow.errors import InputError

    given: dict[str, Any] = {"context": context, "batch": batch, "dtype": dtype, "cache_dtype": cache_dtype}
    given = {name: value for name, value in given.items() if value is not None}
    if max_memory is None:
        if given:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{named} without --max-memory", hint="add it, e.g. --max-memory 12GB, or leave them out")
        return None
    from regrow.footprint import MemoryTarget

    target = MemoryTarget(max_memory=max_memory, **given)
    if model is None:
        return target
    from regrow.ladder.assets import find_model

    return target.for_model(find_model(model))


def contexts(context: str, training_context: str | None, max_memory: str | None) -> tuple[str | None, int]:
    """What `--context` of a plan or a design means: tokens of a served sequence, and tokens of a training sequence.

    Without `--max-memory` it is the training sequence's; with it `--training-context` is.
    """
    from regrow.errors import InputError
    from regrow.units import check_context, parse_count

    if max_memory is None and training_context is not None:
        raise InputError("--training-context without --max-memory", hint="--context is the training sequence's then")
    trained = context if max_memory is None else training_context or _USUAL_CONTEXT
    what = "--context" if max_memory is None else "--training-context"
    return None if max_memory is None else context, check_context(parse_count(trained, what=what), where=what)
