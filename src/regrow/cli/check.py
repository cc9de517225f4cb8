"""`regrow check`: proves that a checkpoint holds an N:M pattern."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, print_json


def check(
    model: Annotated[str, typer.Argument(help="A checkpoint folder.")],
    pattern: Annotated[
        str | None, typer.Option(help="N:M, N kept of every M; default: that of the folder's regrow_prune.json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at every linear weight of a model's blocks: do at most N of every M neighbours differ from zero?

    Names every matrix that breaks the pattern; the exit code is then 1.

    Example: `regrow check pruned --pattern 2:4`
    """
    need_training("regrow check")
    from dataclasses import asdict

    from regrow.ladder import find_model
    from regrow.pruning.check import check_checkpoint

    found = check_checkpoint(find_model(model), pattern)
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
