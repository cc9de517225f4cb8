"""`regrow eval`: the held-out loss of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.options import AsJson, NoCache, print_json


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a ladder model.")],
    data: Annotated[str, typer.Option(help="Text to evaluate on, or `ladder`.")],
    sequence_length: Annotated[int, typer.Option(help="Tokens of context; losses at others do not compare.")] = 512,
    blocks: Annotated[int, typer.Option(help="At most this many blocks; 0 for all.")] = 0,
    precision: Annotated[str, typer.Option(help="`fp32`, or `bf16`: faster, and wrong by about 0.001 nats.")] = "fp32",
    packing: Annotated[
        str, typer.Option(help="Attention over the ends of documents in a block: `cross`, or `isolated` to each.")
    ] = "cross",
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Held-out loss in nats per token, and how it was measured.

    Example: `regrow eval tiny-llama-3m --data ladder`
    """
    from dataclasses import asdict

    from regrow.errors import one_of
    from regrow.training.spec import PACKINGS

    one_of(packing, PACKINGS, what="packing", where="--packing")
    one_of(precision, ("fp32", "bf16"), what="precision", where="--precision")
    import torch

    from regrow.cli.loading import load_blocks
    from regrow.evaluation import evaluate as run
    from regrow.ladder import find_corpus, find_model
    from regrow.models.load import load_model

    folder = find_model(model)
    held_out = load_blocks(
        find_corpus(data, "held_out"), folder, sequence_length=sequence_length, limit=blocks or None, cache=not no_cache
    )
    found = run(
        load_model(folder, dtype=torch.float32 if precision == "fp32" else torch.bfloat16),
        held_out,
        isolated=packing == "isolated",
    )
    if as_json:
        print_json({"model": model, "data": data, "packing": packing, **asdict(found)})
        return
    typer.echo(
        f"{model}: {found.loss:.4f} nats/token over {found.tokens:,} held-out tokens "
        f"at a context of {found.sequence_length}"
    )
