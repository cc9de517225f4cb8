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
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.95 \(.*\); nearest rates: 0\."):
        shapes.prune_shape(TINY, "depth", 0.95)
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.99999"):
        shapes.prune_shape(TINY, "width", 0.99999)
    with pytest.raises(InputError, match="needs a pruning rate"):
        shapes.prune_shape(TINY, "width", None)


def test_a_stated_multiple_is_kept_to() -> None:
    before = catalog()["Llama-3.1-8B"]
    for multiple in (64, 256):
        after = shapes.shape_for_rate(before, 0.25, multiple_of=multiple)
        assert after.hidden % multiple == after.intermediate % multiple == 0
        assert abs(shapes.rate_between(before, after) - 0.25) <= shapes.RATE_TOLERANCE
    # nine query heads: a hidden width that is a multiple of both 9 and 64 is the full one alone
    smol = catalog()["SmolLM2-135M"]
    assert shapes.shape_for_rate(smol, 0.2, multiple_of=64).hidden == smol.hidden
    with pytest.raises(InputError, match=r"nearest rates: 0\.\d+ and 0\.\d+"):
        shapes.shape_for_rate(TINY, 0.25, multiple_of=64)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen2.5-7B", "SmolLM2-135M"])
def test_candidate_shapes_differ_and_all_meet_the_rate(name: str) -> None:
    before = catalog()[name]
    found = shapes.shapes_for_rate(before, 0.25, 4)
    assert found[0] == shapes.shape_for_rate(before, 0.25)
    assert len({(shape.hidden, shape.kv_heads) for shape in found}) == len(found) == 4
    assert all(abs(shapes.rate_between(before, shape) - 0.25) <= shapes.RATE_TOLERANCE for shape in found)
    # one axis alone leaves nothing to choose
    assert len(shapes.shapes_for_rate(before, 0.25, 4, axes=("intermediate",))) == 1


def test_depth_within_a_tolerance_or_the_two_nearest() -> None:
    block = TINY.block_params / TINY.params
    assert shapes.layers_for_rate(TINY, block + 0.004, tolerance=0.005).layers == 2
    assert shapes.layers_for_rate(TINY, block + 0.006).layers == 2
    with pytest.raises(InputError, match=rf"nearest rates: {block:.4f} and {2 * block:.4f}"):
        shapes.layers_for_rate(TINY, block + 0.006, tolerance=0.005)


def test_explicit_shapes() -> None:
    assert shapes.explicit_shape(TINY, {"layers": 1}) == TINY.with_shape(layers=1)
    after = shapes.explicit_shape(TINY, {"hidden": 50, "kv_heads": 1})
    assert (after.hidden, after.kv_heads, after.heads, after.intermediate) == (50, 1, 2, TINY.intermediate)
    for sizes, says in (
        ({"hidden": 50}, "nearest: 48 and 52"),
        ({"hidden": 65}, "the model has 64"),
        ({"layers": 3}, "the whole model"),
        ({"layers": 0}, "give 1 to 3"),
    ):
        with pytest.raises(InputError, match=says):
            shapes.explicit_shape(TINY, sizes)
