"""`regrow predict`: the loss at a size, a rate and a number of tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.options import (
    AsJson,
    Family,
    LawFile,
    Level,
    LossBefore,
    LossPruned,
    Method,
    ModelName,
    NamedLaw,
    Rate,
    print_json,
)
from regrow.cli.tables import say


def predict(
    tokens: Annotated[str, typer.Option(help="Post-training tokens, e.g. 2B.")],
    loss_before: LossBefore,
    law: LawFile = None,
    named: NamedLaw = None,
    model: ModelName = None,
    params_before: Annotated[
        str | None, typer.Option(help="Parameters before pruning, e.g. 8B, if no --model is given.")
    ] = None,
    loss_pruned: LossPruned = None,
    rate: Rate = None,
    family: Family = None,
    method: Method = None,
    level: Level = 0.9,
    as_json: AsJson = False,
) -> None:
    """The predicted held-out loss of a new run, with its interval.

    Example: `regrow predict law.json --method depth --params-before 3.1M --rate 0.25 --tokens 300k --loss-before 2.9`

    A model by its name: `regrow predict law.json --method depth --model tiny-llama-3m --rate 0.25 --tokens 300k
    --loss-before 2.9`. The rate is then rounded to whole blocks or channels, as in `regrow plan`.
    """
    from regrow.cli.asking import find_shape, law_source, pruning_rate
    from regrow.errors import InputError
    from regrow.laws.files import load_laws
    from regrow.laws.law import CONTROL_BASELINE, select_law
    from regrow.planning.notes import no_gap
    from regrow.units import format_factor, parse_count

    found = select_law(load_laws(law_source(law, named)), family=family, method=method)
    if (model is None) == (params_before is None):
        wrong = "no model" if model is None else "--model and --params-before"
        raise InputError(wrong, hint="give --model or --params-before, one of them")
    if model is not None:
        from regrow.planning.cost import pruned_model

        pruned = pruned_model(method=found.method, pruning_rate=rate, architecture=find_shape(model))
        size, reached = pruned.params_before, pruned.pruning_rate
    else:
        size, reached = parse_count(params_before or "", what="--params-before"), pruning_rate(rate, found)
    prediction = found.predict(
        params_before=size,
        pruning_rate=reached,
        tokens=parse_count(tokens, what="--tokens"),
        loss_before=loss_before,
        loss_pruned=loss_pruned,
        level=level,
    )
    if as_json:
        print_json(prediction.to_dict())
        return
    typer.echo(
        f"{prediction.loss:.4f} nats/token ({prediction.low:.4f} to {prediction.high:.4f} "
        f"at {prediction.level:.0%}) by {found.form}, {found.family}, {found.method}"
    )
    if model is not None and rate is not None and abs(reached - rate) > 5e-4:
        say(f"note: the shapes of {model} reach a rate of {reached:.3g} in the place of {rate:g}", err=True)
    if found.baseline == "control":
        say(f"note: {CONTROL_BASELINE}", err=True)
    for note in no_gap(loss_before, loss_pruned):
        say(f"note: {note}", err=True)
    for name, factor in prediction.extrapolates.items():
        say(f"extrapolates: {name} is {format_factor(factor)}x outside the fitted range", err=True)
