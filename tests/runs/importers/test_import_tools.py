"""Each tool's sample is read as its README says that it was written; tokens and losses are known from there."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pandas as pd
import pytest

from regrow import InputError, import_log
from regrow.runs.importers.nanotron import _tokens_per_step

from .import_samples import FORMATS, notes, points, spec, write
from .test_import_rules import state


def near(*pairs):
    return [(tokens, pytest.approx(loss, abs=6e-4)) for tokens, loss in pairs]


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("megatron-bridge.log", {"sequence_length": 4096}, near((26_214_400, 3.05), (52_428_800, 2.95))),
        ("gpt-neox.log", {}, near((26_214_400, 2.9), (52_428_800, 2.8))),
        (
            "megatron-named-sets.log",
            {"loss_column": "lm loss validation-code", "loss_before": 1.8},
            near((50 * 32 * 4096, 1.87), (100 * 32 * 4096, 1.82)),
        ),
        ("torchtitan-pipeline.log", {}, near((2_621_440, 2.95), (5_242_880, 2.85))),
        ("olmo-core.log", {}, near((655_360, 3.1), (1_310_720, 3.0))),
        ("composer.txt", {}, near((512, 3.92), (1024, 3.84), (1536, 3.76))),
        ("llm.c.log", {}, near((0, 4.0), (131_072_000, 3.5), (262_144_000, 3.0))),
        ("llm.c_main.log", {"tokens_per_step": 524_288}, near((0, 4.0), (131_072_000, 3.5), (262_144_000, 3.0))),
        ("nanogpt.log", {}, near((0, 4.01), (491_520_000, 3.01), (983_040_000, 2.01))),
        ("modded-nanogpt.txt", {"tokens_per_step": 1000}, near((0, 10.8), (250_000, 4.15), (500_000, 3.9))),
        ("litgpt.log", {"tokens_per_step": 8192}, near((16_384, 4.02), (32_768, 3.935))),
        ("automodel", {}, near((8160, 3.82), (16_312, 3.62), (24_480, 3.42))),
        ("trackio.db", {}, near((0, 5.6659), (867, 3.7587), (1568, 3.1765), (2297, 3.0559))),
        ("run-small.swanlab", {}, near((40_960, 3.0), (81_920, 2.9), (122_880, 2.8))),
        ("comet_messages.json", {}, near((40_960, 3.0), (81_920, 2.9), (122_880, 2.8))),
        ("clearml_metrics.jsonl", {"tokens_per_step": 10}, near((100, 3.0), (200, 2.9), (300, 2.8))),
        ("aim.csv", {}, near((40_960, 3.0), (81_920, 2.9))),
        ("lightning", {"tokens_per_step": 10}, near((40, 3.0553), (80, 3.0290), (120, 3.0300))),
        (
            "mlflow.db",
            {"where": ("run_name=small",)},
            near((0, 5.6659), (867, 3.7587), (1568, 3.1765), (2297, 3.0559)),
        ),
    ],
)
def test_samples(name, more, expected):
    record = import_log(FORMATS / name, spec(**{"unit": "nats", "loss_before": 2.5, **more}))
    assert points(record)[: len(expected)] == expected
    assert len(points(record)) >= len(expected)


def test_trl_evaluates_at_its_own_count():
    rows = json.loads((FORMATS / "trl_trainer_state.json").read_text())["log_history"]
    record = import_log(FORMATS / "trl_trainer_state.json", spec(unit="nats"))
    assert points(record) == [(row["eval_num_tokens"], row["eval_loss"]) for row in rows if "eval_loss" in row]


def test_several_held_out_sets_of_megatron_are_chosen_from():
    with pytest.raises(InputError, match=r"several held-out losses: lm loss validation-web, lm loss validation-code;"):
        import_log(FORMATS / "megatron-named-sets.log", spec())


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_a_set_called_valid_is_the_held_out_one(name, tmp_path):
    text = " iteration        9/      10 | consumed samples:           90 | consumed tokens:  900 | lm loss: 2.5 |\n"
    log = write(
        tmp_path, "l", text + f"{name} loss at iteration 9 | lm loss value: 2.400000E+00 | lm loss PPL: 1.1E+01 |\n"
    )
    assert points(import_log(log, spec())) == [(900, 2.4)]


@pytest.mark.parametrize(
    "start",
    [
        "Training starts at step 1, with local batch size 2, global batch size 8, sequence length 512, total steps 9",
        "Trainer is initialized with local batch size 2, global batch size 8, gradient accumulation steps 1, "
        "sequence length 512, total steps 9 (warmup 2)",
        "Trainer is initialized with 1024 tokens per DP rank, 4096 tokens per train step, "
        "gradient accumulation steps 1, maximum context length 512, total steps 9 (warmup 2)",
    ],
)
def test_the_start_lines_of_torchtitan(start, tmp_path):
    step = "[titan] 2026 - root - INFO - validate step:  5  loss:  2.4000  memory: 1.00GiB(1.00%)  tps: 9"
    log = write(tmp_path, "t.log", f"[titan] 2026 - root - INFO - {start}\n{step}\n")
    assert points(import_log(log, spec())) == [(5 * 4096, 2.4)]


def test_a_pipeline_rank_without_a_loss_is_told_so(tmp_path):
    lines = [line for line in (FORMATS / "torchtitan-pipeline.log").read_text().splitlines() if "[rank0]" in line]
    with pytest.raises(InputError, match="give the log of the last stage's rank"):
        import_log(write(tmp_path, "t.log", "\n".join(lines)), spec())


@pytest.mark.parametrize(
    "name", ["megatron.log", "litgpt.log", "nanogpt.log", "torchtitan.log", "nemo.log", "composer.txt"]
)
def test_a_console_log_is_known_wherever_its_first_telling_line_stands(name, tmp_path):
    from regrow.runs.importers.registry import find_format

    messages = "".join(f"rank {n}: loading extension, this may take a while\n" for n in range(6000))
    late = write(tmp_path, "job.out", messages + (FORMATS / name).read_text())
    assert len(messages) > 2**18
    assert find_format(late, None).name == find_format(FORMATS / name, None).name


def test_mlflow_stores_a_nan_as_zero_and_it_is_no_loss(tmp_path):
    shutil.copy(FORMATS / "mlflow.db", tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        (run,) = store.execute("SELECT run_uuid FROM runs WHERE name = 'small'").fetchone()
        store.execute("INSERT INTO metrics VALUES ('eval_loss', 0, 9999999999999, ?, 16, 1)", (run,))
    record = import_log(tmp_path / "mlflow.db", spec(unit="nats", where=(f"run_id={run}",)))
    assert points(record)[-1] == (2297, pytest.approx(3.0559, abs=1e-4))
    assert "left out: 1 evaluation not finite" in notes(record)


def test_mlflows_folders(tmp_path):
    for run, shift in (("a1", 0.0), ("b2", 0.1)):
        metrics = tmp_path / "mlruns" / "7" / run / "metrics"
        (metrics / "eval").mkdir(parents=True)
        (metrics.parent / "meta.yaml").write_text("run_id: x\n")
        (metrics / "eval" / "loss").write_text(f"1000 {2.9 + shift} 10\n2000 {2.8 + shift} 20\n")
        (metrics / "num_tokens").write_text("999 5000 10\n1999 9000 20\n")
    with pytest.raises(InputError, match="2 runs in one table: 'run_id' is a1, b2"):
        import_log(tmp_path / "mlruns", spec())
    for log, where in ((tmp_path / "mlruns", ("run_id=b2",)), (tmp_path / "mlruns" / "7" / "b2", ())):
        assert points(import_log(log, spec(where=where))) == near((5000, 3.0), (9000, 2.9))


def test_trackios_step_is_taken_only_where_somebody_gave_it(tmp_path):
    rows = [
        {"id": n, "run_id": "x", "run_name": "r", "timestamp": "t", "step": s, "eval/loss": 2.9 - n / 10}
        for n, s in enumerate((100, 200, 300))
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "given.parquet")
    assert points(import_log(tmp_path / "given.parquet", spec(tokens_per_step=10)))[0] == (1000, 2.9)
    pd.DataFrame([{**row, "step": n} for n, row in enumerate(rows)]).to_csv(tmp_path / "calls.csv", index=False)
    with pytest.raises(InputError, match="'step' counts log calls"):
        import_log(tmp_path / "calls.csv", spec(tokens_per_step=10))


def test_clearmls_scalars_as_json(tmp_path):
    scalars = {
        "eval": {"loss": {"name": "loss", "x": [10, 20], "y": [2.9, 2.8]}},
        "train": {"loss": {"x": [5], "y": [3.0]}},
    }
    log = write(tmp_path, "scalars.json", json.dumps(scalars))
    assert points(import_log(log, spec(tokens_per_step=10))) == [(100, 2.9), (200, 2.8)]


def test_comets_metrics_from_its_api(tmp_path):
    rows = [
        {"metricName": name, "metricValue": str(value), "step": step, "timestamp": step, "epoch": None}
        for step in (10, 20)
        for name, value in (("eval/loss", 3 - step / 100), ("train/num_tokens", step * 4096))
    ]
    as_json = write(tmp_path, "metrics.json", json.dumps(rows))
    pd.DataFrame(rows).to_csv(tmp_path / "metrics.csv", index=False)
    for log in (as_json, tmp_path / "metrics.csv"):
        assert points(import_log(log, spec())) == near((40_960, 2.9), (81_920, 2.8))


@pytest.mark.parametrize("per_step", [262_144, 4_194_304, 491_520, 1000])
def test_nanotrons_rounded_counts_tell_the_tokens_of_a_step(per_step):
    def printed(count):
        return float(f"{count:.3g}")

    steps = [1, 7, 100, 1333, 20_000]
    assert _tokens_per_step([(n, printed(n * per_step)) for n in steps]) == per_step
    assert _tokens_per_step([(1, 1000.0), (2, 5000.0)]) is None


def test_nanotron_has_a_training_loss_only():
    with pytest.raises(InputError, match="no held-out loss"):
        import_log(FORMATS / "nanotron.log", spec())
    with pytest.warns(UserWarning, match="training loss"):
        record = import_log(FORMATS / "nanotron.log", spec(train_loss=True))
    assert points(record)[-1] == (262_144_000, pytest.approx(3.1))


@pytest.mark.parametrize("before", [True, False])
def test_olmo_cores_evaluation_stands_before_or_after_its_marker(before, tmp_path):
    lines = []
    for n in range(1, 13):
        evaluation = f"Finished lm evals in 1.0 seconds. Metrics:\n    v/CE loss={3 - n / 100}\n" if n % 4 == 0 else ""
        marker = f"[step={n}/12,epoch=1]\n    throughput/total tokens={n * 1000:,}\n"
        lines += [evaluation, marker] if before else [marker, evaluation]
    record = import_log(write(tmp_path, "o.log", "".join(lines)), spec())
    assert points(record) == near((4000, 2.96), (8000, 2.92), (12_000, 2.88))


def test_a_folder_of_runs_is_refused_with_their_names(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        state(tmp_path / run, [{"step": 1, "eval_loss": 2.9}])
    with pytest.raises(InputError, match="no log in this folder, but in 2 below: a, b; name each"):
        import_log(tmp_path, spec())


def test_checkpoints_of_two_runs_in_one_folder_are_refused(tmp_path):
    for step, losses in ((10, (2.9,)), (20, (2.95, 2.8))):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state(tmp_path / f"checkpoint-{step}", [{"step": 10 * (n + 1), "eval_loss": v} for n, v in enumerate(losses)])
    with pytest.raises(InputError, match="checkpoint-10 and checkpoint-20 tell different histories"):
        import_log(tmp_path, spec(tokens_per_step=1))


def test_two_versions_of_lightnings_logger_are_two_logs(tmp_path):
    for version in ("version_0", "version_1"):
        shutil.copytree(FORMATS / "lightning", tmp_path / version)
    with pytest.raises(InputError, match=r"2 logs here \(version_0/metrics.csv, version_1/metrics.csv\)"):
        import_log(tmp_path, spec(tokens_per_step=1))


def test_a_tensorboard_tag_called_step_and_two_writers_at_once(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def log(folder, offset):
        writer = EventFileWriter(str(folder), filename_suffix=f".{offset}")
        for batch in (8, 16, 24):
            for tag, value in (
                ("step", batch // 4),
                ("total_tokens", batch * 100),
                ("val_loss", 3 - batch / 100 + offset),
            ):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(wall_time=1e9 + batch + offset, step=batch - 1, summary=summary))
        writer.close()

    log(tmp_path / "one", 0)
    assert points(import_log(tmp_path / "one", spec())) == near((800, 2.92), (1600, 2.84), (2400, 2.76))
    log(tmp_path / "two", 0)
    log(tmp_path / "two", 1)
    with pytest.raises(InputError, match=r"two event files log .* at the same time: they are of several runs"):
        import_log(tmp_path / "two", spec())


def test_tokens_in_the_place_of_tensorboards_steps(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "events"))
    name = "lm-loss-validation/lm loss validation"
    for iteration, tokens in ((10, 640), (20, 6400)):
        for tag, step in ((name, iteration), (f"{name} vs samples", iteration * 8), (f"{name} vs tokens", tokens)):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=2.9)])
            writer.add_event(Event(wall_time=1e9 + iteration, step=step, summary=summary))
    writer.close()
    assert points(import_log(tmp_path / "events", spec(sequence_length=2048))) == near((640, 2.9), (6400, 2.9))
