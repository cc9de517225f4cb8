"""`regrow check`: proves that a checkpoint holds an N:M pattern, or that other programs load it and agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, print_json
from regrow.errors import InputError

if TYPE_CHECKING:
    from regrow.serving.loads import Loaded


def check(
    model: Annotated[str, typer.Argument(help="A checkpoint folder.")],
    pattern: Annotated[
        str | None, typer.Option(help="N:M, N kept of every M; default: that of the folder's regrow_prune.json.")
    ] = None,
    loads: Annotated[
        str | None,
        typer.Option(
            help="Programs that are to load the model, separated by commas: transformers, gguf, llama.cpp, vllm, or "
            "`all`. What is not installed is checked by the model's shape.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="With --loads: how matrices are stored when answers are compared: fp32, bf16 or fp16. [default: fp32]",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="With --loads: greedy tokens compared after each of six prompts. [default: 32]"),
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="With --loads gguf: keep the GGUF file here, matrices stored as --dtype.")
    ] = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(
            help="With --loads vllm: the Python of the environment that has vLLM. [default: this one, or that of the "
            "vllm command on the path]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove what a checkpoint is: an N:M pattern in every linear weight of its blocks, or that it is served.

    The exit code is 1 if a matrix breaks the pattern, or if a program fails to load the model or gives other tokens.

    Example: `regrow check pruned --pattern 2:4`

    Example: `regrow check pruned --loads transformers,gguf,llama.cpp,vllm`

    vLLM in an environment of its own: `regrow check pruned --loads vllm --vllm-python /opt/vllm/bin/python`

    Keep the file: `regrow check pruned --loads gguf --dtype fp16 --gguf pruned.gguf`
    """
    need_training("regrow check")
    from regrow.ladder import find_model

    if loads is None:
        for name, value in (("--dtype", dtype), ("--tokens", tokens), ("--gguf", gguf), ("--vllm-python", vllm_python)):
            if value is not None:
                raise InputError(f"{name} without --loads", hint="add it, e.g. --loads gguf")
        _check_pattern(model, find_model(model), pattern, as_json)
        return
    if pattern is not None:
        raise InputError("--pattern with --loads", hint="these are two checks: ask for one of them")
    from regrow.serving.constraints import RUNTIMES
    from regrow.serving.loads import check_loads

    names = RUNTIMES if loads == "all" else [name.strip() for name in loads.split(",") if name.strip()]
    found = check_loads(
        find_model(model),
        names,
        dtype=dtype or "fp32",
        tokens=32 if tokens is None else tokens,
        gguf_path=gguf,
        vllm_python=vllm_python,
        progress=lambda line: print(line, file=sys.stderr),
    )
    if as_json:
        print_json({"model": model, "loads": [loaded.to_dict() for loaded in found]})
    else:
        _print_loads(found)
    if not all(loaded.good for loaded in found):
        raise typer.Exit(1)


def _print_loads(found: list[Loaded]) -> None:
    """What each program made of the model, its limits below it."""
    for loaded in found:
        agreed = "" if loaded.agreement is None else f": {loaded.agreement.sentence()}"
        typer.echo(f"{loaded.runtime}: {loaded.status}{agreed}")
        for line in loaded.how:
            typer.echo(f"  {line}")
        for limit in loaded.limits:
            typer.echo(f"  {limit.kind}: {limit.what} ({limit.source})")


def _check_pattern(model: str, folder: str, pattern: str | None, as_json: bool) -> None:
    """Do at most N of every M neighbours differ from zero? Names every matrix that breaks the pattern."""
    from dataclasses import asdict

    from regrow.pruning.check import check_checkpoint

    found = check_checkpoint(folder, pattern)
    if as_json:
        print_json({"model": model, **asdict(found)})
    else:
        for name, groups in found.violations.items():
            typer.echo(f"{name}: {groups} groups hold too many weights that are not zero")
        broken = len(found.violations)
        typer.echo(
            f"{model}: {found.matrices - broken} of {found.matrices} matrices are {found.pattern} sparse "
            f"({found.groups:,} groups); {found.nonzero:,} of {found.params:,} parameters are not zero"
        )
    if found.violations:
        raise typer.Exit(1)
