"""What a counter counts, looked at in every row: the log's own tokens first, steps as the tool counts them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from regrow import InputError, import_log
from regrow.laws.controls import recipe_of

from .import_samples import notes, points, spec, write
from .test_import_rules import state


@pytest.mark.parametrize(
    "name",
    [
        "tokens/total",
        "train/tokens/total",
        "throughput/total tokens",
        "time/token",
        "consumed tokens",
        "total_train_tokens",
    ],
)
def test_the_names_that_tools_give_their_token_count(name, tmp_path):
    rows = [{"step": 10, name: 5000, "eval_loss": 2.9}, {"step": 20, name: 9000, "eval_loss": 2.8}]
    assert points(import_log(state(tmp_path, rows), spec(tokens_per_step=7))) == [(5000, 2.9), (9000, 2.8)]


def test_the_tokens_of_a_batch_are_kept_as_the_log_or_the_user_says(tmp_path):
    """With the rates that a log shows, they are the recipe, which a law reads."""
    rows = [{"step": s, "num_input_tokens_seen": 512 * s, "learning_rate": 2e-4, "loss": 3.0} for s in (5, 10, 20)]
    rows += [{"step": s, "num_input_tokens_seen": 512 * s, "eval_loss": 3 - s / 100} for s in (10, 20)]
    record = import_log(state(tmp_path, sorted(rows, key=lambda r: r["step"])), spec())
    assert record.details["batch_tokens"] == 512
    assert recipe_of(record).batch_tokens == 512
    steps = [{"step": s, "eval_loss": 3 - s / 100} for s in (10, 20)]
    assert import_log(state(tmp_path, steps), spec(tokens_per_step=700)).details["batch_tokens"] == 700
    uneven = [{"step": s, "num_input_tokens_seen": 100 * s * s, "eval_loss": 3 - s / 100} for s in (10, 20)]
    assert "batch_tokens" not in import_log(state(tmp_path, uneven), spec()).details


def test_the_count_in_the_losss_own_row_goes_before_one_elsewhere(tmp_path):
    """TRL logs `num_tokens` in training rows and `eval_num_tokens` in those of an evaluation: one count."""
    rows = [
        {"step": 10, "loss": 3.0, "num_tokens": 1000},
        {"step": 14, "eval_loss": 2.9, "eval_num_tokens": 1700},
        {"step": 20, "loss": 2.9, "num_tokens": 2000},
        {"step": 27, "eval_loss": 2.8, "eval_num_tokens": 3100},
    ]
    record = import_log(state(tmp_path, rows), spec())
    assert points(record) == [(1700, 2.9), (3100, 2.8)]
    assert "read between" not in notes(record)


def test_the_size_of_the_held_out_set_is_no_count(tmp_path):
    rows = [
        {"step": 10, "num_tokens": 9000, "loss": 3.0},
        {"step": 10, "eval_loss": 2.9, "eval_num_tokens": 512},
        {"step": 20, "num_tokens": 18000, "loss": 3.0},
        {"step": 20, "eval_loss": 2.8, "eval_num_tokens": 512},
    ]
    assert points(import_log(state(tmp_path, rows), spec())) == [(9000, 2.9), (18000, 2.8)]


def test_a_count_that_falls_between_two_evaluations_is_seen(tmp_path):
    """Resumed at step 30, where the count began at 0: no evaluation stands at the fall."""
    rows = [{"step": step, "loss": 3.0, "num_tokens": 100 * step} for step in (10, 20, 30)]
    rows += [{"step": step, "loss": 3.0, "num_tokens": 100 * (step - 30)} for step in (40, 50, 60, 70, 80)]
    rows[1:1] = [{"step": 10, "eval_loss": 2.9}]
    rows += [{"step": 80, "eval_loss": 2.7}]
    log = state(tmp_path, rows)
    with pytest.raises(InputError, match="tokens fall from 3000 to 1000 on the way, between steps 30 and 40"):
        import_log(log, spec())
    continued = import_log(log, spec(resets="continue"))
    assert points(continued) == [(1000, 2.9), (8000, 2.7)]
    assert "'num_tokens' begins again 1 time" in notes(continued)


def test_a_loss_just_after_the_last_count_goes_on_at_its_pace(tmp_path):
    rows = [{"step": s, "loss": 3.0, "num_tokens": 100 * s} for s in (10, 20)] + [{"step": 26, "eval_loss": 2.8}]
    record = import_log(state(tmp_path, rows), spec())
    assert points(record) == [(2600, 2.8)]
    assert "after the last count" in notes(record)


def test_where_step_stands_beside_global_step_it_counts_something_else(tmp_path):
    rows = pd.DataFrame({"step": [3, 7, 11], "train/global_step": [100, 200, 300], "eval/loss": [2.9, 2.8, 2.7]})
    rows.to_parquet(tmp_path / "metrics.parquet")
    record = import_log(tmp_path / "metrics.parquet", spec(tokens_per_step=10))
    assert points(record) == [(1000, 2.9), (2000, 2.8), (3000, 2.7)]


def test_a_charts_step_counts_log_calls_with_and_without_its_ranges(tmp_path):
    for head, row in (
        ("Step,a - eval/loss,a - eval/loss__MIN", "10,2.9,2.9"),
        ("Step,a - _step,a - eval/loss", "10,10,2.9"),
    ):
        log = write(tmp_path, "chart.csv", f"{head}\n{row}\n")
        with pytest.raises(InputError, match="'Step' counts log calls, not optimizer steps"):
            import_log(log, spec(tokens_per_step=1000))
        assert points(import_log(log, spec(tokens_per_step=1000, step_column="Step"))) == [(10_000, 2.9)]


# what a step counts


def test_lightning_counts_steps_from_zero(tmp_path):
    metrics = "epoch,step,train_loss,val_loss\n0,9,3.0,\n0,9,,2.9\n1,19,2.9,\n1,19,,2.8\n"
    record = import_log(write(tmp_path, "metrics.csv", metrics), spec(tokens_per_step=100))
    assert points(record) == [(1000, 2.9), (2000, 2.8)]
    assert "PyTorch Lightning logs 'step' from 0" in notes(record)
    renamed = write(tmp_path, "r.csv", metrics + "2,29,2.8,\n2,29,,2.7\n")
    assert points(import_log(renamed, spec(tokens_per_step=100)))[-1] == (3000, 2.7)
    as_logged = import_log(renamed, spec(tokens_per_step=100, step_offset=0))
    assert points(as_logged)[0] == (900, 2.9)
    wandb = write(tmp_path, "h.csv", "_step,trainer/global_step,val_loss\n0,49,2.9\n1,99,2.8\n")
    assert points(import_log(wandb, spec(tokens_per_step=1))) == [(50, 2.9), (100, 2.8)]


def test_steps_of_a_table_that_is_not_lightnings_stay_as_they_are(tmp_path):
    log = write(tmp_path, "t.csv", "epoch,step,eval_loss\n0.1,1,3.0\n0.6,11,2.9\n1.1,21,2.8\n")
    assert points(import_log(log, spec(tokens_per_step=1))) == [(1, 3.0), (11, 2.9), (21, 2.8)]


# what is no value


@pytest.mark.parametrize("nothing", ["-1", "0", "-0.0", "-1.0000"])
def test_placeholders_of_ranks_without_a_loss(nothing, tmp_path):
    log = write(tmp_path, "t.csv", f"step,eval_loss\n10,{nothing}\n10,2.9\n20,{nothing}\n20,2.8\n")
    record = import_log(log, spec(tokens_per_step=1))
    assert points(record) == [(10, 2.9), (20, 2.8)]
    assert "left out: 2 placeholders" in notes(record)
    alone = write(tmp_path, "a.csv", f"step,eval_loss\n10,{nothing}\n20,{nothing}\n")
    with pytest.raises(InputError, match="in every row: a placeholder for no loss; a rank of a pipeline"):
        import_log(alone, spec(tokens_per_step=1))


@pytest.mark.parametrize("nothing", ["", "None", "null", "N/A", "-", "--"])
def test_words_for_nothing_are_no_values(nothing, tmp_path):
    log = write(tmp_path, "t.csv", f"step,tokens,eval_loss\n10,100,2.9\n15,{nothing},{nothing}\n20,200,2.8\n")
    assert points(import_log(log, spec())) == [(100, 2.9), (200, 2.8)]


# units


def test_only_a_losss_own_perplexity_proves_its_unit(tmp_path):
    """news: 2.0 and its perplexity; code: 2.885 = 2.0 / ln 2, with a perplexity of its own that says nats."""
    frame = {"tokens": [10, 20], "eval/news/loss": [2.0, 1.9], "eval/news/ppl": [math.exp(2.0), math.exp(1.9)]}
    code = {"eval/code/loss": [2.0 / math.log(2), 1.9 / math.log(2)]}
    own = {"eval/code/ppl": [math.exp(2.0 / math.log(2)), math.exp(1.9 / math.log(2))]}
    ask = {"loss_column": "eval/code/loss", "loss_before": 2.6}
    for columns in ({**frame, **code, **own}, {**own, **code, **frame}, {**frame, **code}):
        pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
        assert points(import_log(tmp_path / "t.csv", spec(**ask)))[0] == (10, pytest.approx(2.0 / math.log(2)))


@pytest.mark.parametrize("batches", [2, 4, 16])
def test_a_training_loss_summed_over_batches_is_known_by_the_held_out_one(batches, tmp_path):
    rows = []
    for step in (10, 20, 30):
        rows.append({"step": step, "loss": batches * (2.7 - step / 100)})
        rows.append({"step": step, "eval_loss": 2.72 - step / 100})
    log = state(tmp_path, rows)
    with pytest.raises(InputError, match=f"as a sum over {batches} accumulated batches is"):
        import_log(log, spec(train_loss=True, tokens_per_step=1))
    with pytest.warns(UserWarning, match="training loss"):
        divided = import_log(log, spec(train_loss=True, tokens_per_step=1, accumulation_steps=batches))
    assert points(divided)[0] == (10, pytest.approx(2.6))
    assert points(import_log(log, spec(tokens_per_step=1)))[0] == (10, pytest.approx(2.62))
    with pytest.raises(InputError, match="'eval_loss' is no training loss"):
        import_log(log, spec(tokens_per_step=1, accumulation_steps=batches))


def test_a_loss_far_above_the_one_before_pruning_is_doubted_whatever_explains_it(tmp_path):
    with pytest.raises(InputError, match=r"12 at best, 9\.2 times --loss-before, and not near it as a perplexity"):
        import_log(state(tmp_path, [{"step": 1, "eval_loss": 12.0}]), spec(tokens_per_step=1, loss_before=1.3))


def test_a_stated_unit_that_the_losss_own_perplexity_disproves_is_refused(tmp_path):
    rows = [{"step": s, "eval_loss": v, "eval_ppl": math.exp(v)} for s, v in ((10, 2.86), (20, 2.82))]
    log = state(tmp_path, rows)
    with pytest.raises(InputError, match="'eval_loss' is in nats: so says the perplexity"):
        import_log(log, spec(tokens_per_step=1, unit="bits"))
    assert points(import_log(log, spec(tokens_per_step=1, unit="nats"))) == [(10, 2.86), (20, 2.82)]
