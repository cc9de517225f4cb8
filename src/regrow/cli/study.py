"""`regrow study`: a grid of runs from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.needs import INSTALL, missing_for_training, need_training
from regrow.cli.options import AsJson, number, print_json
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.study.plan import StudyPlan


def study(
    file: Annotated[
        str, typer.Argument(metavar="STUDY.yaml", help="The study file; docs/study.md explains every key.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The study's folder. [default: the name of the file]")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="`local`: processes on this machine; `ray`: a Ray cluster, or a local one.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="Cells that run at once. [default: one per GPU, else one per CPU and at most four]"),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster: `auto`, or `host:port` of its head.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="CPUs of a Ray cluster that each cell takes. [default: 1]")] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of a Ray cluster that each cell takes. [default: 1 where there are GPUs]")
    ] = None,
    retries: Annotated[int, typer.Option(help="How often a cell is tried again after its process died.")] = 1,
    records: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A.jsonl",
            help="Archive of `regrow runs export`: cells whose finished record is in it are not run. May be repeated.",
        ),
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write a study file to begin with to STUDY.yaml, with comments; run nothing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan of every cell, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the cells of a study that are not finished; an interrupted cell continues from its last checkpoint.

    The plan and its cost are shown first.

    Example: `regrow study study.yaml --out study`

    To begin: `regrow study study.yaml --init`

    On another machine: `regrow study study.yaml --records done.jsonl`, then `regrow runs export study --append --out
    done.jsonl`
    """
    if init and dry_run:
        from regrow.errors import InputError

        raise InputError("given with --init", where="--dry-run", hint="write the file first, then try it")
    if init:
        _write_template(Path(file), as_json)
        return
    if not dry_run and engine == "local":
        need_training("regrow study")
    from contextlib import closing

    from regrow.errors import RunFailed
    from regrow.study import StudySpec
    from regrow.study.engines import make_engine
    from regrow.study.plan import plan_study

    spec = StudySpec.from_yaml(file)
    spec.check()  # before a cluster is asked
    folder = out or Path(file).with_suffix("")
    runner = make_engine(engine, workers=workers, address=address, retries=retries, cpus=cpus, gpus=gpus)
    with closing(runner):
        if dry_run:
            missing = missing_for_training()
            if missing and engine == "local":
                say(f"note: {', '.join(missing)} not installed here: no estimate of the time; {INSTALL}", err=True)
            _print_plan(plan_study(spec, folder, engine=runner, records=records or ()), as_json)
            return
        from regrow.cli.watching import run_watched

        result = run_watched(spec, folder, engine=runner, records=records or ())
    total = len(result.ran) + len(result.skipped) + len(result.failed)
    if as_json:
        print_json({"out": str(folder), "ran": result.ran, "skipped": result.skipped, "failed": result.failed})
    else:
        for name, error in result.failed.items():
            typer.echo(f"failed: {name}: {error}")
        typer.echo(f"{len(result.ran)} run, {len(result.skipped)} done before, {len(result.failed)} failed: {folder}")
    if result.failed:
        name, error = next(iter(result.failed.items()))
        raise RunFailed(f"{len(result.failed)} of {total} cells failed; {name}: {error}", where=str(folder))


def _write_template(path: Path, as_json: bool) -> None:
    """A study file to begin with. Raises `InputError` where a file is in the way, or nothing can be written."""
    from regrow.disk import write_text
    from regrow.errors import InputError

    if path.exists():
        raise InputError("a file is here already", where=str(path), hint="choose another name for --init")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, (Path(__file__).parent / "study_template.yaml").read_text())
    except OSError as error:
        raise InputError(f"can't be written ({error.strerror or error})", where=str(path)) from None
    if as_json:
        print_json({"out": str(path)})
    else:
        typer.echo(f"written to {path}; edit it, then: regrow study {path} --dry-run")


def _print_plan(plan: StudyPlan, as_json: bool) -> None:
    if as_json:
        print_json(plan_to_dict(plan))
        return
    from regrow.cli.watching import plan_lines
    from regrow.units import format_count, format_duration, format_si

    def count(value: float | None) -> str:
        return "-" if value is None else format_count(value)

    rows = [
        [
            row.cell.name,
            row.cell.objective.kind,
            count(row.params_before),
            count(row.params_after),
            number(row.rate),
            format_count(row.tokens),
            "-" if row.flops is None else format_si(row.flops, "FLOP"),
            "-" if row.seconds is None else format_duration(row.seconds * row.left),
            row.state if row.chosen else "over budget",
        ]
        for row in plan.cells
    ]
    columns = ["cell", "objective", "before", "after", "rate", "tokens", "work", "left", "state"]
    print_table("", columns, rows, spare=("objective", "work", "before"))
    typer.echo("\n".join(plan_lines(plan)))


def plan_to_dict(plan: StudyPlan) -> dict[str, Any]:
    """The plan as `--dry-run --json` prints it."""
    return {
        "cells": [row.cell.name for row in plan.chosen],
        "missing": [row.cell.name for row in plan.to_run],
        "tokens": plan.tokens_left,
        "flops": plan.flops_left,
        "seconds": plan.seconds_left,
        "timing": plan.timing,
        "workers": plan.workers,
        "disk": plan.disk,
        "disk_free": plan.disk_free,
        "budget": plan.budget,
        "warnings": plan.warnings(),
        "plan": [
            {
                "name": row.cell.name,
                "hash": row.cell.hash,
                "model": row.cell.model,
                "method": row.cell.method,
                "objective": str(row.cell.objective),
                "params_before": row.params_before,
                "params_after": row.params_after,
                "pruning_rate": row.rate,
                "tokens": row.tokens,
                "tokens_left": row.tokens_left,
                "flops": row.flops,
                "seconds": row.seconds,
                "disk": row.disk,
                "state": row.state,
                "chosen": row.chosen,
            }
            for row in plan.cells
        ],
    }
