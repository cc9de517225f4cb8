import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.data import Blocks, pack, tokenize
from regrow.data.blocks import encode
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


def test_the_fingerprint_is_what_earlier_records_hold():
    blocks = pack([[1, 2, 3, 4, 5, 6, 7]], eos=0, sequence_length=4)
    plain = repr((2, 4)).encode() + np.array([[1, 2, 3, 4], [5, 6, 7, 0]], dtype=np.int32).tobytes()
    assert blocks.fingerprint == hashlib.sha256(plain).hexdigest()[:16]


def test_a_sample_is_fixed_by_its_seed():
    blocks = pack([list(range(1, 200))], eos=0, sequence_length=4)
    assert np.array_equal(blocks.sample(5, seed=1).tokens, blocks.sample(5, seed=1).tokens)
    assert not np.array_equal(blocks.sample(5, seed=1).tokens, blocks.sample(5, seed=2).tokens)
    assert len(blocks.sample(10_000, seed=0)) == len(blocks)


@given(
    documents=st.lists(st.lists(st.integers(1, 50), max_size=12), min_size=1, max_size=8),
    length=st.integers(2, 9),
    seed=st.integers(0, 5),
)
def test_positions_count_from_every_documents_start(documents, length, seed):
    if sum(len(ids) + 1 for ids in documents) < length:
        return
    blocks = pack(documents, eos=0, sequence_length=length)
    # the other route: number every token in its document, and start again at every block
    owner = [d for d, ids in enumerate(documents) for _ in range(len(ids) + 1)]
    expected = []
    for b in range(len(blocks)):
        mine, row = owner[b * length : (b + 1) * length], []
        for i, document in enumerate(mine):
            row.append(row[-1] + 1 if i and mine[i - 1] == document else 0)
        expected.append(row)
    assert blocks.position_ids(range(len(blocks))).tolist() == expected
    sample = blocks.sample(2, seed=seed)
    for i in range(len(sample)):  # a sample still knows where its blocks come from
        stream = sample.index[i]
        assert sample.position_ids([i])[0].tolist() == expected[stream]
        names = [f"document:{d + 1}" for d in dict.fromkeys(owner[stream * length : (stream + 1) * length])]
        assert sample.documents_of([i]) == names


def test_blocks_without_a_table_say_so():
    bare = Blocks(tokens=np.zeros((1, 4), dtype=np.int32), documents=1, fingerprint="x")
    with pytest.raises(InputError, match="where documents begin"):
        bare.position_ids([0])
    assert bare.largest_token == 0


def test_the_fast_route_gives_the_tokens_that_calling_the_tokenizer_gives():
    tokenizer = _tokenizer()
    texts = ["One two.\n\n  three", "caf\u00e9 \u4e2d\u6587 <|endoftext|> x", ""]
    assert encode(texts, tokenizer) == tokenizer(texts, add_special_tokens=False)["input_ids"]
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-text"):
        tokenize(texts, tokenizer, sequence_length=2)


def test_a_huge_document_is_tokenised_in_pieces_and_loses_nothing(monkeypatch):
    monkeypatch.setattr("regrow.data.blocks.MAX_PIECE", 1000)
    tokenizer = _tokenizer()
    text = "".join(f"line {i} of a long document\n" for i in range(60)) + "x" * 1500
    assert 3000 < len(text) < 4000
    (ids,) = encode([text], tokenizer)
    assert tokenizer.decode(ids) == text
    whole = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert abs(len(ids) - len(whole)) <= 6  # next to the cuts


def _tokenizer():
    from transformers import AutoTokenizer

    from regrow.ladder import ASSETS

    return AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer"))
