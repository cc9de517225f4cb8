"""Tokenised text on disk: the same blocks as in memory, written once, whole or not at all."""

import json
import resource
import threading

import numpy as np
import pytest

from regrow.data import (
    DataWarning,
    find_cached,
    packed,
    read_blocks,
    read_documents,
    read_split,
    split_documents,
    tokenize,
)
from regrow.data.cache import cache_folder, entry
from regrow.errors import InputError, RunFailed


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from regrow.ladder import ASSETS

    return AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"Document {i} says so. " * (1 + i % 7)}) + "\n" for i in range(90)))
    return path


@pytest.mark.parametrize("kept", [True, False])
def test_the_blocks_are_those_of_the_text_in_memory(tokenizer, rows, cache, monkeypatch, kept):
    monkeypatch.setattr(packed, "BATCH_CHARACTERS", 500)  # several batches
    expected = tokenize(read_documents(rows), tokenizer, sequence_length=16)
    found = read_blocks(str(rows), tokenizer, sequence_length=16, cache=kept)
    assert np.array_equal(found.tokens, expected.tokens)
    assert (found.fingerprint, found.documents) == (expected.fingerprint, 90)
    assert found.largest_token >= expected.largest_token
    assert np.array_equal(found.position_ids(range(len(found))), expected.position_ids(range(len(found))))
    assert found.documents_of([0])[0] == f"{rows}:1"
    assert (cache / "tokens").exists() == kept
    sides = read_split(str(rows), tokenizer, sequence_length=16, held_out_share=0.2, cache=kept)
    for blocks, texts in zip(sides, split_documents(read_documents(rows), held_out_share=0.2), strict=True):
        assert blocks.fingerprint == tokenize(texts, tokenizer, sequence_length=16).fingerprint


def test_the_second_start_tokenises_nothing(tokenizer, rows, cache, monkeypatch):
    first = read_blocks(str(rows), tokenizer, sequence_length=16)
    monkeypatch.setattr(packed, "encode", None)
    again = read_blocks(str(rows), tokenizer, sequence_length=16)
    assert again.fingerprint == first.fingerprint
    assert len(read_blocks(str(rows), tokenizer, sequence_length=32)) == again.n_tokens // 32
    assert isinstance(again.tokens.base, np.memmap)
    again.tokens[0, 0] = 7  # as torch may: never on the disk
    assert read_blocks(str(rows), tokenizer, sequence_length=16).tokens[0, 0] == first.tokens[0, 0]
    found = find_cached(first.fingerprint, sequence_length=16)
    assert found is not None
    assert np.array_equal(found.tokens, first.tokens)
    assert find_cached(first.fingerprint, sequence_length=32) is None


def test_another_tokenizer_has_an_entry_of_its_own(tokenizer, rows, cache):
    from copy import deepcopy

    read_blocks(str(rows), tokenizer, sequence_length=16)
    other = deepcopy(tokenizer)
    other.eos_token = other.convert_ids_to_tokens(5)
    assert 5 in read_blocks(str(rows), other, sequence_length=16).tokens
    assert 5 not in read_blocks(str(rows), tokenizer, sequence_length=16).tokens


def test_a_cap_on_tokens_stops_after_the_document_that_reaches_it(tokenizer, rows, cache):
    whole = read_blocks(str(rows), tokenizer, sequence_length=2).table
    capped = read_blocks(f"{rows},tokens=100", tokenizer, sequence_length=2)
    count = int(np.searchsorted(whole.starts, 100))
    assert capped.documents == count
    assert capped.table.length == whole.starts[count]


def test_what_is_cut_short_is_made_again(tokenizer, rows, cache):
    first = read_blocks(str(rows), tokenizer, sequence_length=16)
    (stored,) = cache.glob("tokens/*/all/tokens.bin")
    with stored.open("r+b") as stream:
        stream.truncate(40)
    assert read_blocks(str(rows), tokenizer, sequence_length=16).fingerprint == first.fingerprint


def test_a_full_disk_is_said_and_leaves_nothing_behind(tokenizer, rows, cache):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(RunFailed, match=r"can't be written .*free space there, or set REGROW_CACHE"):
            read_blocks(str(rows), tokenizer, sequence_length=16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list((cache / "tokens").iterdir()) == []
    assert len(read_blocks(str(rows), tokenizer, sequence_length=16)) > 1


def test_a_cache_that_is_not_ours_is_done_without(tokenizer, rows, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "file"))
    with pytest.warns(DataWarning, match="the cache .* can't be written"):
        blocks = read_blocks(str(rows), tokenizer, sequence_length=16)
    assert blocks.fingerprint == tokenize(read_documents(rows), tokenizer, sequence_length=16).fingerprint


def test_of_writers_that_come_together_one_writes(cache):
    built, gate = [], threading.Barrier(4)

    def build(folder):
        built.append(folder)
        (folder / "x").write_text("whole")

    def want():
        gate.wait()
        assert (entry("key", build) / "x").read_text() == "whole"

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert [p.name for p in (cache / "tokens").iterdir()] == ["key"]


def test_what_a_killed_writer_left_is_never_read_and_cleared(cache):
    left = cache / "tokens" / ".key.abc"
    left.mkdir(parents=True)
    (left / "x").write_text("half")
    assert (entry("key", lambda folder: (folder / "x").write_text("whole")) / "x").read_text() == "whole"
    assert not left.exists()


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REGROW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "regrow"


def test_bad_input_is_one_line(tokenizer, rows, tmp_path, cache):
    def refuse(says, call):
        with pytest.raises(InputError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)

    short = tmp_path / "short.jsonl"
    short.write_text('{"text": "one two"}\n' * 3)
    refuse(
        r"short.jsonl: the text holds .* less than one block of 64",
        lambda: read_blocks(str(short), tokenizer, sequence_length=64),
    )
    refuse("can't be split", lambda: read_split(str(short), tokenizer, sequence_length=2, held_out_share=0.5))
    refuse("held-out share of 1", lambda: read_split(str(rows), tokenizer, sequence_length=2, held_out_share=1.0))
    refuse(
        "the held-out text holds .* less than one block of 500",
        lambda: read_split(str(rows), tokenizer, sequence_length=500, held_out_share=0.2),
    )
    refuse("no such file", lambda: read_blocks("nowhere.txt", tokenizer, sequence_length=2))
    refuse("is not a tokenizer", lambda: read_blocks(str(rows), _NoTokenizer(), sequence_length=2))


class _NoTokenizer:
    eos_token_id = 0
