"""`regrow runs`: what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, Out, number, print_json
from regrow.cli.tables import print_table
from regrow.units import format_count, parse_count, plural

if TYPE_CHECKING:
    from regrow.runs import RunRecord

#: documents of a run that are shown, where there may be millions
_SHOWN = 20

app = typer.Typer(help="List, show, export and check recorded runs; works while they run.", no_args_is_help=True)

Path_ = Annotated[str, typer.Argument(metavar="PATH", help="A study folder, a run folder, an archive, or a table.")]


@app.command("list")
def list_runs(path: Path_, as_json: AsJson = False) -> None:
    """One line per run: sizes, rate, tokens and losses.

    Example: `regrow runs list demo`
    """
    from regrow.runs import read_runs

    rows = [_summary(run) for run in read_runs(path, need_loss=False)]
    if as_json:
        print_json({"runs": rows})
        return
    print_table(
        "",
        ["run", "method", "before", "after", "rate", "tokens", "L0", "first", "last", "status"],
        [
            [
                row["run"],
                row["method"],
                format_count(row["params_before"]),
                format_count(row["params_after"]),
                number(row["pruning_rate"]),
                "-" if row["tokens"] is None else format_count(row["tokens"]),
                number(row["loss_before"]),
                number(row["first_loss"]),
                number(row["loss"]),
                row["status"],
            ]
            for row in rows
        ],
        spare=("method", "before", "first"),
    )


@app.command("show")
def show_run(path: Path_, as_json: AsJson = False) -> None:
    """One run whole: its spec, what it ran on, and its curve.

    Example: `regrow runs show demo/runs/tiny-llama-3m-control-1a2b3c`
    """
    from regrow.errors import printable

    run = _one_run(path)
    curve = [point.to_dict() for point in run.curve]
    if as_json:
        print_json({**_summary(run), "spec": run.spec, "details": run.details, "curve": curve})
        return
    summary = {**_summary(run), **run.details}
    scores = {key: summary.pop(key) for key in ("scores_before", "scores")}
    summary |= {key: _shown(found) for key, found in scores.items() if found}
    for key, value in summary.items():
        typer.echo(printable(f"{key:22} {value}"))
    scored = sorted({name for point in run.curve for name in point.scores})
    print_table(
        "",
        ["tokens", "loss", "gap", "train loss", "lr", *scored],
        [
            [
                f"{p.tokens:,}",
                number(p.loss, ".4f"),
                number(_gap(p.loss, run.loss_before), ".4f"),
                number(p.train_loss, ".4f"),
                number(p.lr, ".2e"),
                *(number(p.scores[name].value if name in p.scores else None, ".4f") for name in scored),
            ]
            for p in run.curve
        ],
    )


@app.command("documents")
def run_documents(
    path: Path_,
    tokens: Annotated[
        str | None, typer.Option(help="Count the documents seen in this many tokens. [default: all tokens of the run]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the whole list as a CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents that a run has seen, computed exactly from its seed and its data.

    Example: `regrow runs documents run --tokens 100k`
    """
    from regrow.cli.loading import training_blocks
    from regrow.data import documents_seen
    from regrow.errors import InputError

    run = _one_run(path)
    if tokens is None and not run.curve:
        raise InputError("the run has no evaluation yet", where=path, hint="give the count with --tokens")
    asked = run.curve[-1].tokens if tokens is None else parse_count(tokens, what="--tokens")
    blocks = training_blocks(run)
    asked = -(-asked // blocks.sequence_length) * blocks.sequence_length
    seen = documents_seen(blocks, seed=run.seed or 0, tokens=asked)
    if out is not None:
        _write_csv(out, ["document", "tokens", "tokens_seen"], [[d.name, d.tokens, d.tokens_seen] for d in seen])
    answer = {
        "run": run.run,
        "tokens": asked,
        "unique_tokens": min(asked, blocks.n_tokens),
        "epochs": asked / blocks.n_tokens,
        "documents": len(seen),
        "documents_of": blocks.documents,
    }
    if as_json:
        print_json({**answer, "seen": [vars(d) for d in seen], "out": None if out is None else str(out)})
        return
    typer.echo(
        f"{run.run}: {len(seen):,} of {plural(blocks.documents, 'document')} by {asked:,} tokens "
        f"({answer['unique_tokens']:,} unique, {answer['epochs']:.3g} passes)"
    )
    shown = seen[:_SHOWN]
    print_table(
        "", ["document", "tokens", "tokens seen"], [[d.name, f"{d.tokens:,}", f"{d.tokens_seen:,}"] for d in shown]
    )
    if out is not None:
        typer.echo(f"all of them in {out}")
    elif len(seen) > _SHOWN:
        typer.echo(f"and {len(seen) - _SHOWN:,} more; --out FILE writes them all")


@app.command("export")
def export_runs(
    path: Path_,
    out: Out,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the runs that the archive --out (.jsonl) lacks, and keep those it has."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write all runs into one file. A name that ends in .jsonl makes an archive of whole records; .parquet and .csv
    make a table with a row per checkpoint.

    Example: `regrow runs export demo --out runs.csv`

    Collect a study from several machines: `regrow runs export study --append --out runs.jsonl`
    """
    from regrow.disk import write_bytes
    from regrow.errors import InputError
    from regrow.runs import read_archive, read_runs, to_table, write_archive
    from regrow.runs.archive import merge_runs
    from regrow.runs.store import RUN_FILE, STUDY_FILE
    from regrow.runs.table import write_csv

    # a study whose cells are all finished in the records it was given has no runs of its own
    nothing = append and out.exists() and (Path(path) / STUDY_FILE).is_file() and not any(Path(path).rglob(RUN_FILE))
    runs = [] if nothing else read_runs(path, need_loss=False)
    if append:
        if out.suffix != ".jsonl":
            raise InputError("--append is for archives", where=str(out), hint="give a name that ends in .jsonl")
        runs = merge_runs(read_archive(out), runs) if out.exists() else runs
    try:
        if out.suffix == ".jsonl":
            write_archive(runs, out)
        elif out.suffix == ".parquet":
            write_bytes(out, to_table(runs).to_parquet(index=False))
        else:
            write_csv(to_table(runs), out)
    except OSError as error:
        raise InputError(f"can't be written ({error.strerror or error})", where=str(out)) from None
    rows = sum(len(run.curve) for run in runs)
    if as_json:
        print_json({"out": str(out), "rows": rows, "runs": len(runs)})
    else:
        typer.echo(f"{plural(rows, 'checkpoint')} of {plural(len(runs), 'run')}, written to {out}")


@app.command("check")
def check(path: Path_, as_json: AsJson = False) -> None:
    """Check that every run of a folder is complete and consistent. Names each fault and exits 1 if there is one.

    Looked at: that each spec has the hash it is stored under, that DONE is of that spec, that tokens rise and the
    curve holds what the spec asks for, that the weights are all there. Unfinished runs are no fault: the same command
    goes on with them.

    Example: `regrow runs check demo`
    """
    from collections import Counter

    from regrow.errors import RunFailed
    from regrow.runs.check import check_runs

    found = check_runs(path)
    states = Counter(one.state for one in found)
    wrong = [one for one in found if one.problems]
    if as_json:
        print_json({"runs": [vars(one) for one in found], "states": dict(states), "whole": not wrong})
    else:
        for one in wrong:
            for problem in one.problems:
                typer.echo(f"{one.run}: {problem}")
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        typer.echo(f"{plural(len(found), 'run')}: {counted}; {len(wrong)} with something wrong")
    if wrong:
        raise RunFailed(f"{len(wrong)} of {plural(len(found), 'run')} are not whole", where=path)


def _one_run(path: str) -> RunRecord:
    from regrow.errors import InputError
    from regrow.runs import read_runs

    runs = read_runs(path, need_loss=False)
    if len(runs) != 1:
        raise InputError(
            f"{plural(len(runs), 'run')} here", where=path, hint="name one run folder; `regrow runs list` lists them"
        )
    return runs[0]


def _gap(loss: float | None, before: float | None) -> float | None:
    return None if loss is None or before is None else loss - before


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    import pandas as pd

    from regrow.errors import InputError
    from regrow.runs.table import write_csv

    try:
        write_csv(pd.DataFrame(rows, columns=header), path)
    except OSError as error:
        raise InputError(f"can't be written ({error.strerror or error})", where=str(path)) from None


def _summary(run: Any) -> dict[str, Any]:
    from regrow.runs.scores import plain_scores

    first, last = (run.curve[0], run.curve[-1]) if run.curve else (None, None)
    return {
        "run": run.run,
        "family": run.family,
        "method": run.method,
        "params_before": run.params_before,
        "params_after": run.params_after,
        "pruning_rate": run.pruning_rate,
        "tokens": last.tokens if last else None,
        "loss_before": run.loss_before,
        "first_loss": first.loss if first else None,
        "loss": last.loss if last else None,
        "scores_before": plain_scores(run.scores_before),
        "scores": plain_scores(last.scores) if last else {},
        "status": run.status,
    }


def _shown(scores: dict[str, dict[str, float]]) -> str:
    """Scores on one line, each with its standard error where it is known."""
    return ", ".join(
        f"{name} {score['value']:.4f}" + (f" +- {score['stderr']:.4f}" if "stderr" in score else "")
        for name, score in scores.items()
    )
