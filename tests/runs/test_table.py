"""Tables are checked at the door: what they say is read, what they can't say is refused by name."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.errors import InputError
from regrow.runs import CurvePoint, RunRecord, from_table, to_table


def table(**changes: list) -> pd.DataFrame:
    rows = {
        "run": ["a", "a"],
        "family": ["llama", "llama"],
        "method": ["depth", "depth"],
        "params_before": [1000, 1000],
        "params_after": [750, 750],
        "tokens": [10, 20],
        "loss": [3.0, 2.5],
        "loss_before": [2.0, 2.0],
    }
    return pd.DataFrame({**rows, **changes})


def test_reads_rows_as_one_run_per_name():
    (run,) = from_table(table())
    assert run.run == "a"
    assert run.pruning_rate == pytest.approx(0.25)
    assert run.curve == (CurvePoint(tokens=10, loss=3.0), CurvePoint(tokens=20, loss=2.5))


def test_a_stated_rate_wins_over_the_counts():
    (run,) = from_table(table(pruning_rate=[0.5, 0.5]))
    assert run.pruning_rate == 0.5


def test_unsorted_tokens_are_sorted():
    (run,) = from_table(table(tokens=[20, 10]))
    assert [p.tokens for p in run.curve] == [10, 20]
    assert [p.loss for p in run.curve] == [2.5, 3.0]


def test_other_columns_are_kept_and_not_used():
    (run,) = from_table(table(cluster=["x", "x"]))
    assert run.details == {"cluster": "x"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"loss": [3.0, math.nan]}, "loss is nan in row 2"),
        ({"loss": [math.inf, 2.0]}, "loss is inf in row 1"),
        ({"loss": ["high", 2.0]}, "loss is high in row 1"),
        ({"loss": [3.0, 0.0]}, "loss is 0 in row 2"),
        ({"loss": [300.0, 2.0]}, "nats per token"),
        ({"loss_before": [2.0, 2.1]}, "loss_before changes within the run"),
        ({"params_after": [750, 700]}, "params_after changes within the run"),
        ({"params_after": [1750, 1750]}, "1750 parameters after pruning"),
        ({"tokens": [10, 10]}, "two checkpoints at 10 tokens"),
        ({"tokens": [-1, 10]}, "-1 tokens"),
        ({"run": ["a", None]}, "run is empty in row 2"),
        ({"pruning_rate": [1.2, 1.2]}, "pruning rate 1.2"),
        ({"pruning_rate": [0.2, 0.6]}, "pruning_rate changes within the run"),
        ({"loss_averaged": ["-", "2.9"]}, "loss_averaged is - in row 1"),
        ({"loss_cooled": [2.0, 300.0]}, "loss_cooled is 300 in row 2"),
        ({"seed": ["a", "a"]}, "the seed a is not a whole number"),
        ({"seed": [math.inf, math.inf]}, "the seed inf is not a whole number"),
    ],
)
def test_bad_values_are_named(changes, says):
    with pytest.raises(InputError, match=says):
        from_table(table(**changes))


def test_another_loss_may_be_missing():
    (run,) = from_table(table(loss_averaged=[None, "2.4"]))
    assert [p.loss_averaged for p in run.curve] == [None, 2.4]


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="the columns tokens, loss are missing"):
        from_table(table().drop(columns=["loss", "tokens"]))


def test_an_empty_table_is_refused():
    with pytest.raises(InputError, match="no rows"):
        from_table(table().iloc[:0])


@settings(deadline=None)
@given(
    losses=st.lists(st.floats(0.1, 20), min_size=1, max_size=6),
    before=st.integers(10, 10**12),
    share=st.floats(0.1, 1.0),
)
def test_a_run_survives_the_table(losses, before, share):
    after = max(1, int(before * share))
    run = RunRecord(
        run="r",
        family="f",
        method="width",
        params_before=before,
        params_after=after,
        pruning_rate=1 - after / before,
        loss_before=2.0,
        curve=tuple(CurvePoint(tokens=i * 7, loss=loss) for i, loss in enumerate(losses)),
        seed=3,
        objective="cross-entropy",
        schedule="constant",
        status="imported",
    )
    assert from_table(to_table([run])) == [run]


def test_a_checkpoints_other_losses_survive_the_table():
    curve = (
        CurvePoint(tokens=10, loss=3.0, loss_averaged=2.9),
        CurvePoint(tokens=20, loss=2.5, loss_averaged=2.4, loss_cooled=2.2),
    )
    (run,) = from_table(table())
    assert "loss_cooled" not in to_table([run]).columns
    assert from_table(to_table([replace(run, curve=curve)]))[0].curve == curve
