import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.data import BlockOrder, pack, read_documents, split_documents
from regrow.errors import InputError


@given(documents=st.lists(st.lists(st.integers(1, 50), max_size=12), min_size=1, max_size=8), length=st.integers(2, 9))
def test_packing_lays_documents_end_to_end(documents, length):
    flat = [token for ids in documents for token in [*ids, 0]]
    if len(flat) < length:
        with pytest.raises(InputError, match="less than one block"):
            pack(documents, eos=0, sequence_length=length)
        return
    blocks = pack(documents, eos=0, sequence_length=length)
    assert blocks.tokens.flatten().tolist() == flat[: len(flat) // length * length]
    assert blocks.n_tokens == len(blocks) * length


def test_the_fingerprint_knows_the_shape_and_the_tokens():
    one = pack([[1, 2, 3, 4, 5, 6, 7]], eos=0, sequence_length=4)
    assert one.fingerprint == pack([[1, 2, 3, 4, 5, 6, 7]], eos=0, sequence_length=4).fingerprint
    assert one.fingerprint != pack([[1, 2, 3, 4, 5, 6, 7]], eos=0, sequence_length=2).fingerprint
    assert one.fingerprint != pack([[1, 2, 3, 4, 5, 6, 8]], eos=0, sequence_length=4).fingerprint


def test_a_sample_is_fixed_by_its_seed():
    blocks = pack([list(range(1, 200))], eos=0, sequence_length=4)
    assert np.array_equal(blocks.sample(5, seed=1).tokens, blocks.sample(5, seed=1).tokens)
    assert not np.array_equal(blocks.sample(5, seed=1).tokens, blocks.sample(5, seed=2).tokens)
    assert len(blocks.sample(10_000, seed=0)) == len(blocks)


@given(blocks=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_every_epoch_sees_every_block_once(blocks, seed):
    order = BlockOrder(blocks=blocks, seed=seed)
    for epoch in range(3):
        seen = [order[epoch * blocks + i] for i in range(blocks)]
        assert sorted(seen) == list(range(blocks))


def test_orders_differ_by_seed_and_epoch():
    a, b = BlockOrder(blocks=100, seed=1), BlockOrder(blocks=100, seed=2)
    first = [a[i] for i in range(100)]
    assert first != [b[i] for i in range(100)]
    assert first != [a[100 + i] for i in range(100)]
    assert a.epochs(150) == 1.5


def test_documents_from_every_format(tmp_path):
    import pandas as pd

    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n\n{"text": "three"}\n')
    pd.DataFrame({"text": ["four", ""]}).to_parquet(tmp_path / "c.parquet")
    pd.DataFrame({"text": ["five"]}).to_csv(tmp_path / "d.csv", index=False)
    assert read_documents(tmp_path) == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", "{", "can't be read"),
        ("a.jsonl", '{"body": "x"}', "no column 'text'"),
        ("a.pdf", "x", "unknown format '.pdf'"),
        ("a.txt", "  ", "no text in it"),
        ("a.parquet", "not one", "can't be read"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read_documents(tmp_path / name)


def test_a_missing_path():
    with pytest.raises(InputError, match="no such file"):
        read_documents("nowhere")


def test_copies_of_a_document_fall_on_one_side():
    documents = [f"document {i % 50}" for i in range(200)]
    train, held_out = split_documents(documents, held_out_share=0.3)
    assert len(train) + len(held_out) == 200
    assert not set(train) & set(held_out)


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="can't be split"):
        split_documents(["only one"], held_out_share=0.05)
