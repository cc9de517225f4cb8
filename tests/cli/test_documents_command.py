"""`regrow runs documents`: what a run has seen, from the cache or from its data again."""

import csv
import json
import shutil

from regrow.data.cache import cache_folder

from .conftest import one_line_error


def test_the_documents_of_a_run(regrow, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"text": f"{i} is the number of this document. " * 9}) + "\n" for i in range(60))
    )
    run = tmp_path / "run"
    done = regrow(
        *("train", tiny_model, "--data", data, "--held-out", data, "--tokens", "1024", "--batch-tokens", "256"),
        *("--sequence-length", "64", "--held-out-blocks", "2", "--eval-at", "linear:2"),
        *("--forecast", "run", "--out", run),
    )
    assert done.code == 0, done.err
    assert "none yet (1 evaluation so far" in done.err
    found = regrow("runs", "documents", run, "--json").json
    assert found["tokens"] == found["unique_tokens"] == sum(d["tokens_seen"] for d in found["seen"]) == 1024
    assert found["documents_of"] == 60
    early = regrow("runs", "documents", run, "--tokens", "64", "--json").json
    assert sum(d["tokens_seen"] for d in early["seen"]) == 64
    assert {d["name"] for d in early["seen"]} < {d["name"] for d in found["seen"]}
    shutil.rmtree(cache_folder() / "tokens")
    out = tmp_path / "seen.csv"
    again = regrow("runs", "documents", run, "--out", out)
    assert again.out.startswith(f"run: {len(found['seen'])} of 60 documents by 1,024 tokens (1,024 unique")
    with out.open() as stream:
        assert [row["document"] for row in csv.DictReader(stream)] == [d["name"] for d in found["seen"]]
    shutil.rmtree(cache_folder() / "tokens")
    data.write_text(data.read_text().replace("number", "figure"))
    one_line_error(regrow("runs", "documents", run), "is not what the run saw")


def test_an_imported_run_names_no_blocks(regrow, table):
    one_line_error(regrow("runs", "documents", table), "runs here")
