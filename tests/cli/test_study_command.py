"""`regrow study`: the plan first, what it did after, bad input in one line; others look on while it runs."""

import io
import os
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from regrow.cli import watching
from regrow.laws.simulate import simulate
from regrow.runs import CurvePoint, RunWriter, read_runs
from regrow.study import StudySpec
from regrow.study.cell_plan import run_folder

from .conftest import TRUTH, one_line_error

STUDY = (
    "models: [tiny-llama-0.2m, tiny-llama-0.3m]\nfamily: sim\nmethods: [depth]\nrates: [0.17, 0.25, 0.33]\n"
    "train: {tokens: 10k, batch_tokens: 1024}\n"
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


class Engine:
    """Runs cells by writing curves of a known law; every run but the last of its list is finished."""

    name = "simulated"
    workers = 2

    def __init__(self, unfinished: int = 0) -> None:
        self.unfinished = unfinished

    def probe(self, cells):
        return [1e9] * len(cells)

    def run(self, jobs):
        losses = {1e6: 3.6, 2e6: 3.4}
        runs = simulate(
            TRUTH,
            sizes=(1e6, 2e6),
            rates=(0.17, 0.25, 0.33),
            tokens=[1e3 * 1.6**i for i in range(6)],
            loss_before=lambda n: losses[n],
            seed=0,
        )
        pruned = [job for job in jobs if job.cell.prune]
        for job, run in zip(pruned, runs, strict=False):
            record = {**vars(run), "run": job.cell.name, "spec": job.cell.spec, "curve": (), "status": "running"}
            writer = RunWriter.open(job.out, type(run)(**record))
            points = run.curve[:1] if job in pruned[len(pruned) - self.unfinished :] else run.curve
            for point in points:
                writer.append(CurvePoint(tokens=point.tokens, loss=point.loss, seconds=point.tokens / 1e3))
            if points is run.curve:
                writer.finish(details={"tokens_per_second": 1e3})
                yield job.cell, None
        for job in pruned[len(pruned) - self.unfinished :] if self.unfinished else ():
            yield job.cell, "its worker process died"

    def close(self):
        pass


def test_fit_list_and_show_work_on_what_has_finished(regrow, file, tmp_path):
    out = tmp_path / "out"
    spec = StudySpec.from_yaml(file)
    seen = []

    def look(cell, error):
        if len(seen) < 5:
            seen.append(regrow("runs", "list", out, "--json").json["runs"])
        if error is not None:  # five of six runs are finished, the last has begun
            fitted = regrow("fit", out, "--json")
            assert fitted.code == 0, fitted.err
            assert fitted.json["laws"][0]["n_runs"] == 5
            assert "warning: left out, not finished: 1 of 6 runs" in fitted.err
            assert regrow("runs", "show", run_folder(cell, out), "--json").json["status"] == "running"

    from regrow.study import run_study

    done = run_study(spec, out, engine=Engine(unfinished=1), on_cell=look)
    assert len(done.failed) == 1
    assert [len(runs) for runs in seen] == [1, 2, 3, 4, 5]


def test_a_watched_study_tells_its_plan_and_a_line_a_cell(file, tmp_path, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(watching, "console", lambda: Console(file=text, width=200))
    watching.run_watched(StudySpec.from_yaml(file), tmp_path / "out", engine=Engine(unfinished=1))
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("8 cells, 8 to run: 81.9k tokens, ")
    assert lines[1].startswith("about ")
    assert "on 2 workers, from a try of a second just now" in lines[1]
    assert "on disk when all are done" in lines[2]
    told = [line for line in lines if line.split("/")[0].isdigit()]
    assert len(told) == 6
    assert "1k tokens/s" in told[0]
    assert told[-1].endswith("failed: its worker process died")


def test_a_log_gets_the_recipe_first_and_a_line_now_and_then(file, tmp_path, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(watching, "console", lambda: Console(file=text, width=200))
    monkeypatch.setattr(watching, "_TELL", 0.01)

    class Slow(Engine):
        def run(self, jobs):
            for ended in super().run(jobs):
                time.sleep(0.1)
                yield ended

    watching.run_watched(StudySpec.from_yaml(file), tmp_path / "out", engine=Slow(unfinished=1))
    lines = text.getvalue().splitlines()
    assert lines[3].startswith(
        "each: 10,240 tokens in steps of 1,024 (blocks of 256), learning rate 0.0003, constant, "
    )
    now_and_then = [line for line in lines if re.match(r"\d+ (running|done|waiting)", line)]
    assert len(now_and_then) >= 3
    assert any("done" in line and "waiting" in line and "tokens/s" in line for line in now_and_then)


def test_a_terminal_shows_a_live_table(file, tmp_path, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(watching, "console", lambda: Console(file=text, width=160, height=40, force_terminal=True))
    watching.run_watched(StudySpec.from_yaml(file), tmp_path / "out", engine=Engine(unfinished=1))
    shown = text.getvalue()
    assert "tiny-llama-0.2m-depth-0.17" in shown
    for column in ("state", "tokens", "loss", "tokens/s", "left"):
        assert column in shown


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ("objectivs: [distillation]", (), "did you mean 'objectives'"),
        ("data: nowhere.txt", (), "no such file or folder: nowhere.txt"),
        ("rates_by_method: {depth: [0.97]}", (), "tiny-llama-0.2m, depth: no shape of this model reaches rate 0.97"),
        ("", ("--workers", 0), "--workers: 0 workers"),
        ("", ("--engine", "lokal"), "did you mean 'local'"),
        ("", ("--address", "auto"), "add --engine ray"),
        ("budget: {tokens: 1k}", (), "cost 81.9k tokens of at most 1k tokens"),
    ],
)
def test_bad_input_is_one_line(regrow, file, tmp_path, line, options, says):
    file.write_text(STUDY + line + "\n")
    done = regrow("study", file, "--out", tmp_path / "out", *options)
    one_line_error(done, says)
    assert not (tmp_path / "out" / "runs").exists()


def test_of_two_studies_in_one_folder_the_second_is_refused(regrow, file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from regrow.locks import hold\n"
        f"with hold(Path({str(out / '.lock')!r}), what='', hint=''):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        one_line_error(regrow("study", file, "--out", out), f"{out}: another study is running", f"process {first.pid}")
        first.kill()


def test_a_dry_run_shows_every_cell_and_writes_nothing(regrow, file, tmp_path, monkeypatch):
    monkeypatch.setattr("regrow.study.engines.make_engine", lambda *a, **k: Engine())
    done = regrow("study", file, "--out", tmp_path / "out", "--dry-run")
    assert done.code == 0, done.err
    assert done.out.count("tiny-llama-0.3m-depth") == 3
    assert "waiting" in done.out
    assert not os.path.exists(tmp_path / "out")
    shown = regrow("study", file, "--out", tmp_path / "out", "--dry-run", "--json").json
    assert shown["missing"][0].startswith("tiny-llama-0.3m-control")  # most work first
    assert shown["tokens"] == 8 * 10240
    assert shown["seconds"] > 0
    assert {row["state"] for row in shown["plan"]} == {"waiting"}


def test_a_study_goes_on_elsewhere_from_an_archive(regrow, file, tmp_path, monkeypatch):
    """One sitting ends with two of eight cells missing; another folder runs only these; the archive then has all."""
    from regrow.study import missing_cells, run_study
    from regrow.study.plan import plan_study

    monkeypatch.setattr("regrow.study.engines.make_engine", lambda *a, **k: Engine())
    spec, here, there = StudySpec.from_yaml(file), tmp_path / "here", tmp_path / "there"
    archive = tmp_path / "study.jsonl"
    run_study(spec, here, engine=Engine(unfinished=1))  # controls are not simulated: they and the last run are missing
    left = {cell.name for cell in missing_cells(spec, here)}
    assert len(left) == 3
    exported = regrow("runs", "export", here, "--append", "--out", archive, "--json")
    assert exported.json["runs"] == 6  # the unfinished one, too

    plan = regrow("study", file, "--out", there, "--records", archive, "--dry-run", "--json").json
    assert set(plan["missing"]) == left
    states = {row["name"]: (row["state"], row["tokens_left"]) for row in plan["plan"]}
    assert all(states[name] == ("recorded", 0) for name in states.keys() - left)

    started = []

    class Only(Engine):
        def run(self, jobs):
            started.extend(job.cell.name for job in jobs)
            for job, record in zip(jobs, [r for r in all_runs if r.run in left] * 3, strict=False):
                writer = RunWriter.open(
                    job.out, type(record)(**{**vars(record), "run": job.cell.name, "spec": job.cell.spec, "curve": ()})
                )
                writer.append(CurvePoint(tokens=10, loss=3.0))
                writer.finish(details={})
                yield job.cell, None

    all_runs = read_runs(archive)
    done = run_study(spec, there, engine=Only(), records=[archive])
    assert set(started) == set(done.ran) == left
    assert len(done.skipped) == 5
    assert regrow("runs", "export", there, "--append", "--out", archive, "--json").json["runs"] == 8
    assert {run.status for run in read_runs(archive)} == {"done"}
    assert plan_study(spec, tmp_path / "third", records=[archive]).to_run == []

    # a study with nothing left adds nothing, and is no error
    nothing = tmp_path / "nothing"
    run_study(spec, nothing, engine=Only(), records=[archive])
    assert regrow("runs", "export", nothing, "--append", "--out", archive, "--json").json["runs"] == 8


def test_records_of_another_recipe_are_not_taken(regrow, file, tmp_path, monkeypatch):
    from regrow.study import run_study

    monkeypatch.setattr("regrow.study.engines.make_engine", lambda *a, **k: Engine())
    archive = tmp_path / "study.jsonl"
    run_study(StudySpec.from_yaml(file), tmp_path / "out", engine=Engine())
    assert regrow("runs", "export", tmp_path / "out", "--out", archive).code == 0
    file.write_text(STUDY.replace("10k", "20k"))
    plan = regrow("study", file, "--out", tmp_path / "new", "--records", archive, "--dry-run", "--json").json
    assert len(plan["missing"]) == 8
    one_line_error(regrow("study", file, "--records", tmp_path / "none.jsonl"), "not an archive of runs")
    one_line_error(regrow("runs", "export", tmp_path / "out", "--append", "--out", "x.csv"), "--append is for archives")


def test_a_dry_run_of_a_file_that_is_only_to_be_written_is_refused(regrow, tmp_path):
    one_line_error(regrow("study", tmp_path / "new.yaml", "--init", "--dry-run"), "--dry-run: given with --init")
    assert not (tmp_path / "new.yaml").exists()
