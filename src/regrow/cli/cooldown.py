"""`regrow cooldown`: anneal a run from one of its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, NoCache, Out
from regrow.cli.train import KeepCheckpoints, find_input, parse_keep, tell
from regrow.cli.training_bar import is_main_process, training_view


def cooldown(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    tokens: Annotated[
        str, typer.Option(help="Length of the cool-down: tokens over which the learning rate falls to zero.")
    ],
    out: Out,
    at: Annotated[
        str | None, typer.Option(help="Start from the checkpoint at this many tokens. [default: the last one]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The run's training text, if it has moved.")] = None,
    held_out: Annotated[str | None, typer.Option(help="The run's held-out text, if it has moved.")] = None,
    save_every: Annotated[
        str | None, typer.Option(help="Tokens between checkpoints; [default: a tenth of --tokens]")
    ] = None,
    keep_checkpoints: KeepCheckpoints = "2",
    shard: Annotated[
        bool, typer.Option("--shard", help="Needed (under torchrun) if the run was trained with --shard.")
    ] = False,
    no_cache: NoCache = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint of the same cool-down.")
    ] = (False),
    as_json: AsJson = False,
) -> None:
    """Anneal a run from one of its checkpoints, in a new run folder. The original run is not changed.

    Weights, optimizer and place in the data come from the run's checkpoint, everything else from its spec.

    Example: `regrow cooldown run --tokens 20k --out run-cooled`
    """
    need_training("regrow cooldown")
    from regrow.training.branch import cool_down
    from regrow.training.signals import stop_on_signals
    from regrow.units import parse_count

    given = {"data": data, "held_out": held_out}

    def find(name: str, kind: str) -> str:
        return find_input(given.get(kind) or name, kind)

    with training_view() as view, stop_on_signals() as stop:
        record = cool_down(
            run,
            tokens=parse_count(tokens, what="--tokens"),
            out=out,
            at=None if at is None else parse_count(at, what="--at"),
            save_every_tokens=None if save_every is None else parse_count(save_every, what="--save-every"),
            find=find,
            resume=resume,
            cache=not no_cache,
            shard=shard,
            keep=parse_keep(keep_checkpoints),
            stop=stop,
            on_start=view.start,
            on_progress=view.show,
        )
    if is_main_process():
        tell(record, out, as_json=as_json)
