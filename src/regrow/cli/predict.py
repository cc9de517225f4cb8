"""`regrow predict`: the loss at a size, a rate and a number of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import (
    AsJson,
    BatchTokens,
    Family,
    LawFile,
    LearningRate,
    Level,
    LossBefore,
    LossPruned,
    Method,
    ModelName,
    NamedLaw,
    PlannedScorer,
    Rate,
    ScoreBefore,
    ScoreName,
    ScorePruned,
    print_json,
    warn,
)
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.prediction import Prediction

#: A rate this close to the one asked for is the same.
_NEAR = 5e-4


def predict(
    tokens: Annotated[str, typer.Option(help="Post-training tokens, e.g. 2B; or several: 500M,1B,2B.")],
    law: LawFile = None,
    named: NamedLaw = None,
    model: ModelName = None,
    params_before: Annotated[
        str | None, typer.Option(help="Parameters before pruning, e.g. 8B, if no --model is given.")
    ] = None,
    loss_before: LossBefore = None,
    loss_pruned: LossPruned = None,
    score: ScoreName = None,
    score_before: ScoreBefore = None,
    score_pruned: ScorePruned = None,
    learning_rate: LearningRate = None,
    batch_tokens: BatchTokens = None,
    scorer: PlannedScorer = None,
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

    A benchmark's score: `regrow predict scores.json --score mmlu --params-before 8B --rate 0.25 --tokens 2B
    --score-before 0.72 --score-pruned 0.31`
    """
    from regrow.cli.asking import law_source, planned_recipe, starts
    from regrow.laws.files import load_laws
    from regrow.laws.select import select_law
    from regrow.laws.setting import Setting
    from regrow.planning.recipe import about_recipe, in_recipe
    from regrow.planning.unseen import about_method, check_start
    from regrow.units import parse_count

    found = select_law(load_laws(law_source(law, named)), family=family, method=method, score=score)
    before, pruned = starts(found, loss_before, loss_pruned, score_before, score_pruned)
    size, reached = _size_and_rate(found, model, params_before, rate)
    counts = [parse_count(part, what="--tokens") for part in tokens.split(",")]
    others = planned_recipe(learning_rate, batch_tokens, scorer)
    recipe_notes = about_recipe(found, others, level)
    found = in_recipe(found, others)
    asked = {
        "params_before": size, "pruning_rate": reached, "loss_before": before, "loss_pruned": pruned, **others
    }  # fmt: skip
    setting = Setting(**asked)
    check_start(found, setting)
    predictions = {count: found.predict(**asked, tokens=count, level=level) for count in counts}  # type: ignore[arg-type]
    if as_json:
        plain = [{"tokens": count, **one.to_dict()} for count, one in predictions.items()]
        print_json({"predictions": plain} if len(counts) > 1 else predictions[counts[0]].to_dict())
        return
    _print(found, predictions)
    if model is not None and rate is not None and abs(reached - rate) > _NEAR:
        say(f"note: the shapes of {model} reach a rate of {reached:.3g} in the place of {rate:g}", err=True)
    for note in [*recipe_notes, *about_method(found, setting, float(counts[-1]), level)]:
        say(f"note: {note}", err=True)
    _say_notes(found, asked, predictions)


def _size_and_rate(law: Law, model: str | None, params_before: str | None, rate: float | None) -> tuple[float, float]:
    """Parameters before pruning, and the rate: for a model by its name the one that its shapes reach."""
    from regrow.cli.asking import find_shape, pruning_rate
    from regrow.errors import InputError
    from regrow.units import parse_count

    if (model is None) == (params_before is None):
        wrong = "no model" if model is None else "--model and --params-before"
        raise InputError(wrong, hint="give --model or --params-before, one of them")
    if model is None:
        return parse_count(params_before or "", what="--params-before"), pruning_rate(rate, law)
    from regrow.planning.cost import pruned_model

    pruned = pruned_model(method=law.method, pruning_rate=rate, architecture=find_shape(model))
    return pruned.params_before, pruned.pruning_rate


def _print(law: Law, predictions: Mapping[int, Prediction]) -> None:
    """One loss as a sentence, several as a table."""
    from regrow.units import format_count

    by = f"by {law.form}, {law.family}, {law.method}"
    first = next(iter(predictions.values()))
    if len(predictions) == 1:
        say(f"{first.answers()[0]} {by}")
        return
    rows = [
        [format_count(count), *(f"{value:.4f}" for value in (one.value, one.low, one.high))]
        for count, one in predictions.items()
    ]
    print_table("", ["tokens", first.target, "low", "high"], rows)
    unit = "nats/token" if first.score is None else "fractions"
    say(f"{unit}, with the interval of {first.level:.0%}, {by}")


def _say_notes(law: Law, asked: Mapping[str, float | None], predictions: Mapping[int, Prediction]) -> None:
    """What to know beside the losses; of several numbers of tokens, what lies farthest outside the runs."""
    from regrow.laws.law import CONTROL_BASELINE
    from regrow.laws.setting import Setting
    from regrow.planning.notes import beyond, no_gap

    notes = [CONTROL_BASELINE] if law.baseline == "control" else []
    for note in [*notes, *no_gap(asked["loss_before"] or 0.0, asked["loss_pruned"], score=law.benchmark is not None)]:
        say(f"note: {note}", err=True)
    farthest = max(predictions, key=lambda count: predictions[count].extrapolates.get("tokens", 1.0))
    warn(beyond(law, Setting(**asked, tokens=farthest), predictions[farthest].extrapolates))
