"""`regrow import`: a log somebody already has, as a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import AsJson, Out, print_json


def import_logs(
    logs: Annotated[list[str], typer.Argument(metavar="LOG...", help="One log per run.", show_default=False)],
    kind: Annotated[str, typer.Option("--as", help="`trainer-state`, `wandb-csv` or `csv`.")],
    family: Annotated[str, typer.Option(help="Runs of one family are fitted together.")],
    method: Annotated[str, typer.Option(help="How the model was pruned; `none` for an unpruned control.")],
    params_before: Annotated[str, typer.Option(help="Parameters before pruning, e.g. 8B.")],
    params_after: Annotated[str, typer.Option(help="Parameters after pruning (N:M: the non-zero ones).")],
    loss_before: Annotated[float, typer.Option(help="Held-out loss before pruning, on the same text; nats/token.")],
    out: Out,
    rate: Annotated[float | None, typer.Option(help="Pruning rate, where it is not 1 - after/before.")] = None,
    tokens_per_step: Annotated[str | None, typer.Option(help="Where the log counts steps, not tokens.")] = None,
    loss_column: Annotated[str | None, typer.Option(help="Name of the held-out loss in the log.")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="Name of the token count in the log.")] = None,
    step_column: Annotated[str | None, typer.Option(help="Name of the step in the log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read logs as runs. With one log, --out is its run folder; with several, a folder of them.

    Example: `regrow import trainer_state.json --as trainer-state --family llama --method depth --params-before 1.24B
    --params-after 0.93B --loss-before 2.31 --tokens-per-step 524k --out runs/llama-1b-depth`
    """
    from regrow.runs import RunWriter
    from regrow.runs.importers import ImportSpec, import_log
    from regrow.units import parse_count

    records = []
    for log in logs:
        run = Path(out).name if len(logs) == 1 else Path(log).stem
        spec = ImportSpec(
            run=run,
            family=family,
            method=method,
            params_before=parse_count(params_before, what="--params-before"),
            params_after=parse_count(params_after, what="--params-after"),
            loss_before=loss_before,
            pruning_rate=rate,
            tokens_per_step=None if tokens_per_step is None else parse_count(tokens_per_step, what="--tokens-per-step"),
            loss_column=loss_column,
            tokens_column=tokens_column,
            step_column=step_column,
        )
        records.append(import_log(log, kind=kind, spec=spec))
    for record in records:
        RunWriter.store(Path(out) if len(records) == 1 else Path(out) / record.run, record)
    if as_json:
        print_json({"out": str(out), "runs": [{"run": r.run, "points": len(r.curve)} for r in records]})
        return
    for record in records:
        typer.echo(f"{record.run}: {len(record.curve)} checkpoints up to {record.curve[-1].tokens:,} tokens")
