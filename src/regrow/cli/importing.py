"""`regrow import`: logs somebody already has, as run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regrow.cli.options import AsJson, Out, print_json


def import_logs(
    out: Out,
    logs: Annotated[
        list[str] | None, typer.Argument(metavar="LOG...", help="Files or folders, one per run.", show_default=False)
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="A CSV with a row per log (path, run, family, ...), in place of all below.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--as", help="The format; recognised by content if left out. See docs/import.md.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="The logs are parts of one run, in their order.")] = False,
    family: Annotated[str | None, typer.Option(help="Runs of one family are fitted together.")] = None,
    method: Annotated[str | None, typer.Option(help="How it was pruned; `none` for an unpruned control.")] = None,
    params_before: Annotated[str | None, typer.Option(help="Parameters before pruning, e.g. 8B.")] = None,
    params_after: Annotated[str | None, typer.Option(help="Parameters after pruning (N:M: the non-zero ones).")] = None,
    loss_before: Annotated[
        float | None, typer.Option(help="Held-out loss before pruning, on the same text; nats/token.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Pruning rate, where it is not 1 - after/before.")] = None,
    tokens_per_step: Annotated[str | None, typer.Option(help="Where the log counts steps, not tokens.")] = None,
    sequence_length: Annotated[str | None, typer.Option(help="Where the log counts samples, not tokens.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of the log's loss: `nats`, `bits`, `perplexity` or `bits-per-byte`.")
    ] = None,
    bytes_per_token: Annotated[float | None, typer.Option(help="Of the held-out text, for bits per byte.")] = None,
    loss_column: Annotated[str | None, typer.Option(help="Name of the held-out loss in the log.")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="Name of the token count in the log.")] = None,
    step_column: Annotated[str | None, typer.Option(help="Name of the step in the log.")] = None,
    train_loss: Annotated[
        bool, typer.Option("--train-loss", help="Take the training loss, which marks the run.")
    ] = False,
    resets: Annotated[
        str, typer.Option(help="A counter that goes back: the run was resumed there (`resume`), or parts `continue`.")
    ] = "resume",
    seed: Annotated[int | None, typer.Option(help="The run's data seed, kept in the record.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read logs as runs. With one run, --out is its folder; with several, a folder of them.

    Formats: trainer_state.json (also of axolotl), LLaMA-Factory, W&B (CSV, Parquet, run file), TensorBoard, torchtitan,
    Megatron-LM, NeMo, and plain tables.

    Example: `regrow import out/checkpoint-500 --family llama --method depth --params-before 1.24B --params-after 0.93B
    --loss-before 2.31 --tokens-per-step 524k --out runs/llama-1b-depth`

    Example: `regrow import --manifest runs.csv --out runs`
    """
    from regrow.errors import InputError
    from regrow.runs import RunRecord, RunWriter
    from regrow.runs.importers import ImportSpec, import_log, import_manifest
    from regrow.runs.store import RUN_FILE
    from regrow.units import parse_count

    about: dict[str, Any] = {
        "family": family,
        "method": method,
        "params_before": params_before,
        "params_after": params_after,
        "loss_before": loss_before,
    }
    more: dict[str, Any] = {
        "as": kind,
        "unit": unit,
        "bytes_per_token": bytes_per_token,
        "tokens_per_step": tokens_per_step,
        "sequence_length": sequence_length,
        "loss_column": loss_column,
        "tokens_column": tokens_column,
        "step_column": step_column,
        "rate": rate,
        "seed": seed,
        "merge": merge or None,
        "train_loss": train_loss or None,
        "resets": None if resets == "resume" else resets,
    }
    records: list[RunRecord] = []
    if manifest is not None:
        given = ["LOG"] if logs else [_option(name) for name, value in {**about, **more}.items() if value is not None]
        if given:
            raise InputError(f"--manifest and {given[0]} together", hint="the manifest says it for each run")
        records = import_manifest(manifest)
    else:
        if not logs:
            raise InputError("no log to import", hint="name one, or give --manifest")
        missing = [_option(name) for name, value in about.items() if value is None]
        if missing:
            raise InputError(f"{', '.join(missing)} missing", hint="a log does not say it")
        for name in ("params_before", "params_after"):
            about[name] = parse_count(about[name], what=_option(name))
        for name, text in (("tokens_per_step", tokens_per_step), ("sequence_length", sequence_length)):
            about[name] = None if text is None else parse_count(text, what=_option(name))
        groups = [logs] if merge else [[log] for log in logs]
        names = [Path(out).name] if len(groups) == 1 else _names(logs)
        for name, group in zip(names, groups, strict=True):
            spec = ImportSpec(
                run=name,
                format=kind,
                unit=unit,
                bytes_per_token=bytes_per_token,
                loss_column=loss_column,
                tokens_column=tokens_column,
                step_column=step_column,
                train_loss=train_loss,
                resets=resets,
                pruning_rate=rate,
                seed=seed,
                **about,
            )
            records.append(import_log(group, spec))
    single = len(records) == 1 and manifest is None
    folders = [Path(out) if single else Path(out) / record.run for record in records]
    held = next((folder for folder in folders if (folder / RUN_FILE).exists()), None)
    if held is not None:  # before anything is written
        raise InputError("holds a run already", where=str(held), hint="choose another --out")
    for folder, record in zip(folders, records, strict=True):
        RunWriter.store(folder, record)
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
        typer.echo(f"{names[0] if len(names) == 1 else f'{len(names)} runs'}: {notes}", err=True)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _names(logs: list[str]) -> list[str]:
    """A name per run: the file's, or the folder's where the files are all called the same."""
    from regrow.errors import InputError

    names = [Path(log).stem for log in logs]
    if len(set(names)) < len(names):
        names = [Path(log).resolve().parent.name if Path(log).is_file() else Path(log).resolve().name for log in logs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two logs are called {twice!r}", hint="name the runs in a --manifest, or --merge their parts")
    return names
