"""Rows of several runs never become one curve: they are refused, chosen from, or split."""

from __future__ import annotations

import pandas as pd
import pytest

from regrow import InputError, import_log, import_manifest
from regrow.runs.importers import runs_in

from .import_samples import notes, points, spec, write

STACKED = "size,seen_tokens,eval_loss\n70M,10,3.4\n70M,30,3.3\n160M,20,3.1\n160M,40,3.0\n"


def test_a_count_that_falls_where_a_name_changes_is_another_run(tmp_path):
    log = write(tmp_path, "t.csv", STACKED)
    with pytest.raises(InputError, match=r"2 runs in one table: 'size' is 70M, 160M; --where 'size=70M' takes one"):
        import_log(log, spec(tokens_column="seen_tokens"))
    one = import_log(log, spec(tokens_column="seen_tokens", where=("size=160M",)))
    assert points(one) == [(20, 3.1), (40, 3.0)]
    assert "rows where size=160M" in notes(one)
    assert runs_in(log, "size", spec()) == ["70M", "160M"]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("run_name", "a", "b"),
        ("params", 1e8, 3e8),
        ("wandb_run_id", "x1", "x2"),
        ("seed", 0, 1),
        ("recipe", "warm", "cold"),
    ],
)
def test_columns_that_tell_runs_apart_whatever_their_order(column, first, second, tmp_path):
    rows = [(first, 10, 3.4), (second, 10, 3.1), (first, 20, 3.3), (second, 20, 3.0)]
    table = pd.DataFrame(rows, columns=[column, "step", "eval_loss"])
    for name, ordered in (("mixed", table), ("stacked", table.sort_values([column, "step"]))):
        ordered.to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(InputError, match=f"2 runs in one table: '{column}'"):
            import_log(tmp_path / f"{name}.csv", spec(tokens_per_step=100))
        chosen = spec(tokens_per_step=100, where=(f"{column}={second}",))
        assert points(import_log(tmp_path / f"{name}.csv", chosen)) == [(1000, 3.1), (2000, 3.0)]


def test_a_row_per_run_is_no_curve(tmp_path):
    log = write(tmp_path, "final.csv", "run,tokens,eval_loss\na,100,3.0\nb,200,2.9\nc,300,2.8\n")
    with pytest.raises(InputError, match="3 runs in one table: 'run' is a, b, c"):
        import_log(log, spec())


def test_a_table_of_runs_as_wandb_exports_it_and_one_of_checkpoints(tmp_path):
    runs = write(tmp_path, "runs.csv", "Name,tokens,eval_loss\nbrisk-sun-1,100,3.0\ncalm-sea-2,200,2.9\n")
    with pytest.raises(InputError, match="2 runs in one table: 'Name' is brisk-sun-1, calm-sea-2"):
        import_log(runs, spec())
    saved = write(tmp_path, "saved.csv", "id,name,tokens,eval_loss\n1,step-10,100,3.0\n2,step-20,200,2.9\n")
    assert points(import_log(saved, spec())) == [(100, 3.0), (200, 2.9)]


def test_a_resume_keeps_its_name_and_may_change_its_machine_and_its_rate(tmp_path):
    text = "run,host,lr,step,eval_loss\nr,node-1,1e-4,10,3.0\nr,node-1,1e-4,20,2.9\n"
    text += "r,node-7,5e-5,15,2.95\nr,node-7,5e-5,25,2.8\n"
    record = import_log(write(tmp_path, "t.csv", text), spec(tokens_per_step=10))
    assert points(record) == [(100, 3.0), (150, 2.95), (250, 2.8)]


def test_naming_both_values_says_that_they_are_one_run(tmp_path):
    log = write(tmp_path, "t.csv", "run_id,step,eval_loss\nx,10,3.0\nx,20,2.9\ny,15,2.95\ny,25,2.8\n")
    both = spec(tokens_per_step=10, where=("run_id=x", "run_id=y"))
    assert points(import_log(log, both)) == [(100, 3.0), (150, 2.95), (250, 2.8)]


def test_a_step_that_begins_again_with_each_epoch_is_no_resume(tmp_path):
    log = write(tmp_path, "t.csv", "epoch,step,eval_loss\n0,50,3.0\n0,100,2.9\n1,50,2.8\n1,100,2.7\n")
    with pytest.raises(InputError, match="counts within an epoch; --resets continue"):
        import_log(log, spec(tokens_per_step=10))
    added = import_log(log, spec(tokens_per_step=10, resets="continue"))
    assert points(added) == [(500, 3.0), (1000, 2.9), (1500, 2.8), (2000, 2.7)]


def test_a_column_of_sets_is_chosen_from_and_its_loss_is_held_out(tmp_path):
    log = write(tmp_path, "t.csv", "split,step,loss\ntrain,10,2.9\nval,10,3.0\ntrain,20,2.7\nval,20,2.8\n")
    with pytest.raises(InputError, match="--where 'split=val' takes the held-out rows"):
        import_log(log, spec(tokens_per_step=10))
    record = import_log(log, spec(tokens_per_step=10, where=("split=val",)))
    assert points(record) == [(100, 3.0), (200, 2.8)]
    assert record.spec["loss_is"] == "held-out"


def test_conditions_that_cannot_be(tmp_path):
    log = write(tmp_path, "t.csv", STACKED)
    for condition, says in (
        ("size=1B", "no row has size=1B; there are: 70M, 160M"),
        ("sise=70M", "unknown column 'sise'; did you mean 'size'"),
        ("size", "write COLUMN=VALUE"),
    ):
        with pytest.raises(InputError, match=says):
            import_log(log, spec(tokens_column="seen_tokens", where=(condition,)))


def test_a_manifest_gives_each_run_of_a_table_its_own_counts(tmp_path):
    write(tmp_path, "t.csv", STACKED)
    manifest = write(
        tmp_path,
        "m.csv",
        "path,where,run,family,method,params_before,params_after,loss_before,tokens_column\n"
        "t.csv,size=70M,small,f,depth,70M,50M,3.2,seen_tokens\nt.csv,size=160M,large,f,depth,160M,120M,2.9,seen_tokens\n",
    )
    small, large = import_manifest(manifest)
    assert (small.params_before, points(small)) == (70_000_000, [(10, 3.4), (30, 3.3)])
    assert (large.params_before, points(large)) == (160_000_000, [(20, 3.1), (40, 3.0)])


# tables with a row per value


def test_a_row_per_metric_becomes_a_row_per_step(tmp_path):
    text = "metric,step,value\nval_loss,10,2.9\nval_loss,20,2.8\ntrain_loss,10,3.1\ntrain_loss,20,3.0\n"
    record = import_log(write(tmp_path, "t.csv", text), spec(tokens_per_step=100))
    assert points(record) == [(1000, 2.9), (2000, 2.8)]
    assert "a row per value of 'metric' was turned into a row per step" in notes(record)


def test_a_row_per_metric_of_two_runs_is_refused(tmp_path):
    text = "run_id,key,value,timestamp,step\n" + "".join(
        f"{run},{key},{value},{time},{step}\n"
        for run in "ab"
        for key, value in (("eval_loss", 2.9), ("loss", 3.0))
        for time, step in ((1, 10), (2, 20))
    )
    with pytest.raises(InputError, match="2 runs in one table: 'run_id' is a, b"):
        import_log(write(tmp_path, "t.csv", text), spec(tokens_per_step=100))


def test_a_resumed_history_of_metrics_keeps_the_later_word(tmp_path):
    """Steps 20 and 30 were logged twice: before the crash, and after the resume at 10."""
    values = [(10, 3.0, 1), (20, 2.9, 2), (30, 2.8, 3), (20, 2.85, 4), (30, 2.75, 5)]
    text = "key,value,timestamp,step\n" + "".join(f"eval/loss,{v},{t},{s}\n" for s, v, t in values)
    record = import_log(write(tmp_path, "t.csv", text), spec(tokens_per_step=1))
    assert points(record) == [(10, 3.0), (20, 2.85), (30, 2.75)]
