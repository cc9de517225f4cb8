"""`regrow import`: logs somebody already has, as run folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import AsJson, print_json
from regrow.cli.tables import say
from regrow.methods import is_masked
from regrow.units import parse_count, plural

if TYPE_CHECKING:
    from regrow.runs import RunRecord


#: What `--as` takes; a test holds it to the registry, which is not imported for `--help`.
FORMATS = (
    "trainer-state, lm-eval, llama-factory, automodel, tensorboard, wandb-run, mlflow, trackio, swanlab, clearml, "
    "comet, wandb-csv, wandb-parquet, torchtitan, megatron, nemo, litgpt, olmo-core, composer, nanotron, llm.c, "
    "nanogpt, parquet, jsonl, csv"
)


def import_logs(
    out: Annotated[str | None, typer.Option(help="Folder of the run, or of the runs.")] = None,
    logs: Annotated[
        list[str] | None, typer.Argument(metavar="LOG...", help="Files or folders, one per run.", show_default=False)
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="A CSV with a row per log (path, run, family, ...) instead of the options below.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--as", help=f"The format; recognised by content if left out. `list` explains: {FORMATS}."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join the logs into one run, in the order given.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE", help="Take only the rows with this value, e.g. model=small; may be repeated."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Split the table into runs, one for each value of this column.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Family name: runs of one family are fitted together.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How it was pruned: `depth`, `width`, `depth+width`, N:M such as `2:4`, `sparse`, `other`, or `none` "
            "for an unpruned control."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The unpruned model, for its parameters: a config.json or a catalogue name.")
    ] = None,
    pruned_model: Annotated[str | None, typer.Option(help="The pruned one: a config.json or its folder.")] = None,
    params_before: Annotated[str | None, typer.Option(help="Parameters before pruning, e.g. 8B.")] = None,
    params_after: Annotated[
        str | None, typer.Option(help="Parameters after pruning; those that are not zero, for N:M.")
    ] = None,
    loss_before: Annotated[
        float | None, typer.Option(help="Held-out loss before pruning, on the same text; nats/token.")
    ] = None,
    scores_before: Annotated[
        str | None, typer.Option(metavar="RESULTS", help="lm-eval's results of the unpruned model: its scores.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Pruning rate, a fraction. [default: 1 - after/before]")] = None,
    tokens_per_step: Annotated[str | None, typer.Option(help="Tokens per step, if the log counts steps.")] = None,
    sequence_length: Annotated[str | None, typer.Option(help="Tokens per sample, if the log counts samples.")] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of the log's loss: `nats`, `bits`, `perplexity` or `bits-per-byte`. [default: what its "
            "name says, else nats]"
        ),
    ] = None,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="Bytes per token of the held-out text, for bits per byte.")
    ] = None,
    loss_column: Annotated[
        str | None, typer.Option(help="Name of the held-out loss in the log. [default: found by its name]")
    ] = None,
    tokens_column: Annotated[
        str | None, typer.Option(help="Name of the token count in the log. [default: found by its name]")
    ] = None,
    step_column: Annotated[
        str | None, typer.Option(help="Name of the step in the log. [default: found by its name]")
    ] = None,
    step_offset: Annotated[
        int | None, typer.Option(help="Added to every step; 1 if the log counts from 0. [default: known for each tool]")
    ] = None,
    train_loss: Annotated[
        bool,
        typer.Option("--train-loss", help="Take the training loss instead of a held-out one; the record says so."),
    ] = False,
    accumulation_steps: Annotated[
        int | None, typer.Option(help="Divide the training loss by this, if the log sums it over several batches.")
    ] = None,
    resets: Annotated[
        str,
        typer.Option(
            help="What a counter that goes back means: the run was resumed there (`resume`), or parts `continue`."
        ),
    ] = "resume",
    seed: Annotated[int | None, typer.Option(help="The run's data seed, kept in the record.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read logs as runs. With one run, --out is its folder; with several, a folder of them.

    Example: `regrow import out/checkpoint-500 --family llama --method depth --params-before 1.24B --params-after 0.93B
    --loss-before 2.31 --tokens-per-step 524k --out runs/llama-1b-depth`

    Example: `regrow import runs.csv --where model=small --model Llama-3.2-1B --method 2:4 --family llama
    --loss-before 2.31 --out runs/small`

    Benchmark scores: `regrow import trainer_state.json evals --merge --scores-before parent/results.json ...`, where
    evals holds lm-eval's results of checkpoints in folders called checkpoint-500.

    Example: `regrow import --manifest runs.csv --out runs`

    Example: `regrow import --as list`
    """
    from regrow.errors import InputError
    from regrow.runs.importers import import_manifest

    if kind == "list":
        _print_formats(as_json)
        return
    if out is None:
        raise InputError("--out missing", hint="say where to write the run")
    about: dict[str, Any] = {
        "family": family,
        "method": method,
        "params_before": params_before,
        "params_after": params_after,
        "loss_before": loss_before,
    }
    more: dict[str, Any] = {
        "model": model,
        "pruned_model": pruned_model,
        "format": kind,
        "unit": unit,
        "where": tuple(where or ()),
        "bytes_per_token": bytes_per_token,
        "tokens_per_step": tokens_per_step,
        "sequence_length": sequence_length,
        "scores_before": scores_before,
        "loss_column": loss_column,
        "tokens_column": tokens_column,
        "step_column": step_column,
        "seed": seed,
        "step_offset": step_offset,
        "accumulation_steps": accumulation_steps,
        "pruning_rate": rate,
        "train_loss": train_loss,
        "resets": resets,
    }
    if manifest is not None:
        given = [name for name, value in {**about, **more, "merge": merge, "split": split}.items() if _is_given(value)]
        if logs or given:
            raise InputError(
                f"--manifest and {'LOG' if logs else _option(given[0])} together",
                hint="the manifest says it for each run",
            )
        records = import_manifest(manifest)
    else:
        records = _import(logs or [], Path(out).name, about, more, merge=merge, split=split)
    _store(records, Path(out), single=len(records) == 1 and manifest is None and split is None)
    _print_runs(records, out, as_json)


def _import(
    logs: list[str], name: str, about: dict[str, Any], more: dict[str, Any], *, merge: bool, split: str | None
) -> list[RunRecord]:
    """The runs in these logs: one each, one of all with `merge`, one for each value of the column `split`."""
    from regrow.errors import InputError
    from regrow.runs.importers import ImportSpec, import_log, runs_in

    if not logs:
        raise InputError("no log to import", hint="name one, or give --manifest")
    counts = _counts(about, more.pop("model"), more.pop("pruned_model"), more["pruning_rate"])
    # results of lm-eval alone have no losses; a log without the loss before pruning is refused where it is read
    missing = [_option(key) for key, value in counts.items() if value is None and key != "loss_before"]
    if missing:
        raise InputError(f"{', '.join(missing)} missing", hint="a log does not say it")
    for key in ("tokens_per_step", "sequence_length"):
        more[key] = None if more[key] is None else parse_count(more[key], what=_option(key))
    if split is not None and (merge or len(logs) > 1):
        raise InputError("--split takes one table", hint="import the tables one by one")
    if split is not None:
        runs = [
            (value, logs, (*more["where"], f"{split}={value}"))
            for value in runs_in(logs[0], split, ImportSpec(run=name, **counts, **more))
        ]
    elif merge or len(logs) == 1:
        runs = [(name, logs, more["where"])]
    else:
        runs = [(run, [log], more["where"]) for run, log in zip(_names(logs), logs, strict=True)]
    return [
        import_log(group, ImportSpec(run=_file_name(run), **counts, **{**more, "where": where}))
        for run, group, where in runs
    ]


def _counts(about: dict[str, Any], model: str | None, pruned: str | None, rate: float | None) -> dict[str, Any]:
    """What is known of the run, with its parameters as numbers, from the models where they are named."""
    from regrow.arch import Architecture
    from regrow.cli.asking import find_shape
    from regrow.errors import InputError
    from regrow.runs.record import CONTROL
    from regrow.shapes import prune_shape

    both = next((n for n, m in (("before", model), ("after", pruned)) if m and about[f"params_{n}"]), None)
    if both is not None:
        option = "--model" if both == "before" else "--pruned-model"
        raise InputError(f"{option} and --params-{both} together", hint="give one of them")
    counts = dict(about)
    for key in ("params_before", "params_after"):
        if counts[key] is not None:
            counts[key] = parse_count(counts[key], what=_option(key))
    before = None if model is None else find_shape(model)
    if before is not None:
        counts["params_before"] = before.params
    if pruned is not None:
        counts["params_after"] = Architecture.from_pretrained(pruned).params
    elif counts["params_after"] is None and counts["params_before"] is not None:
        if counts["method"] == CONTROL:
            counts["params_after"] = counts["params_before"]
        elif before is not None and is_masked(str(counts["method"])):
            shape = prune_shape(before, counts["method"], None)
            counts["params_after"] = None if shape is None else shape.params
        elif rate is not None and 0 <= rate < 1:
            counts["params_after"] = round(counts["params_before"] * (1 - rate))
    return counts


def _store(records: list[RunRecord], out: Path, *, single: bool) -> None:
    """Write the runs: one in `out` itself, several in folders of their own in it."""
    from regrow.disk import make_folder, write_text
    from regrow.errors import InputError
    from regrow.locks import LOCK_FILE, hold
    from regrow.runs import RunWriter
    from regrow.runs.record import check_folder_name
    from regrow.runs.store import IMPORTING_FILE, holds_other

    for record in records if not single else ():
        check_folder_name(record.run, where="import")
    make_folder(out)
    folders = [out if single else out / record.run for record in records]
    with hold(out / LOCK_FILE, what="another process is writing here", hint="wait for it to end"):
        for folder, record in zip(folders, records, strict=True):  # before anything is written
            if holds_other(folder, record):
                raise InputError("holds a run already", where=str(folder), hint="choose another --out")
        if not single:
            write_text(out / IMPORTING_FILE, f"{plural(len(records), 'run')}\n")
        for folder, record in zip(folders, records, strict=True):
            RunWriter.store(folder, record)
        (out / IMPORTING_FILE).unlink(missing_ok=True)


def _print_runs(records: list[RunRecord], out: str, as_json: bool) -> None:
    if as_json:
        runs = [{"run": r.run, "points": len(r.curve), "notes": r.details["import_notes"]} for r in records]
        print_json({"out": str(out), "runs": runs})
        return
    alike: dict[str, list[str]] = {}
    for record in records:
        alike.setdefault("; ".join(record.details["import_notes"]), []).append(record.run)
        many = "checkpoint" if len(record.curve) == 1 else "checkpoints"
        typer.echo(f"{record.run}: {len(record.curve)} {many} up to {record.curve[-1].tokens:,} tokens")
    for notes, names in alike.items():
        say(f"{names[0] if len(names) == 1 else plural(len(names), 'run')}: {notes}", err=True)


def _print_formats(as_json: bool) -> None:
    from regrow.runs.importers.registry import describe

    formats = describe()
    if as_json:
        print_json({"formats": formats})
        return
    width = max(len(row["format"]) for row in formats)
    for row in formats:
        typer.echo(f"{row['format']:<{width}}  {row['what']}")


def _is_given(value: Any) -> bool:
    return value not in (None, False, (), "resume")


def _file_name(run: str) -> str:
    """A run's name that can be a folder's."""
    return re.sub(r"[^\w.+=@-]+", "-", run).strip("-.") or "run"


def _option(name: str) -> str:
    return {"format": "--as", "pruning_rate": "--rate"}.get(name, f"--{name.replace('_', '-')}")


def _names(logs: list[str]) -> list[str]:
    """A name per run: the file's, or the folder's where the files are all called the same."""
    from regrow.errors import InputError
    from regrow.reading import repeated

    names = [Path(log).stem for log in logs]
    if len(set(names)) < len(names):
        names = [Path(log).resolve().parent.name if Path(log).is_file() else Path(log).resolve().name for log in logs]
    twice = repeated(names)
    if twice is not None:
        raise InputError(f"two logs are called {twice!r}", hint="name the runs in a --manifest, or --merge their parts")
    return names
