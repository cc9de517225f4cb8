"""A live forecast of a run, in anyone's `transformers.Trainer`: where its loss will end, how many tokens it is worth.

    RecoveryForecast(tokens_per_step=65536).attach(trainer)

At every evaluation the evaluations so far (which Trainer keeps in its state, also over a resume) go through
`regrow.planning.forecast`; the result is shown, logged, and can stop the run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regrow.errors import InputError, one_of
from regrow.laws import Law, Setting, load_laws, select_law
from regrow.laws.observations import LOSSES
from regrow.laws.pooled.scored import MEAN
from regrow.laws.pooled.scored import error as error_of
from regrow.laws.prediction import LOSS
from regrow.planning.criteria import CRITERIA, SCORE_CRITERIA, Budget, Criterion, Gain, criterion_from
from regrow.planning.forecast import Forecast, forecast
from regrow.planning.recipe import about_recipe, comparable, in_recipe, recipe_columns
from regrow.planning.score_criteria import ScoreGain
from regrow.planning.score_plan import errors_of
from regrow.runs import CurvePoint, RunRecord
from regrow.training.spec import TrainSpec

#: schedules under which the loss at any step is also the final loss of a run that ends there, but for the warm-up
CONSTANT_RATES = ("constant", "constant_with_warmup")


class RecoveryForecast(TrainerCallback):
    """Forecasts the final held-out loss of a run and D*, with intervals, at every evaluation.

    `attach(trainer)` adds it to a Trainer and logs through it, so that the numbers reach whatever tracker the Trainer
    reports to, as `eval_forecast_loss`, `eval_forecast_low`, `eval_forecast_high` (nats/token), `eval_forecast_tokens`,
    `eval_forecast_tokens_low`, `eval_forecast_tokens_high` (D*; left out where no number of tokens will do) and
    `eval_forecast_met` (the probability that the criterion is met). Passed to `callbacks=` instead, it
    shows and stops, but can't log: transformers gives a callback no way to its Trainer.

    Args:
        law: a law file or a `Law` of such runs, which the run's own evaluations then correct; None for the run's own
            curve alone. It needs `params_before`, `pruning_rate` and `loss_before`; a file of several laws also
            `family` or `method`. A law of a benchmark's score needs `score_before` instead, and `metric` names the
            score, a fraction.
        tokens_per_step: tokens in one optimizer step. Not needed where TrainingArguments.include_num_input_tokens_seen
            has the Trainer count them.
        final_tokens: tokens of the whole run; by default those of the Trainer's `max_steps`.
        criterion: when it is time to stop (`regrow.planning`): `Gain`, `Slope`, `Recovery` or `Target`.
        stop: stop the run once the criterion is met with the probability `confidence`.
        level: probability of the intervals.
        metric: what Trainer calls the held-out loss, or the score.
        show: is given the forecast in one line; prints to stderr by default, None for silence.

    Raises `InputError` for arguments that do not fit each other, and at the start of a run whose tokens can't be known.
    """

    def __init__(
        self,
        law: str | Path | Law | None = None,
        *,
        params_before: float | None = None,
        pruning_rate: float | None = None,
        loss_before: float | None = None,
        score_before: float | None = None,
        family: str | None = None,
        method: str | None = None,
        tokens_per_step: int | None = None,
        final_tokens: int | None = None,
        criterion: Criterion | Budget | None = None,
        stop: bool = False,
        confidence: float = 0.8,
        level: float = 0.9,
        metric: str = "eval_loss",
        show: Callable[[str], None] | None = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.law = select_law(load_laws(law), family, method) if isinstance(law, str | Path) else law
        of_scores = self.law is not None and self.law.benchmark is not None
        chosen = criterion or (ScoreGain() if of_scores else Gain())
        if isinstance(chosen, Budget):
            raise InputError("a budget is spent, not forecast", where="criterion", hint="use gain, slope or target")
        for name, value in (("confidence", confidence), ("level", level)):
            if not 0 < value < 1:
                raise InputError(f"a {name} of {value:g}", where="forecast", hint="it lies between 0 and 1")
        for name, count in (("tokens_per_step", tokens_per_step), ("final_tokens", final_tokens)):
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}", where="forecast", hint="give a positive count")
        if self.law is not None and of_scores:
            loss_before, _ = errors_of(self.law, score_before, None)
        self.setting = None if self.law is None else _setting(params_before, pruning_rate, loss_before)
        self.criterion: Criterion = chosen
        self.tokens_per_step = tokens_per_step
        self.final_tokens = final_tokens
        self.stop = stop
        self.confidence = confidence
        self.level = level
        self.metric = metric
        self.show = show
        self.latest: Forecast | None = None
        self._log: Callable[[dict[str, float]], None] | None = None
        self._shown: set[str] = set()

    def attach(self, trainer: Trainer) -> RecoveryForecast:
        """Add this to a Trainer and log through it."""
        trainer.add_callback(self)
        self._log = trainer.log
        return self

    def in_recipe_of(self, learning_rate: float, batch_tokens: float | None) -> list[str]:
        """Count the law's tokens as this run spends them, where the law knows its runs' recipe; what to say of it."""
        if self.law is None:
            return []
        columns = comparable(self.law, recipe_columns(learning_rate=learning_rate, batch_tokens=batch_tokens))
        notes = about_recipe(self.law, columns, self.level) if columns else []
        self.law = in_recipe(self.law, columns)
        return [f"forecast: {note}" for note in notes]

    def forecast(self, tokens: list[int], losses: list[float], *, final_tokens: int) -> Forecast:
        """The forecast of a run with these evaluations; kept as `latest`."""
        self.latest = forecast(
            tokens,
            losses,
            final_tokens=final_tokens,
            criterion=self.criterion,
            law=self.law,
            setting=self.setting,
            level=self.level,
        )
        return self.latest

    def new_notes(self, found: Forecast) -> list[str]:
        """Notes of a forecast that have not been shown yet, each as one line."""
        if found.final_loss is None:  # they are in its sentence
            return []
        new = [note for note in found.notes if note not in self._shown]
        self._shown.update(new)
        return [f"forecast: {note}" for note in new]

    @property
    def is_met(self) -> bool:
        """Whether the latest forecast says that it is time to stop."""
        share = None if self.latest is None else self.latest.share_met
        return share is not None and share >= self.confidence

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.tokens_per_step is None and args.include_num_input_tokens_seen == "no":
            raise InputError(
                "the run's tokens are not counted",
                where="RecoveryForecast",
                hint="give tokens_per_step, or set include_num_input_tokens_seen in the TrainingArguments",
            )
        for note in self.in_recipe_of(args.learning_rate, self.tokens_per_step):
            self._say(state, note)
        rate = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
        if rate not in CONSTANT_RATES:
            self._say(state, _decays(rate))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        points = [
            (self._tokens(entry["step"], entry.get("num_input_tokens_seen")), self._read(float(entry[self.metric])))
            for entry in state.log_history
            if self.metric in entry and math.isfinite(entry[self.metric])
        ]
        # an evaluation before a resume is in the state once; one by hand after training repeats the last
        curve = dict(points)
        step = state.global_step
        if not curve or not step:
            return
        now = self._tokens(step, state.num_input_tokens_seen)
        final = self.final_tokens or round(now / step * max(state.max_steps, step))
        found = self.forecast(list(curve), list(curve.values()), final_tokens=final)
        self._say(state, found.sentence())
        for note in self.new_notes(found):
            self._say(state, note)
        if self._log is not None and found.final_loss is not None:
            self._log(log_values(found))
        if self.stop and self.is_met and not control.should_training_stop:
            control.should_training_stop = True
            self._say(state, stopping(found))

    def _read(self, value: float) -> float:
        """What the law is of: the loss, or the error of a score."""
        return value if self.law is None or self.law.benchmark is None else error_of(value)

    def _tokens(self, step: int, seen: float | None) -> int:
        return step * self.tokens_per_step if self.tokens_per_step else int(seen or 0)

    def _say(self, state: TrainerState, line: str) -> None:
        if self.show is not None and state.is_world_process_zero:
            self.show(line)


def log_values(found: Forecast) -> dict[str, float]:
    """A forecast as the numbers that a tracker takes; what is not known is left out.

    Of a law of scores `score` stands in the place of `loss`, and the interval is the score's.
    """
    ends = {"loss": found.final_loss, "low": found.final_low, "high": found.final_high}
    if found.target != LOSS and found.final_loss is not None:
        score, low, high = (1 - float(end or 0.0) for end in (found.final_loss, found.final_high, found.final_low))
        ends = {"score": score, "low": low, "high": high}
    values = {
        **ends,
        "tokens": found.best_tokens,
        "tokens_low": found.best_low,
        "tokens_high": found.best_high,
        "met": found.share_met,
    }
    return {f"eval_forecast_{name}": value for name, value in values.items() if value is not None}


def _decays(schedule: str) -> str:
    return (
        f"forecast: the learning rate is {schedule}, not constant: a loss on the way is above that of a run that ends "
        "there, so the final loss will be lower than forecast"
    )


def stopping(found: Forecast) -> str:
    """Why a run stops, in one line."""
    return f"forecast: stopping at {found.tokens:,} tokens, where {found.because} ({found.share_met:.0%} sure)"


def _setting(params_before: float | None, pruning_rate: float | None, loss_before: float | None) -> Setting:
    given = {"params_before": params_before, "pruning_rate": pruning_rate, "loss_before": loss_before}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise InputError(
            f"no {', '.join(missing)}", where="forecast", hint="a law needs to know which run it speaks of"
        )
    size, rate, before = (float(value or 0.0) for value in given.values())
    if not size >= 1 or not 0 <= rate < 1 or not (math.isfinite(before) and before > 0):
        raise InputError(
            f"params_before {size:g}, pruning_rate {rate:g}, loss_before {before:g}",
            where="forecast",
            hint="a count, a fraction below 1, and nats/token",
        )
    return Setting(params_before=size, pruning_rate=rate, loss_before=before)


def parse_stop(text: str, *, scores: bool = False) -> Criterion:
    """A stopping rule from `gain:0.01`, `slope:0.002`, `recovery:0.9` or `target:2.3`; the value may be left out where
    the criterion has a default. Of `scores`: `gain:0.5` (points), `recovery:0.9` or `target:0.7`.

    Raises `InputError` for anything else.
    """
    where = "--stop-when"
    name, _, value = text.partition(":")
    kinds = SCORE_CRITERIA if scores else CRITERIA
    kind = kinds[one_of(name, [known for known in kinds if known != Budget.name], what="criterion", where=where)]
    try:
        options = {fields(kind)[0].name: float(value)} if value else {}
    except ValueError:
        raise InputError(f"{value!r} is not a number", where=where, hint="write it like gain:0.01") from None
    found = criterion_from(name, scores, **options)
    assert not isinstance(found, Budget)
    return found


def watch_for(
    source: str | Path | None, stop_when: str | None, show: Callable[[str], None] | None
) -> Callable[[RunRecord, TrainSpec], Callable[[Sequence[CurvePoint]], str | None]]:
    """Make what watches a run of regrow: it forecasts at every milestone, and says when and why to end the run.

    Args:
        source: `run` (or None) for the run's own curve, or a law file.
        stop_when: as `parse_stop` reads it; None to forecast only.
        show: is given each forecast in one line; None for silence.

    Returns a function of the run's record and spec, since size and loss before pruning are known only when it starts.
    Raises `InputError` for what can't be read.
    """
    laws = None if source is None or str(source) == "run" else load_laws(source)
    of_scores = any(law.benchmark is not None for law in laws or ())
    criterion = None if stop_when is None else parse_stop(stop_when, scores=of_scores)

    def watch(record: RunRecord, spec: TrainSpec) -> Callable[[Sequence[CurvePoint]], str | None]:
        law: Law | None = None
        known: dict[str, Any] = {}
        if laws is not None:
            law = _law_of_run(laws, record)
            before = _before(law, record)
            known = {"params_before": record.params_before, "pruning_rate": record.pruning_rate, **before}
            _check_losses(law, spec)
        forecaster = RecoveryForecast(law, **known, criterion=criterion, show=None)
        say = show or (lambda line: None)
        for note in forecaster.in_recipe_of(spec.learning_rate, spec.batch_tokens):
            say(note)
        if spec.schedule not in CONSTANT_RATES:
            say(_decays(spec.schedule))

        def at_milestone(curve: Sequence[CurvePoint]) -> str | None:
            read = {p.tokens: value for p in curve if (value := _reading(law, p)) is not None}
            final = spec.steps * spec.batch_tokens
            found = forecaster.forecast(list(read), list(read.values()), final_tokens=final)
            for line in [found.sentence(), *forecaster.new_notes(found)]:
                say(line)
            if stop_when is None or not forecaster.is_met:
                return None
            say(stopping(found))
            return stopping(found)

        return at_milestone

    return watch


def _law_of_run(laws: Sequence[Law], record: RunRecord) -> Law:
    """The law of the run's family and method; of several benchmarks that of their mean."""
    family, method = _family_and_method(laws, record)
    mean = [law for law in laws if law.benchmark == MEAN and family in (None, law.family)]
    return select_law([*laws], family, method, MEAN if mean else None)


def _benchmarks(law: Law) -> tuple[str, ...]:
    """The benchmarks whose scores the law is of; empty for a law of losses."""
    if law.benchmark is None:
        return ()
    return tuple(map(str, law.diagnostics.get("benchmarks", ()))) or (law.benchmark,)


def _before(law: Law, record: RunRecord) -> dict[str, float | None]:
    """What a law is told of the unpruned model: its loss, or its score.

    Raises `InputError` for a benchmark that the unpruned model was not asked, where the law counts from its score.
    """
    names = _benchmarks(law)
    if not names:
        return {"loss_before": record.loss_before}
    lacking = [name for name in names if name not in record.scores_before]
    if not lacking:
        return {"score_before": sum(record.scores_before[name].value for name in names) / len(names)}
    if law.diagnostics.get("parents_known", True):
        raise InputError(
            f"the unpruned model has no score of {', '.join(lacking)}", where="--forecast", hint="ask it with --tasks"
        )
    return {"score_before": None}


def _reading(law: Law | None, point: CurvePoint) -> float | None:
    """What the law is of at a milestone: a loss, or the error of its benchmarks; None where it was not read."""
    names = () if law is None else _benchmarks(law)
    if not names:
        value = getattr(point, LOSSES["raw" if law is None else law.loss_kind])
        return None if value is None else float(value)
    if any(name not in point.scores for name in names):
        return None
    return error_of(sum(point.scores[name].value for name in names) / len(names))


def _check_losses(law: Law, spec: TrainSpec) -> None:
    """Raise `InputError` for a law of losses or scores that a run of this recipe does not read."""
    if law.benchmark is not None and not spec.tasks:
        raise InputError(
            f"the law is of {law.target}, and this run asks no benchmark",
            where="--forecast",
            hint="name it with --tasks",
        )
    reads = {"raw": True, "averaged": spec.average is not None, "cooled": spec.cooldown_tokens > 0}
    if not reads[law.loss_kind]:
        raise InputError(
            f"the law is of {law.loss_kind} losses, which this run does not read",
            where="--forecast",
            hint="add --average or --cooldown as in its runs, or fit a law with --loss raw",
        )


def _family_and_method(laws: Sequence[Law], record: RunRecord) -> tuple[str | None, str | None]:
    """The family and method that select a law of the file: the run's own, as far as the file has them."""
    family = record.family if any(law.family == record.family for law in laws) else None
    method = record.method if any(law.method == record.method for law in laws) else None
    return family, method
