"""`regrow study`: a grid of runs from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import AsJson, print_json


def study(
    file: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="What to run.")],
    out: Annotated[Path | None, typer.Option("--out", help="The study's folder; by default the file's name.")] = None,
    engine: Annotated[str, typer.Option(help="`local`: worker processes on this machine.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one per CPU, at most four.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run every cell of a study that is missing, and resume what broke.

    Example: `regrow study study.yaml --out study`
    """
    from regrow.errors import InputError, RunFailed, one_of
    from regrow.study import StudySpec, missing_cells
    from regrow.units import format_count

    one_of(engine, ("local",), what="engine", where="--engine")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers", where="--workers", hint="give at least 1")
    spec = StudySpec.from_yaml(file)
    folder = out or Path(file).with_suffix("")
    cells, missing = spec.cells(), missing_cells(spec, folder)
    tokens = sum(cell.train.tokens for cell in missing)
    typer.echo(f"{len(cells)} cells, {len(missing)} to run, {format_count(tokens)} tokens", err=True)
    if dry_run:
        if as_json:
            print_json({"cells": [c.name for c in cells], "missing": [c.name for c in missing], "tokens": tokens})
        else:
            typer.echo("\n".join(cell.name for cell in missing))
        return
    from regrow.cli.watching import run_watched

    result = run_watched(spec, folder, workers=workers)
    if as_json:
        print_json({"out": str(folder), "ran": result.ran, "skipped": result.skipped, "failed": result.failed})
    else:
        typer.echo(f"{len(result.ran)} run, {len(result.skipped)} done before, {len(result.failed)} failed: {folder}")
    if result.failed:
        name, error = next(iter(result.failed.items()))
        raise RunFailed(f"{len(result.failed)} of {len(cells)} cells failed; {name}: {error}", where=str(folder))
