"""Each format is read from a log that the real tool wrote."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib

import pandas as pd
import pytest

from regrow import InputError, import_log
from regrow.runs.importers import FORMATS as NAMES
from regrow.runs.importers.leveldb import read_log
from regrow.runs.importers.registry import find_format

from .import_samples import BIGSCIENCE, BLOOM_GERMAN, FORMATS, SEQ_LENGTH, TRACKED, notes, points, spec, write

#: The loss of the tracked run's model before pruning, in examples/logs/manifest.csv.
BEFORE = {"loss_before": 3.88}


@pytest.fixture(scope="module")
def curve() -> list[tuple[int, float]]:
    """The tracked run's held-out losses, read off its trainer_state.json by hand."""
    rows = json.loads(TRACKED.read_text())["log_history"]
    return [(row["num_input_tokens_seen"], row["eval_loss"]) for row in rows if "eval_loss" in row]


def test_a_trainer_state(curve):
    record = import_log(TRACKED, spec(**BEFORE))
    assert points(record) == curve
    assert len(curve) == 13
    assert curve[0][0] == 0
    assert curve[-1][0] == 98304
    assert record.spec["format"] == ["trainer-state"]
    assert "tokens from 'num_input_tokens_seen'" in notes(record)


def test_a_public_trainer_state_of_continued_pretraining(tmp_path):
    log = write(tmp_path, "trainer_state.json", json.dumps({"log_history": BLOOM_GERMAN}))
    with pytest.raises(InputError, match="does not say how many tokens"):
        import_log(log, spec())
    record = import_log(log, spec(tokens_per_step=8 * 1024, loss_before=2.5))
    assert points(record) == [
        (n * 8192, loss) for n, loss in ((5000, 2.775390625), (10000, 2.68359375), (15000, 2.62109375))
    ]


@pytest.mark.parametrize("name", ["run-tracked.wandb", "events.out.tfevents.0", "wandb_history.csv"])
def test_wandb_and_tensorboard_tell_the_same_run(name, curve):
    record = import_log(FORMATS / name, spec(**BEFORE))
    assert [tokens for tokens, _ in points(record)] == [tokens for tokens, _ in curve]
    assert [loss for _, loss in points(record)] == pytest.approx([loss for _, loss in curve], rel=1e-6)


@pytest.mark.parametrize(("name", "lost"), [("run-tracked.wandb", 7000), ("events.out.tfevents.0", 700)])
def test_a_folder_will_do_and_a_torn_end_is_lost_alone(name, lost, curve, tmp_path):
    (tmp_path / name).write_bytes((FORMATS / name).read_bytes()[:-lost])
    record = import_log(tmp_path, spec(**BEFORE))
    read = points(record)
    assert 4 <= len(read) < len(curve)
    assert [tokens for tokens, _ in read] == [tokens for tokens, _ in curve][: len(read)]


@pytest.mark.parametrize("name", ["run-tracked.wandb", "run-small.swanlab", "events.out.tfevents.0"])
def test_a_flipped_bit_loses_what_it_hits_and_is_said(name, tmp_path):
    whole = find_format(FORMATS / name, None).read(FORMATS / name)
    assert not whole.notes
    content = (FORMATS / name).read_bytes()
    for place in (len(content) // 3, len(content) // 2):
        spoilt = bytearray(content)
        spoilt[place] ^= 0x10
        (tmp_path / name).write_bytes(spoilt)
        read = find_format(tmp_path / name, None).read(tmp_path / name)
        assert len(whole) - 3 <= len(read) <= len(whole)
        assert any("damaged: " in note and " bytes in 1 place were left out" in note for note in read.notes)
    # what stands before and after the place is what it was
    column = max(whole.columns, key=lambda name: sum(value is not None for value in whole.columns[name]))
    assert set(read.columns[column]) <= set(whole.columns[column])
    assert read.columns[column][-1] == whole.columns[column][-1]


def test_a_length_that_was_spoilt_costs_one_record(tmp_path):
    records = [f"record {n}".encode() * 40 for n in range(60)]
    content, at = bytearray(b":W&B\xe1\xbe\x00"), []
    for record in records:
        at.append(len(content))
        content += struct.pack("<IHB", zlib.crc32(record, zlib.crc32(b"\x01")), len(record), 1) + record
    log = read_log(bytes(content), 7)
    assert log.records == tuple(records)
    assert not log.notes
    content[at[30] + 5] ^= 0xFF  # the length
    content[at[50] + 2] ^= 0x01  # the CRC
    log = read_log(bytes(content), 7)
    assert log.records == tuple(r for n, r in enumerate(records) if n not in (30, 50))
    assert (log.places, log.torn) == (2, 0)
    assert log.lost == at[31] - at[30] + at[51] - at[50]
    torn = read_log(bytes(content[: at[59] + 20]), 7)
    assert len(torn.records) == 57
    assert torn.torn == 20


def test_wandb_exports(curve, tmp_path):
    """A history as `run.history()` returns it, in CSV and Parquet, from the rows of the real run file."""
    history = find_format(FORMATS / "run-tracked.wandb", None).read(FORMATS / "run-tracked.wandb")
    table = pd.DataFrame(dict(history.columns))
    assert {"_step", "eval/loss", "train/global_step", "train/num_input_tokens_seen"} <= set(table.columns)
    table.to_csv(tmp_path / "history.csv", index=False)
    numeric = table[[name for name in table.columns if table[name].map(type).isin([int, float, type(None)]).all()]]
    numeric.to_parquet(tmp_path / "history.parquet")
    for name, kind in (("history.csv", "wandb-csv"), ("history.parquet", "wandb-parquet")):
        record = import_log(tmp_path / name, spec(**BEFORE))
        assert record.spec["format"] == [kind]
        assert points(record) == [(tokens, pytest.approx(loss)) for tokens, loss in curve]


def test_a_wandb_charts_csv(tmp_path):
    chart = write(
        tmp_path,
        "wandb_export.csv",
        '"train/global_step","brisk-sun-1 - eval/loss","brisk-sun-1 - eval/loss__MIN","brisk-sun-1 - eval/loss__MAX"\n'
        '"10","2.9","2.9","2.9"\n"20","2.7","2.7","2.7"\n',
    )
    record = import_log(chart, spec(tokens_per_step=1000))
    assert points(record) == [(10_000, 2.9), (20_000, 2.7)]
    two = write(
        tmp_path, "two.csv", "Step,a - eval/loss,a - eval/loss__MIN,b - eval/loss,b - eval/loss__MIN\n1,3,3,2,2\n"
    )
    with pytest.raises(InputError, match="several held-out losses: a - eval/loss, b - eval/loss"):
        import_log(two, spec(tokens_per_step=1000))
    chosen = spec(tokens_per_step=1000, loss_column="b - eval/loss", step_column="Step")
    assert points(import_log(two, chosen)) == [(1000, 2.0)]


def test_wandbs_own_step_is_not_an_optimizer_step(tmp_path):
    log = write(tmp_path, "history.csv", "_step,_runtime,eval/loss\n7,1.5,2.9\n")
    with pytest.raises(InputError, match="no step to multiply"):
        import_log(log, spec(tokens_per_step=1000))
    assert points(import_log(log, spec(tokens_per_step=1000, step_column="_step"))) == [(7000, 2.9)]


def test_torchtitan(tmp_path):
    """Every rank writes each line; the log states 48 sequences of 4096 tokens a step."""
    log = FORMATS / "torchtitan.log"
    record = import_log(log, spec(unit="nats"))
    assert points(record) == [(48 * 4096, 12.4699)]
    assert "196,608, which the log states" in notes(record)
    coloured = (
        log.read_text()
        .replace("validate step:  1", "\x1b[33mvalidate step:  1")
        .replace("12.4699", "\x1b[32m2.1\x1b[0m")
    )
    assert points(import_log(write(tmp_path, "colour.log", coloured), spec())) == [(48 * 4096, 2.1)]
    with pytest.warns(UserWarning, match="training loss"):
        train = import_log(log, spec(train_loss=True))
    assert points(train) == [(n * 48 * 4096, loss) for n, loss in ((20, 11.8347), (40, 9.3507), (100, 2.3367))]


def test_megatron(tmp_path):
    """Held-out losses at 1000 (whose samples lie between two lines) and 2000 iterations; the last word at 2000 wins."""
    text = (FORMATS / "megatron.log").read_text()
    log = write(tmp_path, "train.log", SEQ_LENGTH + text)
    record = import_log(log, spec())
    assert points(record) == [(1000 * 512 * 2048, 4.735407), (1_024_000 * 2048, 4.341037)]
    assert "left out: 1 loss value of the test set" in notes(record)
    assert "'consumed samples' times 2,048" in notes(record)
    with pytest.raises(InputError, match="give --sequence-length"):
        import_log(FORMATS / "megatron.log", spec())


def test_megatron_counts_samples_and_not_iterations_times_the_last_batch(tmp_path):
    log = write(tmp_path, "train.log", BIGSCIENCE)
    assert points(import_log(log, spec(sequence_length=2048, tokens_per_step=96 * 2048))) == [(260_912 * 2048, 7.1742)]


def test_nemo(tmp_path):
    """A validation is seen where the number that is repeated changes, with the samples of the line before."""
    log = FORMATS / "nemo.log"
    with pytest.raises(InputError, match="no held-out loss"):
        import_log(log, spec(sequence_length=1024))
    text = log.read_text()
    before, last = text[: text.index(" 0: Training epoch 0, iteration 34")], text.splitlines()[-1]
    changed = before + last.replace("2.861 | val_ppl: 17.57", "2.7 | val_ppl: 14.88") + "\n"
    record = import_log(write(tmp_path, "train.log", changed), spec(sequence_length=1024))
    assert points(record) == [(1024 * 1024, 2.7)]


def test_llama_factory(tmp_path):
    log = FORMATS / "trainer_log.jsonl"
    with pytest.raises(InputError, match=r"no held-out loss.*'loss' is the training loss, which --train-loss takes"):
        import_log(log, spec())
    with pytest.warns(UserWarning, match="training loss"):
        train = import_log(log, spec(train_loss=True, tokens_per_step=32 * 4096))
    assert points(train)[-1] == (30 * 32 * 4096, 1.7785)
    evaluated = log.read_text() + (
        '{"current_steps": 30, "total_steps": 8712, "eval_loss": 1.71, "epoch": 0.01, "percentage": 0.34, '
        '"elapsed_time": "0:21:31", "remaining_time": "4 days", "throughput": 2100.5, "total_tokens": 655360}\n'
    )
    record = import_log(write(tmp_path, "evaluated.jsonl", evaluated), spec())
    assert record.spec["format"] == ["llama-factory"]
    assert points(record) == [(655_360, 1.71)]


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl"])
def test_plain_tables(name, tmp_path):
    table = pd.DataFrame({"seen": [1_000_000, 2_000_000], "mine": [2.9, 2.7]})
    path = tmp_path / name
    {
        "csv": lambda p: table.to_csv(p, index=False),
        "parquet": table.to_parquet,
        "jsonl": lambda p: table.to_json(p, orient="records", lines=True),
    }[path.suffix[1:]](path)
    record = import_log(path, spec(loss_column="mine", tokens_column="seen"))
    assert record.spec["format"] == [path.suffix[1:]]
    assert points(record) == [(1_000_000, 2.9), (2_000_000, 2.7)]
    with pytest.raises(InputError, match="there are: seen, mine"):
        import_log(path, spec())


def test_the_real_trainer_with_tensorboard_writes_what_is_read(tiny_model, tmp_path, monkeypatch):
    """An output folder with two checkpoints and a folder of events, from the Trainer that is installed."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    tokens = torch.randint(2048, (8, 32), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": ids, "labels": ids} for ids in tokens]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=4,
        per_device_train_batch_size=2,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=2,
        logging_steps=1,
        include_num_input_tokens_seen="all",
        report_to=["tensorboard"],
        use_cpu=True,
        disable_tqdm=True,
    )
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    model = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    expected = [
        (row["num_input_tokens_seen"], row["eval_loss"]) for row in trainer.state.log_history if "eval_loss" in row
    ]
    assert [tokens for tokens, _ in expected] == [64, 128, 192, 256]
    folder = import_log(tmp_path / "out", spec(unit="nats", tokens_per_step=64))
    assert "the latest of 2 checkpoints" in notes(folder)
    # a checkpoint is written after the evaluation of its step
    assert points(folder) == expected
    assert points(import_log(tmp_path / "out" / "checkpoint-2", spec(unit="nats"))) == expected[:2]
    events = import_log(tmp_path / "events", spec(unit="nats"))
    assert points(events) == [(tokens, pytest.approx(loss, rel=1e-6)) for tokens, loss in expected]


def test_every_sample_is_recognised_by_its_content(tmp_path):
    kinds = {
        "torchtitan.log": "torchtitan",
        "torchtitan-pipeline.log": "torchtitan",
        "megatron.log": "megatron",
        "megatron-bridge.log": "megatron",
        "megatron-named-sets.log": "megatron",
        "gpt-neox.log": "megatron",
        "nemo.log": "nemo",
        "trainer_log.jsonl": "llama-factory",
        "trl_trainer_state.json": "trainer-state",
        "run-tracked.wandb": "wandb-run",
        "events.out.tfevents.0": "tensorboard",
        "wandb_history.csv": "wandb-csv",
        "mlflow.db": "mlflow",
        "trackio.db": "trackio",
        "run-small.swanlab": "swanlab",
        "clearml_metrics.jsonl": "clearml",
        "comet_messages.json": "comet",
        "aim.csv": "csv",
        "litgpt.log": "litgpt",
        "olmo-core.log": "olmo-core",
        "composer.txt": "composer",
        "nanotron.log": "nanotron",
        "llm.c.log": "llm.c",
        "llm.c_main.log": "llm.c",
        "nanogpt.log": "nanogpt",
        "modded-nanogpt.txt": "nanogpt",
    }
    folders = {"automodel": "automodel", "lightning": "csv", "lm-eval": "lm-eval"}
    assert {*kinds, *folders, "README.md"} == {path.name for path in FORMATS.iterdir()}
    assert {*kinds.values(), *folders.values()} >= set(NAMES) - {"wandb-parquet", "parquet", "jsonl"}
    for name, kind in kinds.items():
        shutil.copy(FORMATS / name, tmp_path / "some.log")
        assert find_format(tmp_path / "some.log", None).name == kind
    for name, kind in folders.items():
        assert find_format(FORMATS / name, None).name == kind
    shutil.copy(TRACKED, tmp_path / "renamed.txt")
    assert find_format(tmp_path / "renamed.txt", None).name == "trainer-state"
    for alias in ("axolotl", "trl", "trainer"):
        assert find_format(TRACKED, alias).name == "trainer-state"


@pytest.mark.parametrize("kind", NAMES)
def test_a_log_of_another_format_is_refused_by_each(kind, tmp_path):
    path = write(tmp_path, "letter.txt", "Dear all,\nthe loss was 2.1 nats.\nYours\n")
    with pytest.raises(InputError) as refused:
        import_log(path, spec(format=kind))
    assert str(path) in str(refused.value)
    with pytest.raises(InputError, match="not a log of a known format"):
        import_log(path, spec())


def test_logs_that_broke_are_read_or_refused_and_nothing_else(tmp_path):
    """Bytes changed, cut out and put in at random: a run with rising tokens, or one line that says what is wrong."""
    rng = random.Random(0)
    files = [TRACKED, *(path for path in sorted(FORMATS.iterdir()) if path.is_file() and path.name != "README.md")]
    outcomes = set()
    for _ in range(400):
        content = bytearray(rng.choice(files).read_bytes())
        for _ in range(rng.choice([1, 10, 50])):
            at = rng.randrange(max(1, len(content)))
            if rng.random() < 0.5:
                content[at : at + 1] = bytes([rng.randrange(256)])
            else:
                content[at : at + rng.randrange(30)] = rng.choice([b"", b"nan", b"-1", b"null", b"\r", b",", b"\0"])
        (tmp_path / "log").write_bytes(content)
        kind = rng.choice([None, None, *NAMES])
        try:
            record = import_log(tmp_path / "log", spec(**BEFORE, tokens_per_step=10, sequence_length=8, format=kind))
            assert [p.tokens for p in record.curve] == sorted({p.tokens for p in record.curve})
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_megatrons_events_have_a_twin_in_samples(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "events"))
    for iteration, samples, loss in ((10, 100, 2.9), (20, 300, 2.7)):
        for tag, step in (("lm loss validation", iteration), ("lm loss validation vs samples", samples)):
            value = Summary.Value(tag=tag, simple_value=loss)
            writer.add_event(Event(wall_time=1e9 + iteration, step=step, summary=Summary(value=[value])))
    writer.close()
    record = import_log(tmp_path / "events", spec(sequence_length=2048))
    assert points(record) == [(100 * 2048, pytest.approx(2.9)), (300 * 2048, pytest.approx(2.7))]
    (tmp_path / "events" / "later").mkdir()
    for file in (tmp_path / "events").glob("events.*"):
        shutil.copy(file, tmp_path / "events" / "later" / file.name)
    with pytest.raises(InputError, match="2 folders with events"):
        import_log(tmp_path / "events", spec(sequence_length=2048))
