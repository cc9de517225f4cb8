"""`regrow cooldown`: anneal a run from one of its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import AsJson, NoCache, Out
from regrow.cli.train import KeepCheckpoints, find_input, parse_keep, tell
from regrow.cli.training_bar import is_main_process, training_bar


def cooldown(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    tokens: Annotated[str, typer.Option(help="Length of the cool-down: the rate falls to zero over so many tokens.")],
    out: Out,
    at: Annotated[str | None, typer.Option(help="Tokens of the checkpoint to leave from; the last by default.")] = None,
    data: Annotated[str | None, typer.Option(help="The run's text, if it is not where it was.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Its held-out text, if it is not where it was.")] = None,
    save_every: Annotated[
        str | None, typer.Option(help="Tokens between checkpoints; by default a tenth of --tokens.")
    ] = None,
    keep_checkpoints: KeepCheckpoints = "2",
    shard: Annotated[bool, typer.Option("--shard", help="Under torchrun, for a run that was trained so.")] = False,
    no_cache: NoCache = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same cool-down.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Branch a cool-down off a run, to know the loss of a run that ends there; the run itself stays as it is.

    Weights, optimizer and place in the data come from the run's checkpoint, everything else from its spec.

    Example: `regrow cooldown run --tokens 20k --out run-cooled`
    """
    from regrow.training.branch import cool_down
    from regrow.training.signals import stop_on_signals
    from regrow.units import parse_count

    given = {"data": data, "held_out": held_out}

    def find(name: str, kind: str) -> str:
        return find_input(given.get(kind) or name, kind)

    with training_bar() as bar, stop_on_signals() as stop:
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
            on_progress=bar.show,
        )
    if is_main_process():
        tell(record, out, as_json=as_json)
