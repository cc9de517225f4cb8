import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.data import BlockOrder, documents_seen, pack, repetition
from regrow.errors import InputError


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


@given(blocks=st.integers(1, 40), seed=st.integers(0, 99), positions=st.integers(0, 130))
def test_how_often_each_block_was_seen(blocks, seed, positions):
    order = BlockOrder(blocks=blocks, seed=seed)
    seen = np.bincount([order[i] for i in range(positions)], minlength=blocks)
    assert order.times(positions).tolist() == seen.tolist()
    assert order.unique(positions) == np.count_nonzero(seen)


@given(
    lengths=st.lists(st.integers(0, 12), min_size=2, max_size=8),
    length=st.integers(2, 5),
    positions=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_the_documents_seen_are_those_of_the_blocks_seen(lengths, length, positions, seed):
    if sum(n + 1 for n in lengths) < length:
        return
    blocks = pack([[1] * n for n in lengths], eos=0, sequence_length=length)
    owner = [d for d, n in enumerate(lengths) for _ in range(n + 1)]
    counts = dict.fromkeys(range(len(lengths)), 0)
    order = BlockOrder(blocks=len(blocks), seed=seed)
    for i in range(positions):
        for d in owner[order[i] * length : (order[i] + 1) * length]:
            counts[d] += 1
    found = documents_seen(blocks, seed=seed, tokens=positions * length)
    expected = [(f"document:{d + 1}", lengths[d] + 1, n) for d, n in counts.items() if n]
    assert [(d.name, d.tokens, d.tokens_seen) for d in found] == expected


def test_what_the_cursor_refuses():
    blocks = pack([[1] * 50], eos=0, sequence_length=4)
    with pytest.raises(InputError, match="not whole blocks"):
        documents_seen(blocks, seed=0, tokens=6)
    with pytest.raises(InputError, match="where documents begin"):
        documents_seen(blocks.sample(2, seed=0), seed=0, tokens=4)


def test_a_run_that_repeats_its_data_is_told():
    blocks = pack([[1] * 50], eos=0, sequence_length=5)
    assert repetition(blocks, tokens=50) is None
    assert "100 tokens are 2.00 passes over the 50 unique" in repetition(blocks, tokens=100)
