"""Broken input of every kind is one line or is read; it is never a traceback, a hang, or a machine without memory.

`make fuzz` asks as often as `REGROW_FUZZ` says (examples of each kind); the gate asks a few times.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.errors import RegrowError, printable
from regrow.laws import load_laws
from regrow.reading import read_yaml
from regrow.runs import CurvePoint, RunRecord, RunWriter, read_runs, write_archive
from regrow.runs.check import check_runs
from regrow.runs.importers import import_manifest
from regrow.runs.importers.registry import find_format
from regrow.runs.store import CURVE_FILE, RUN_FILE
from regrow.runs.table import to_table, write_csv
from regrow.study.spec import StudySpec

EXAMPLES = int(os.environ.get("REGROW_FUZZ", "40"))
#: Seconds after which reading a file counts as hanging.
SLOW = 10
#: Bytes by which the reading of broken input may raise the peak of this process' memory.
LARGE = 1 << 30
#: Logs that real tools wrote, in formats of their own.
LOGS = Path(__file__).parents[1] / "examples" / "logs" / "formats"

asked = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=EXAMPLES == 40,
)

#: What stands in the place of a value: each has broken a reader of tables, JSON or YAML somewhere.
ODD = [
    "", "NA", "nan", "inf", "-inf", "1e309", "-1", "0", "0x10", "010", "2:4", "1_000", "true", "false", "null", "~",
    "=1+1", "\x1b[2J", "../../x", "/x", ".", "..", "2026-01-01", "1" * 400, "[" * 3000, "{" * 3000, "&a [*a]", "<<: 1",
    '"', "'", ",", "\n", "\t", "\x00", "\ud7ff", "\u202e", "é", "1e18", "1e19", "-0.0", "700", "50.0001", "{}", "[]",
    "[[1, 2], [3]]", '{"a": 1, "a": 2}', "!!python/object:os.system x", "!!binary x", "- a\n- b", "a: b: c",
]  # fmt: skip
JUNK = [
    None, True, False, 0, -1, 1, 0.5, 700.0, 1e309, -1e309, float("nan"), 10**400, 10**18 + 1,
    "", "x", "NA", "\x1b[2J", "../x",
    [], {}, [[]], {"a": {}}, [1, "2"], [None], {"": None}, "1e5",
]  # fmt: skip


def record(name="r", method="depth"):
    points = tuple(CurvePoint(tokens=1000 * i, loss=4.0 - 0.1 * i, lr=1e-3) for i in range(4))
    return RunRecord(
        run=name, family="f", method=method, params_before=100, params_after=80, pruning_rate=0.2, loss_before=2.0,
        curve=points, spec={"tokens": 10, "train": {"tokens": 3000, "batch_tokens": 1000}},
    )  # fmt: skip


@st.composite
def broken_text(draw, text):
    """A text with some of its characters, lines or values in disorder."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 2, 8, 40])))
        text = text[:start] + draw(st.sampled_from(ODD) | st.text(max_size=4)) + text[end:]
    return (
        text.encode("utf-8", errors="surrogatepass") if draw(st.booleans()) else text.encode("utf-8", errors="replace")
    )


@st.composite
def broken_data(draw, data):
    """Plain data with junk in the place of a value, somewhere inside, or a key gone."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        place = data
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            if draw(st.integers(0, 5)):
                place[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            else:
                del place[key]
            break
    return data


def harmless(read, *arguments):
    """Whatever `read` says is a RegrowError of one line, in less than `SLOW` seconds."""

    def hang(*_):
        raise TimeoutError(f"more than {SLOW} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SLOW)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(*arguments)
    except RegrowError as error:
        said = str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "\n" not in said
    assert printable(said) == said
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with whole files; afterwards the peak of memory must not have risen by `LARGE`."""
    root = tmp_path_factory.mktemp("fuzz")
    write_csv(to_table([record("a"), record("b", "none")]), root / "whole.csv")
    write_archive([record("a"), record("b")], root / "whole.jsonl")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield root
    risen = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert risen < LARGE, f"memory rose by {risen / 1e6:.0f} MB"


@asked
@given(data=st.data())
def test_tables(folder, data):
    path = folder / "t.csv"
    path.write_bytes(data.draw(broken_text((folder / "whole.csv").read_text())))
    harmless(read_runs, path)


@asked
@given(data=st.data())
def test_archives(folder, data):
    path = folder / "a.jsonl"
    lines = (folder / "whole.jsonl").read_text()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(broken_text(lines)))
    else:
        content = [data.draw(broken_data(json.loads(line))) for line in lines.splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in content))
    runs = harmless(read_runs, path)
    for run in runs or ():
        assert 0 < run.loss_before <= 50
        assert all(0 < p.loss <= 50 for p in run.curve)
        assert printable(run.run) == run.run


@asked
@given(data=st.data())
def test_run_folders(folder, data):
    run = folder / "run"
    if not run.exists():
        RunWriter.store(run, record())
        (folder / "kept").mkdir()
        for name in (RUN_FILE, CURVE_FILE):
            (folder / "kept" / name).write_text((run / name).read_text())
    for name in (RUN_FILE, CURVE_FILE):
        text = (folder / "kept" / name).read_text()
        if name == RUN_FILE and data.draw(st.booleans()):
            (run / name).write_text(json.dumps(data.draw(broken_data(json.loads(text)))))
        else:
            (run / name).write_bytes(data.draw(broken_text(text)) if data.draw(st.booleans()) else text.encode())
    harmless(read_runs, run)
    harmless(check_runs, run)


@asked
@given(data=st.data())
def test_law_files(folder, data):
    path = folder / "law.json"
    if not (folder / "whole-law.json").exists():
        law = {
            "family": "f", "method": "depth", "form": "chinchilla", "status": "ok", "n_runs": 4, "n_points": 30,
            "params": {"E": 1.5, "A": 400.0, "B": 400.0, "alpha": 0.3, "beta": 0.3},
            "warnings": [], "metrics": {"r2": 0.9},
            "ranges": {"params_before": [100, 200], "tokens": [1e3, 1e6], "pruning_rate": [0.1, 0.3]},
            "run_spread": 0.01, "point_spread": 0.001, "draws": [[1.5, 400.0, 0.3, 400.0, 0.3]] * 3,
        }  # fmt: skip
        (folder / "whole-law.json").write_text(json.dumps({"format": 1, "laws": [law]}))
        assert load_laws(folder / "whole-law.json")
    text = (folder / "whole-law.json").read_text()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(broken_text(text)))
    else:
        path.write_text(json.dumps(data.draw(broken_data(json.loads(text)))))
    for law in harmless(load_laws, path) or ():
        harmless(lambda law: law.predict(params_before=150, pruning_rate=0.2, tokens=1e4, loss_before=2.0), law)


STUDY = """
models: [tiny-llama-200k]
family: llama
methods: [depth, width, 2:4]
rates: [0.15, 0.25]
seeds: [0, 1]
controls: true
train: {tokens: 100k, batch_tokens: 2048, sequence_length: 256, learning_rate: 6e-4, eval_at: log:8}
budget: {tokens: 10M}
"""


@asked
@given(data=st.data())
def test_studies(folder, data):
    path = folder / "study.yaml"
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(broken_text(STUDY)))
    else:
        (folder / "whole.yaml").write_text(STUDY)
        path.write_text(json.dumps(data.draw(broken_data(read_yaml(folder / "whole.yaml")))))

    def read(file):
        spec = StudySpec.from_yaml(file)
        assert len(spec.rates) < 1000
        return spec

    harmless(read, path)


MANIFEST = """path,run,family,method,params_before,params_after,loss_before,tokens_per_step,seed
log.csv,01,f,depth,100,80,2.0,1000,1
log.csv,1,f,depth,100,80,2.0,1000,2
"""


@asked
@given(data=st.data())
def test_manifests(folder, data):
    (folder / "log.csv").write_text("step,eval_loss\n1,4.0\n2,3.9\n3,3.8\n")
    path = folder / "manifest.csv"
    path.write_text(MANIFEST)
    assert [run.run for run in import_manifest(path)] == ["01", "1"]
    path.write_bytes(data.draw(broken_text(MANIFEST)))
    for run in harmless(import_manifest, path) or ():
        assert "/" not in run.run
        assert not run.run.startswith(".")


@asked
@given(data=st.data())
def test_binary_logs(folder, data):
    name = data.draw(
        st.sampled_from(["run-tracked.wandb", "events.out.tfevents.0", "run-small.swanlab", "trackio.db", "mlflow.db"])
    )
    content = bytearray((LOGS / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path = folder / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    harmless(lambda file: find_format(file, None).read(file), path)
