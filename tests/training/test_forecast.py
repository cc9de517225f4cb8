"""The live forecast in a real Trainer, on real losses and on a curve whose truth is known."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import Trainer, TrainerCallback, TrainingArguments

import regrow
from regrow.data import read_blocks
from regrow.errors import InputError
from regrow.models.load import load_model, load_tokenizer
from regrow.planning.criteria import Budget, Gain, Recovery, Target
from regrow.runs import read_run
from regrow.runs.check import check_runs
from regrow.training import TrainSpec
from regrow.training.forecast import RecoveryForecast, parse_stop
from regrow.training.post_train import post_train

PER_STEP = 4 * 64


class Tracker(TrainerCallback):
    """What every tracker of transformers is: a callback that takes the numbers of `on_log`."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append((state.global_step, dict(logs)))


@pytest.fixture
def make_trainer(tiny_model, text, tmp_path):
    blocks = read_blocks(str(text), load_tokenizer(tiny_model), sequence_length=64)
    rows = [{"input_ids": row, "labels": row} for row in blocks.tokens[:200].tolist()]

    def make(steps=40, every=4, schedule="constant", callbacks=(), **more):
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            per_device_train_batch_size=4,
            learning_rate=3e-3,
            lr_scheduler_type=schedule,
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            **more,
        )
        return Trainer(
            load_model(tiny_model), arguments, train_dataset=rows[8:], eval_dataset=rows[:4], callbacks=list(callbacks)
        )

    return make


def curve(tokens):
    """A held-out loss of known truth, with the noise that readings have."""
    noise = 0.001 * np.sin(37.0 * np.asarray(tokens))
    return 3.0 + 6.0 * (np.asarray(tokens, dtype=float) + 500) ** -0.4 + noise


def of_known_truth(trainer):
    """Let a Trainer's evaluation also give the loss of `curve` at the step where it stands."""
    evaluate = trainer.evaluate

    def known(*args, **kwargs):
        trainer.compute_metrics = lambda _: {"truth": float(curve(trainer.state.global_step * PER_STEP))}
        return evaluate(*args, **kwargs)

    trainer.evaluate = known
    return trainer


def test_a_real_run_shows_and_logs_its_forecast(make_trainer):
    tracker, lines = Tracker(), []
    trainer = make_trainer(callbacks=[tracker])
    forecast = regrow.RecoveryForecast(tokens_per_step=PER_STEP, show=lines.append).attach(trainer)
    trainer.train()
    logged = {step: logs for step, logs in tracker.seen if "eval_forecast_loss" in logs}
    assert sorted(logged) == [20, 24, 28, 32, 36, 40]  # from the fifth evaluation on
    assert all(
        logs["eval_forecast_low"] < logs["eval_forecast_loss"] < logs["eval_forecast_high"] for logs in logged.values()
    )
    assert any("eval_forecast_loss" in entry for entry in trainer.state.log_history)  # and so in trainer_state.json
    assert lines[0].startswith("forecast at 1.02k tokens, loss")
    assert "none yet" in lines[0]
    assert sum("one run alone" in line for line in lines) == 1  # said once
    assert forecast.latest.tokens == forecast.latest.final_tokens == 40 * PER_STEP


def test_half_of_a_known_curve_tells_its_end(make_trainer):
    found = {}
    forecast = RecoveryForecast(tokens_per_step=PER_STEP, metric="eval_truth", show=None)
    trainer = of_known_truth(make_trainer(every=2))
    forecast.attach(trainer)
    predict = forecast.forecast
    forecast.forecast = lambda *a, **k: found.setdefault(a[0][-1] // PER_STEP, predict(*a, **k))
    trainer.train()
    end = float(curve(40 * PER_STEP))
    for step in (20, 30):
        assert found[step].final_low < end < found[step].final_high
        assert found[step].final_loss == pytest.approx(end, abs=0.02)


def test_it_stops_at_the_evaluation_where_the_criterion_is_met(make_trainer):
    criterion = Gain(min_gain=0.04)
    grid = np.arange(1, 60_000)
    quiet = 3.0 + 6.0 * (np.stack([grid, 2 * grid]) + 500.0) ** -0.4
    best = grid[np.flatnonzero(quiet[0] - quiet[1] >= criterion.min_gain)[-1]] / PER_STEP  # in steps
    lines = []
    forecast = RecoveryForecast(
        tokens_per_step=PER_STEP, criterion=criterion, metric="eval_truth", stop=True, show=lines.append
    )
    trainer = of_known_truth(make_trainer(steps=80, every=2))
    forecast.attach(trainer)
    trainer.train()
    assert best < trainer.state.global_step < 1.6 * best
    assert f"stopping at {trainer.state.global_step * PER_STEP:,} tokens" in lines[-1]
    assert forecast.is_met


def test_a_law_and_the_tokens_that_trainer_counts(make_trainer, law):
    lines = []
    trainer = make_trainer(steps=8, include_num_input_tokens_seen=True)
    known = {"params_before": 4e6, "pruning_rate": 0.25, "loss_before": 3.0}
    RecoveryForecast(law, **known, show=lines.append).attach(trainer)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "eval_forecast_loss" in entry]
    assert len(logs) == 2  # a law speaks from the first evaluation on
    assert lines[0].startswith("forecast at 1.02k tokens")


@pytest.fixture(scope="session")
def law(tmp_path_factory):
    from regrow.laws import fit, save_laws
    from regrow.laws.simulate import simulate

    truth = {"alpha": 1.0, "beta": 0.3, "gamma": -1.4, "delta": 0.1, "N_C": 0.0, "D_C": 40.0, "E": 2.0}
    runs = simulate(
        truth,
        sizes=(1e6, 2e6, 4e6),
        rates=(0.15, 0.25, 0.35),
        tokens=(500, 1000, 2000, 4000),
        loss_before=lambda n: 3.0,
        run_noise=0.01,
        point_noise=0.005,
    )
    path = tmp_path_factory.mktemp("law") / "law.json"
    save_laws(fit(runs, draws=60), path)
    return path


def test_a_decaying_rate_is_said(make_trainer):
    lines = []
    trainer = make_trainer(steps=1, every=1, schedule="cosine")
    RecoveryForecast(tokens_per_step=PER_STEP, show=lines.append).attach(trainer)
    trainer.train()
    assert "the learning rate is cosine, not constant" in lines[0]


def test_a_resumed_run_goes_on_with_the_evaluations_before(make_trainer, tmp_path):
    trainer = make_trainer(steps=20)
    trainer.args.save_strategy, trainer.args.save_steps = "steps", 20
    trainer.train()
    trainer.save_state()
    trainer._save_checkpoint(trainer.model, trial=None)
    again = make_trainer(steps=24)
    forecast = RecoveryForecast(tokens_per_step=PER_STEP, show=None).attach(again)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-20"))
    assert forecast.latest.final_loss is not None  # one evaluation since, five before


def test_a_run_of_regrow_ends_where_the_forecast_says(tiny_model, text, tmp_path):
    lines = []
    spec = TrainSpec(
        tokens=10 * 256,
        batch_tokens=256,
        sequence_length=64,
        held_out_blocks=4,
        eval_at=tuple(range(256, 2561, 256)),
        learning_rate=3e-3,
    )
    ask = {"data": str(text), "spec": spec, "out": tmp_path / "run", "stop_when": "gain:9"}
    run = post_train(str(tiny_model), **ask, on_forecast=lines.append)
    assert run.curve[-1].tokens == run.details["ended_at"] == 5 * 256  # the first forecast takes five evaluations
    assert run.details["ended_by"] == lines[-1] == f"forecast: stopping at 1,280 tokens, where {GAIN_9} (100% sure)"
    assert run.details["unique_tokens"] == 1280
    assert run.status == "done"
    assert [one.problems for one in check_runs(tmp_path / "run")] == [()]
    assert post_train(str(tiny_model), **ask, resume=True) == read_run(tmp_path / "run")  # it is done, and stays so
    with pytest.raises(InputError, match="another spec"):
        post_train(str(tiny_model), **{**ask, "stop_when": "gain:0.01"}, resume=True)


GAIN_9 = "doubling the tokens buys less than 9 nats"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gian:0.1", "did you mean 'gain'"),
        ("budget:3", "unknown criterion 'budget'"),
        ("gain:much", "'much' is not a number"),
        ("gain:-1", "a minimum gain of -1"),
        ("slope", "needs max_slope"),
    ],
)
def test_stopping_rules_that_are_none(text, says):
    with pytest.raises(InputError, match=says):
        parse_stop(text)


def test_stopping_rules():
    assert parse_stop("gain") == Gain()
    assert parse_stop("gain:0.02") == Gain(min_gain=0.02)
    assert parse_stop("target:2.5") == Target(loss=2.5)
    assert parse_stop("recovery:0.8") == Recovery(share=0.8)


def test_bad_input_is_one_line(make_trainer, law):
    def refuse(says, *args, **kwargs):
        with pytest.raises(InputError, match=says) as caught:
            RecoveryForecast(*args, **kwargs)
        assert "\n" not in str(caught.value)

    refuse("no params_before, loss_before", law, pruning_rate=0.2)
    refuse("pruning_rate 2", law, params_before=1e6, pruning_rate=2, loss_before=3)
    refuse("nowhere.json", "nowhere.json")
    refuse("a budget is spent", criterion=Budget(gpu_hours=1))
    refuse("a confidence of 2", confidence=2)
    refuse("tokens_per_step is 0", tokens_per_step=0)
    trainer = make_trainer(steps=1)
    RecoveryForecast(show=None).attach(trainer)
    with pytest.raises(InputError, match="the run's tokens are not counted"):
        trainer.train()


def test_the_example_of_the_docs_runs(tiny_model, text, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "forecast.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert len(example.strip().splitlines()) <= 12
    blocks = read_blocks(str(text), load_tokenizer(tiny_model), sequence_length=64)
    rows = [{"input_ids": row, "labels": row} for row in blocks.tokens[:100].tolist()]
    monkeypatch.chdir(tmp_path)
    exec(example, {"model": load_model(tiny_model), "train": rows[8:], "held_out": rows[:4]})
    assert "forecast at" in capsys.readouterr().out


def test_a_law_is_read_in_the_recipe_of_the_run(make_trainer):
    """A tenth of the rate of the law's runs and 64 times their batch: 10 * 64^0.6 the tokens, counted once."""
    law = regrow.select_law(regrow.load_laws("reference"), method="depth")
    known = {"params_before": 1e6, "pruning_rate": 0.25, "loss_before": 3.2}
    forecaster = RecoveryForecast(law, **known, tokens_per_step=64 * 1024, show=None)
    for again in (False, True):
        notes = forecaster.in_recipe_of(3e-5, 64 * 1024)
        assert [note.startswith("forecast: the recipe takes 121 times") for note in notes] == ([] if again else [True])
        assert forecaster.law.ranges["tokens"][1] == pytest.approx(10 * 64**0.6 * law.ranges["tokens"][1])
    # of a law that does not say its runs' recipe, or has no place for one, the tokens are as they are
    unsaid = replace(law, params={**law.params, "usual_rate": 0.0, "usual_batch": 0.0})
    assert RecoveryForecast(unsaid, **known).in_recipe_of(3e-5, 1024) == []
    assert RecoveryForecast().in_recipe_of(3e-5, 1024) == []
    # the Trainer's own arguments say it
    watched = RecoveryForecast(law, **known, tokens_per_step=PER_STEP, show=None)
    make_trainer(steps=4, callbacks=[watched]).train()
    assert watched.law.params["usual_rate"] == 3e-3
    assert watched.law.params["usual_batch"] == PER_STEP
