"""The rules on losses, tokens, units and counters that go back, on logs whose right answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from regrow import InputError, import_log, import_manifest
from regrow.runs.importers.registry import find_format

from .import_samples import notes, points, spec, write


def state(folder: Path, rows: list[dict[str, Any]], name: str = "trainer_state.json") -> Path:
    return write(folder, name, json.dumps({"log_history": rows}))


def evaluated(*pairs: tuple[int, float], **more: Any) -> list[dict[str, Any]]:
    return [{"step": step, "eval_loss": loss, **more} for step, loss in pairs]


# tokens


def test_the_logs_own_count_goes_before_steps_times_tokens_per_step(tmp_path):
    log = state(tmp_path, [{"step": 10, "eval_loss": 2.5, "num_input_tokens_seen": 777}])
    record = import_log(log, spec(tokens_per_step=1000))
    assert points(record) == [(777, 2.5)]
    assert "--tokens-per-step is not used" in notes(record)


def test_zeros_of_a_trainer_that_was_not_asked_to_count_are_no_count(tmp_path):
    log = state(tmp_path, [{"step": 10, "eval_loss": 2.5, "num_input_tokens_seen": 0}])
    assert points(import_log(log, spec(tokens_per_step=1000))) == [(10_000, 2.5)]


def test_a_count_in_other_rows_is_read_between_them_by_step(tmp_path):
    rows = [
        {"step": 10, "num_input_tokens_seen": 1000},
        {"step": 15, "eval_loss": 2.6},
        {"step": 20, "num_input_tokens_seen": 3000},
        {"step": 20, "eval_loss": 2.5},
    ]
    record = import_log(state(tmp_path, rows), spec())
    assert points(record) == [(2000, 2.6), (3000, 2.5)]
    assert "the tokens of 1 evaluation read between the counts" in notes(record)
    with pytest.raises(InputError, match="a loss at step 30, after the last token count at step 20"):
        import_log(state(tmp_path, [*rows, {"step": 30, "eval_loss": 2.4}]), spec())


def test_a_speed_is_never_taken_for_tokens(tmp_path):
    log = write(tmp_path, "log.csv", "tokens_per_second,runtime,eval_loss\n1000,50,2.5\n")
    with pytest.raises(InputError, match="does not say how many tokens"):
        import_log(log, spec())


def test_tokens_that_cannot_be(tmp_path):
    negative = write(tmp_path, "negative.csv", "tokens,eval_loss\n-5,2.5\n10,2.4\n")
    with pytest.raises(InputError, match="'tokens' is negative"):
        import_log(negative, spec())
    falling = write(tmp_path, "falling.csv", "step,tokens,eval_loss\n1,50,2.5\n2,40,2.4\n")
    with pytest.raises(InputError, match="tokens fall from 50 to 40"):
        import_log(falling, spec())


def test_a_count_per_batch_is_no_count(tmp_path):
    log = write(tmp_path, "log.csv", "step,tokens,eval_loss\n1,512,2.5\n2,512,2.4\n")
    with pytest.raises(InputError, match="'tokens' stays at 512 while the step goes from 1 to 2; a count per batch"):
        import_log(log, spec())


# counters that go back


def test_a_resumed_run_replaces_what_was_logged_beyond_its_checkpoint(tmp_path):
    rows = [*evaluated((100, 3.0), (200, 2.9), (300, 2.8)), {"step": 210, "loss": 2.9}, *evaluated((300, 2.7))]
    record = import_log(state(tmp_path, rows), spec(tokens_per_step=10))
    assert points(record) == [(1000, 3.0), (2000, 2.9), (3000, 2.7)]
    assert "the counter goes back 1 time; left out: 1 evaluation of what was trained again" in notes(record)


def test_parts_that_count_from_their_own_start_are_added_up_when_told(tmp_path):
    first = state(tmp_path, evaluated((100, 3.0), (200, 2.9)), "a.json")
    second = state(tmp_path, evaluated((0, 2.9), (100, 2.8)), "b.json")
    added = import_log([first, second], spec(tokens_per_step=10, resets="continue"))
    assert points(added) == [(1000, 3.0), (2000, 2.9), (3000, 2.8)]
    restarted = import_log([first, second], spec(tokens_per_step=10))
    assert points(restarted) == [(0, 2.9), (1000, 2.8)]
    assert "left out: 2 evaluations of what was trained again (where each part counts" in notes(restarted)


def test_token_counts_that_restart_while_steps_go_on(tmp_path):
    rows = [
        {"step": step, "eval_loss": loss, "num_input_tokens_seen": tokens}
        for step, tokens, loss in ((1, 100, 3.0), (2, 200, 2.9), (3, 100, 2.8))
    ]
    log = state(tmp_path, rows)
    with pytest.raises(
        InputError, match=r"tokens fall from 200 to 100 on the way, between steps 2 and 3: .*--resets continue"
    ):
        import_log(log, spec())
    assert points(import_log(log, spec(resets="continue"))) == [(100, 3.0), (200, 2.9), (300, 2.8)]


def test_merged_parts_in_their_order(tmp_path):
    first = state(tmp_path, evaluated((100, 3.0), (200, 2.9)), "a.json")
    second = write(tmp_path, "b.csv", "step,eval_loss\n200,2.95\n300,2.8\n")
    record = import_log([first, second], spec(tokens_per_step=10))
    # the parts meet at 200: the second was read there, so the first one's word is the older
    assert points(record) == [(1000, 3.0), (2000, 2.95), (3000, 2.8)]
    assert record.spec["format"] == ["trainer-state", "csv"]
    assert "left out: 1 evaluation at the same tokens as a later one" in notes(record)


# values


@pytest.mark.parametrize("nothing", ["NaN", '"nan"', "Infinity"])
def test_losses_that_are_not_finite_are_left_out_and_said(nothing, tmp_path):
    log = write(
        tmp_path,
        "s.json",
        f'{{"log_history": [{{"step": 1, "eval_loss": {nothing}}}, {{"step": 2, "eval_loss": 2.5}}]}}',
    )
    record = import_log(log, spec(tokens_per_step=10))
    assert points(record) == [(20, 2.5)]
    assert "left out: 1 evaluation not finite" in notes(record)


def test_nan_in_a_csv_is_no_number_and_an_empty_cell_no_evaluation(tmp_path):
    log = write(tmp_path, "log.csv", "step,eval_loss\n1,nan\n2,\n3,2.5\n")
    record = import_log(log, spec(tokens_per_step=10))
    assert points(record) == [(30, 2.5)]
    assert "left out: 1 evaluation not finite" in notes(record)
    with pytest.raises(InputError, match="holds no finite number"):
        import_log(write(tmp_path, "nan.csv", "step,eval_loss\n1,nan\n"), spec(tokens_per_step=10))
    with pytest.raises(InputError, match="'eval_loss' holds 'low', not a number"):
        import_log(write(tmp_path, "words.csv", "step,eval_loss\n1,low\n"), spec(tokens_per_step=10))


def test_a_training_loss_marks_the_record_and_warns(tmp_path):
    log = state(tmp_path, [{"step": 1, "loss": 2.5}])
    for asked in (spec(tokens_per_step=10, train_loss=True), spec(tokens_per_step=10, loss_column="loss")):
        with pytest.warns(UserWarning, match="'loss' is a training loss"):
            record = import_log(log, asked)
        assert record.spec["loss_is"] == "train"
    assert import_log(state(tmp_path, evaluated((1, 2.5))), spec(tokens_per_step=10)).spec["loss_is"] == "held-out"


def test_several_held_out_sets_are_not_chosen_between(tmp_path):
    rows = [{"step": 1, "eval_wiki_loss": 2.5, "eval_code_loss": 1.5}]
    with pytest.raises(InputError, match="several held-out losses: eval_wiki_loss, eval_code_loss"):
        import_log(state(tmp_path, rows), spec(tokens_per_step=10))
    one = import_log(state(tmp_path, rows), spec(tokens_per_step=10, loss_column="eval_wiki_loss"))
    assert points(one) == [(10, 2.5)]
    alone = import_log(state(tmp_path, [{"step": 1, "eval_wiki_loss": 2.5}]), spec(tokens_per_step=10))
    assert points(alone) == [(10, 2.5)]


# units


@pytest.mark.parametrize(
    ("unit", "logged", "more"),
    [
        ("nats", 2.5, {}),
        ("bits", 2.5 / math.log(2), {}),
        ("perplexity", math.exp(2.5), {}),
        ("bits-per-byte", 2.5 / math.log(2) / 4.2, {"bytes_per_token": 4.2}),
    ],
)
def test_stated_units_become_nats(unit, logged, more, tmp_path):
    record = import_log(state(tmp_path, evaluated((1, logged))), spec(tokens_per_step=10, unit=unit, **more))
    assert points(record) == [(10, pytest.approx(2.5, rel=1e-12))]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("eval_perplexity", "in perplexity by its name; --unit perplexity converts it"),
        ("val_bpb", "in bits-per-byte by its name"),
        ("eval_bits_per_token", "in bits by its name"),
    ],
)
def test_a_column_named_after_another_unit_is_refused(column, says, tmp_path):
    log = state(tmp_path, [{"step": 1, column: 2.5}])
    with pytest.raises(InputError, match=says):
        import_log(log, spec(tokens_per_step=10, loss_column=column))
    with pytest.raises(InputError, match=f"'{column}' is no loss, but --loss-column '{column}' --unit"):
        import_log(log, spec(tokens_per_step=10))


def test_a_perplexity_called_loss_is_doubted_by_the_loss_before_pruning(tmp_path):
    """9 and 8 may be nats, but with an unpruned model at 2.0 nats they are its perplexities."""
    log = state(tmp_path, evaluated((1, 9.0), (2, 8.0)))
    with pytest.raises(InputError, match=r"8 at best, 4\.0 times --loss-before; as a perplexity .* 2\.08 nats"):
        import_log(log, spec(tokens_per_step=10))
    assert points(import_log(log, spec(tokens_per_step=10, unit="nats")))[1] == (20, 8.0)
    converted = import_log(log, spec(tokens_per_step=10, unit="perplexity"))
    assert points(converted)[1] == (20, pytest.approx(math.log(8)))


def test_a_loss_far_below_the_one_before_pruning_is_doubted(tmp_path):
    log = state(tmp_path, evaluated((1, 0.7)))
    with pytest.raises(InputError, match=r"falls to 0.7, far below --loss-before 2;.*bits per byte"):
        import_log(log, spec(tokens_per_step=10))
    with pytest.raises(InputError, match=r"9.5 as a perplexity is 2.25 nats"):
        import_log(state(tmp_path, evaluated((1, 2.3))), spec(tokens_per_step=10, loss_before=9.5))


def test_a_perplexity_beside_the_loss_proves_its_base(tmp_path):
    """Eight nats and their perplexity are nats, however far from the loss before pruning."""
    nats = state(tmp_path, evaluated((1, 8.0), eval_ppl=math.exp(8)))
    assert points(import_log(nats, spec(tokens_per_step=10))) == [(10, 8.0)]
    bits = state(tmp_path, evaluated((1, 3.6), eval_ppl=2**3.6))
    with pytest.raises(InputError, match="is in bits: two to its power is the perplexity"):
        import_log(bits, spec(tokens_per_step=10))


@pytest.mark.parametrize(
    ("loss", "says"), [(290.0, "a sum over tokens"), (-0.5, "falls to -0.5"), (0.0, "a placeholder")]
)
def test_what_no_unit_allows(loss, says, tmp_path):
    with pytest.raises(InputError, match=says):
        import_log(state(tmp_path, evaluated((1, loss))), spec(tokens_per_step=10, unit="nats"))


# manifests

_HEADER = "path,run,family,method,params_before,params_after,loss_before,tokens_per_step"
_ABOUT = "f,depth,1.2B,.9B,2,1k"


def test_a_manifest_reads_many_runs_and_joins_the_parts_of_one(tmp_path):
    state(tmp_path, evaluated((1, 2.9), (2, 2.8)), "a.json")
    state(tmp_path, evaluated((2, 2.7), (3, 2.6)), "b.json")
    rows = ["a.json,one,f,depth,1.2B,0.9B,2,1k", "b.json,one,f,depth,1.2B,0.9B,2,1k", "a.json,two,f,none,2B,2B,1.9,1k"]
    one, two = import_manifest(write(tmp_path, "m.csv", "\n".join([_HEADER, *rows]) + "\n"))
    assert points(one) == [(1000, 2.9), (2000, 2.7), (3000, 2.6)]
    assert (two.run, two.is_control, two.params_before) == ("two", True, 2_000_000_000)


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        (
            _HEADER + ",unit",
            ["a.json,x,f,depth,1.2B,.9B,2,1k,nats", "a.json,y,f,depth,1.2B,.9B,2,1k,bits"],
            "mixed units",
        ),
        (_HEADER + ",units", ["a.json,x,f,depth,1.2B,.9B,2,1k,nats"], "unknown column 'units'; .*did you mean 'unit'"),
        ("path,run,family,method", ["a.json,x,f,depth"], "missing: params_before, params_after"),
        (_HEADER, ["a.json,x,f,depth,1.2B,,2,1k"], "row 1 leaves params_after empty"),
        (_HEADER, ["a.json,x,f,depth,big,.9B,2,1k"], "params_before: 'big' is not a positive number"),
        (
            _HEADER,
            ["a.json,x,f,depth,1.2B,.9B,2,1k", "a.json,x,f,width,1.2B,.9B,2,1k"],
            "rows 1 and 2 .* differ in method",
        ),
        (_HEADER, ["a.json,x,f,depth,1.2B,.9B,2,1k", "no.json,y,f,depth,1.2B,.9B,2,1k"], "row 2 .*no such file"),
    ],
)
def test_manifests_that_cannot_be(header, rows, says, tmp_path):
    state(tmp_path, evaluated((1, 2.9)), "a.json")
    with pytest.raises(InputError, match=says):
        import_manifest(write(tmp_path, "m.csv", "\n".join([header, *rows]) + "\n"))


def test_control_characters_in_a_manifest_are_refused(tmp_path):
    head = "path,run,family,method,params_before,params_after,loss_before,tokens_per_step\n"
    (tmp_path / "m.csv").write_text(f"{head}\x00log.csv,r,f,depth,100,80,2.0,1000\n")
    with pytest.raises(InputError, match=r"row 1: path is '\\x00log.csv'; give text without control characters"):
        import_manifest(tmp_path / "m.csv")
    with pytest.raises(InputError, match="can't be read"):
        find_format(tmp_path / "a\x00b", None)
