"""The search for a width, against one that looks at every shape; and what the search says where there is none."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from regrow import shapes
from regrow.arch import Architecture, catalog
from regrow.errors import InputError

TINY = Architecture(
    model_type="llama", hidden=64, intermediate=176, layers=3, heads=4, kv_heads=2, head_dim=16, vocab=512, tied=True
)


def brute(before: Architecture, rate: float) -> Architecture | None:
    """The rule of `shape_for_rate` by looking at every shape on the first grid."""
    found = []
    hiddens = [before.hidden, *range((before.hidden - 1) // 4 * 4, 0, -4)]
    inters = [before.intermediate, *range((before.intermediate - 1) // 2 * 2, 0, -2)]
    for hidden in hiddens:
        for inter in inters:
            shape = before.with_shape(hidden=hidden, intermediate=inter)
            off = abs(shapes.rate_between(before, shape) - rate)
            if shape.params < before.params and off <= shapes.RATE_TOLERANCE:
                uneven = abs(math.log(hidden / before.hidden) - math.log(inter / before.intermediate))
                found.append((uneven, off, shape))
    if not found:
        return None
    even = min(uneven for uneven, _, _ in found) + shapes.EVEN_ENOUGH
    return min((f for f in found if f[0] <= even), key=lambda f: (f[1], f[0]))[2]


@settings(deadline=None, max_examples=60)
@given(rate=st.floats(0.02, 0.85), vocab=st.sampled_from([64, 512, 2048]), heads=st.sampled_from([1, 2, 4]))
def test_the_search_is_the_one_that_looks_everywhere(rate: float, vocab: int, heads: int) -> None:
    before = TINY.with_shape(vocab=vocab, heads=heads, kv_heads=1)
    assert (shapes.hidden_step(before), shapes.intermediate_step(before)) == (4, 2)
    truth = brute(before, rate)
    assume(truth is not None)
    assert shapes.shape_for_rate(before, rate) == truth


@pytest.mark.parametrize("name", ["SmolLM2-135M", "Qwen2.5-7B", "Llama-3.1-405B"])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_rates_reached_are_near_those_asked(name: str, rate: float) -> None:
    before = catalog()[name]
    width = shapes.prune_shape(before, "width", rate)
    depth = shapes.prune_shape(before, "depth", rate)
    assert width is not None
    assert depth is not None
    assert abs(width.rate - rate) <= shapes.RATE_TOLERANCE
    assert abs(depth.rate - rate) <= 0.5 * before.block_params / before.params + 1e-12
    for pruned in (width, depth):
        assert pruned.params == pruned.architecture.params
        assert pruned.rate == 1 - pruned.params / before.params


def test_n_m_keeps_the_shape_and_counts_what_is_not_zero() -> None:
    pruned = shapes.prune_shape(TINY, "2:4", None)
    assert pruned is not None
    assert pruned.architecture == TINY
    assert pruned.params == TINY.params - TINY.layers * TINY.block_matrix_params // 2
    quarter = shapes.prune_shape(TINY, "1:4", None)
    assert quarter is not None
    assert TINY.params - quarter.params == TINY.layers * TINY.block_matrix_params * 3 // 4


def test_methods_from_elsewhere_have_no_known_shape() -> None:
    assert shapes.prune_shape(TINY, "other", 0.2) is None


def test_rates_that_nothing_reaches_name_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.95; nearest rates: 0\."):
        shapes.prune_shape(TINY, "depth", 0.95)
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.99999"):
        shapes.prune_shape(TINY, "width", 0.99999)
    with pytest.raises(InputError, match="needs a pruning rate"):
        shapes.prune_shape(TINY, "width", None)
