"""Which law is asked, of which model, by which criterion, and what `--rate` means for it. Light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regrow.errors import InputError, one_of

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.laws.law import Law
    from regrow.planning.criteria import Budget, Criterion

#: The options of `plan` that belong to one criterion: its name, and what its class calls the option.
_CRITERION_OF = {
    "--min-gain": ("gain", "min_gain"),
    "--max-slope": ("slope", "max_slope"),
    "--share": ("recovery", "share"),
    "--target": ("target", "loss"),
    "--budget-hours": ("budget", "gpu_hours"),
    "--budget-usd": ("budget", "usd"),
}


def law_source(law: str | None, named: str | None) -> str:
    """The law file, or the name of the law that is shipped. Raises `InputError` unless one of the two is given."""
    if (law is None) == (named is None):
        if law is not None:
            raise InputError("a law file and --law", hint="give a law file, or --law reference")
        hint = "give a law file, or ask the law that the package ships: --law reference"
        raise InputError("no law", hint=hint)
    return str(law if named is None else named)


def find_shape(model: str) -> Architecture:
    """The architecture of a ladder model, a catalogue entry, a checkpoint folder or a `config.json`.

    Raises `InputError` for an unknown name, with the nearest of both lists.
    """
    from regrow.arch import catalog, find_architecture
    from regrow.ladder.assets import find_model, model_names

    known = find_model(model)
    try:
        return find_architecture(known)
    except InputError as wrong:
        if not wrong.what.startswith("unknown model"):
            raise
        one_of(model, [*catalog(), *model_names()], what="model", where="catalogue and ladder")
        raise


def pruning_rate(rate: float | None, law: Law) -> float:
    """The rate asked for; for an N:M law, which has one, the middle of the fitted ones.

    Raises `InputError` if it is missing.
    """
    from regrow.laws.pooled.unseen import methods_of

    if rate is None:
        if ":" not in law.method or methods_of(law):
            raise InputError("--rate is missing", hint=f"a {law.method} law needs the pruning rate, e.g. --rate 0.25")
        low, high = law.ranges["pruning_rate"]
        return (low + high) / 2
    return rate


def planned_recipe(learning_rate: float | None, batch_tokens: str | None, scorer: str | None) -> dict[str, float]:
    """The columns of `--lr`, `--batch-tokens` and `--scorer`. Raises `InputError` for what no run has."""
    from regrow.planning.recipe import recipe_columns
    from regrow.units import parse_count

    if scorer is not None:
        from regrow.pruning.scorers import SCORERS

        one_of(scorer, sorted({name for _, name in SCORERS}), what="scorer", where="--scorer")
    batch = None if batch_tokens is None else float(parse_count(batch_tokens, what="--batch-tokens"))
    return recipe_columns(learning_rate=learning_rate, batch_tokens=batch, scorer=scorer)


def stopping(
    name: str | None, options: Mapping[str, float | None], *, loss_pruned: float | None, scores: bool = False
) -> Criterion | Budget:
    """The criterion that `--criterion` names, or else the one that the given options belong to, or else `gain`.

    Args:
        options: values by the option's name on the command line (`--target`); None where it is left out.
        loss_pruned: `--loss-pruned`, which `recovery` reads too.
        scores: whether the law is of scores: gains are then points, and the target a score.

    Raises `InputError` where options contradict each other or the name, and for what the criterion refuses.
    """
    from regrow.planning.criteria import CRITERIA, criterion_from

    given = {option: value for option, value in options.items() if value is not None}
    if name is None:
        kinds = list(dict.fromkeys(_CRITERION_OF[option][0] for option in given)) or ["gain"]
        if len(kinds) > 1:
            raise InputError(
                f"{' and '.join(given)} belong to different criteria: {', '.join(kinds)}",
                hint="a plan has one criterion: give the options of one",
            )
        name = kinds[0]
    elif name in CRITERIA:
        stray = [option for option in given if _CRITERION_OF[option][0] != name]
        if stray:
            its = [option for option, (kind, _) in _CRITERION_OF.items() if kind == name]
            raise InputError(
                f"{' and '.join(stray)} with --criterion {name}", hint=f"{name} takes {' or '.join(its)}; leave one out"
            )
        if name == "target" and not given:
            what = "score to reach, a fraction" if scores else "loss to reach, nats/token"
            raise InputError("--criterion target without --target", hint=f"give the {what}")
        if name == "slope" and not given:
            raise InputError("--criterion slope without --max-slope", hint="give nats per million tokens")
    fields = {_CRITERION_OF[option][1]: value for option, value in given.items()}
    if scores and "loss" in fields:
        fields["score"] = fields.pop("loss")
    more = {"loss_pruned": loss_pruned} if name == "recovery" and not scores else {}
    return criterion_from(name, scores, **fields, **more)


def starts(
    law: Law,
    loss_before: float | None,
    loss_pruned: float | None,
    score_before: float | None,
    score_pruned: float | None,
) -> tuple[float, float | None]:
    """What a law is asked with as the losses before and right after pruning; of a law of scores, both errors.

    Raises `InputError` for scores with a law of losses and the other way round, and for what is missing.
    """
    from regrow.planning.score_plan import errors_of

    scores = {"--score-before": score_before, "--score-pruned": score_pruned}
    losses = {"--loss-before": loss_before, "--loss-pruned": loss_pruned}
    wrong = [name for name, value in (losses if law.benchmark else scores).items() if value is not None]
    if wrong:
        hint = f"give {' and '.join(scores if law.benchmark else losses)}"
        raise InputError(f"{' and '.join(wrong)} with a law of {law.target}", hint=hint)
    if law.benchmark:
        return errors_of(law, score_before, score_pruned)
    if loss_before is None:
        raise InputError("--loss-before is missing", hint="give the held-out loss of the unpruned model, nats/token")
    return loss_before, loss_pruned
