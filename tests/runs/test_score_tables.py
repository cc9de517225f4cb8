"""Tables of scores without losses: wide and long ones are read, and only where losses are not needed."""

from __future__ import annotations

import pandas as pd
import pytest

from regrow.errors import InputError
from regrow.runs import from_table, read_runs, to_table

COMMON = {"family": "f", "method": "depth", "params_before": 8e9, "params_after": 6e9}


def long_table(scale: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame(
        {"run": "r", **COMMON, "tokens": tokens, "score_name": name, "score": value * scale}
        for tokens, name, value in [
            (0, "mmlu", 0.3),
            (0, "gsm8k", 0.1),
            (10**9, "mmlu", 0.5),
            (2 * 10**9, "gsm8k", 0.4),
        ]
    )


def test_a_row_per_score_becomes_a_row_per_checkpoint() -> None:
    (run,) = from_table(long_table())
    assert [p.tokens for p in run.curve] == [0, 10**9, 2 * 10**9]
    assert [sorted(p.scores) for p in run.curve] == [["gsm8k", "mmlu"], ["mmlu"], ["gsm8k"]]
    assert run.curve[1].scores["mmlu"].value == 0.5
    assert run.loss_before is None
    assert run.curve[0].loss is None


def test_the_wide_table_of_such_runs_is_read_back() -> None:
    runs = from_table(long_table())
    assert from_table(to_table(runs)) == runs


def test_percentages_are_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"score:gsm8k is 10, which looks like a percentage; .*divide by 100"):
        from_table(long_table(100))


def test_losses_are_needed_unless_said_otherwise(tmp_path) -> None:
    path = tmp_path / "scores.csv"
    long_table().to_csv(path, index=False)
    with pytest.raises(InputError, match=r"run r: no losses are known; .*--score"):
        read_runs(path)
    assert len(read_runs(path, need_loss=False)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), "two scores of mmlu at 0 tokens"),
        (lambda t: t.assign(score_name=[None, *t.score_name[1:]]), "no score_name"),
        (lambda t: t.drop(columns="tokens"), "the column tokens is missing"),
        (lambda t: t.assign(loss=2.0), "losses are given and loss_before is empty"),
    ],
)
def test_long_tables_that_contradict_themselves(change, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_table(change(long_table()))


def test_a_checkpoint_without_any_reading_is_refused() -> None:
    table = to_table(from_table(long_table()))
    table.loc[1, "score:mmlu"] = float("nan")
    with pytest.raises(InputError, match="row 2, which has no score either"):
        from_table(table)
