"""From a rate to a shape and a plan, on the public architectures: no weights needed."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.pruning.outline import outline, outlines
from regrow.pruning.plan import PrunePlan, from_ranges, read_plan, to_ranges
from regrow.pruning.spec import PruneSpec
from regrow.shapes import (
    EVEN_ENOUGH,
    RATE_TOLERANCE,
    hidden_step,
    intermediate_step,
    layers_for_rate,
    shape_for_rate,
)

TINY = Architecture(
    model_type="llama", hidden=48, intermediate=112, layers=8, heads=4, kv_heads=2, head_dim=16, vocab=2048, tied=True
)


def rate_of(before, after):
    return 1 - after.params / before.params


#: Mixtures of experts keep the width of their experts: tests/pruning/test_experts.py.
DENSE = [name for name, shape in catalog().items() if not shape.experts]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.25, 0.35, 0.5])
def test_width_meets_the_rate_on_public_shapes(name, rate):
    before = catalog()[name]
    after = shape_for_rate(before, rate)
    assert abs(rate_of(before, after) - rate) <= RATE_TOLERANCE
    assert (after.layers, after.kv_heads, after.head_dim) == (before.layers, before.kv_heads, before.head_dim)
    if before.family.hidden_divides_by_heads:
        assert after.hidden % after.heads == 0
    assert after.hidden % 2 == 0


@pytest.mark.parametrize("name", DENSE)
def test_width_shrinks_both_axes_by_about_the_same_proportion(name):
    before = catalog()[name]
    after = shape_for_rate(before, 0.25)
    hidden, intermediate = after.hidden / before.hidden, after.intermediate / before.intermediate
    if before.square:
        assert hidden == 1 > intermediate
        return
    # no more apart than the two grids force
    step = hidden_step(before) / before.hidden + intermediate_step(before) / before.intermediate
    assert abs(hidden - intermediate) <= 2 * step


def test_steps():
    llama8b = TINY.with_shape(hidden=4096, intermediate=14336, heads=32, kv_heads=8)
    assert (hidden_step(llama8b), intermediate_step(llama8b)) == (128, 128)
    assert (hidden_step(TINY), intermediate_step(TINY)) == (4, 2)
    # SmolLM2-135M: nine query heads
    assert hidden_step(TINY.with_shape(hidden=576, heads=9, kv_heads=3)) == 36


def test_the_most_even_shape_is_chosen_by_brute_force():
    def unevenness(shape):
        return abs(math.log(shape.hidden / 48) - math.log(shape.intermediate / 112))

    grid = [TINY.with_shape(hidden=h, intermediate=i) for h in range(4, 49, 4) for i in range(2, 113, 2)]
    for rate in (0.1, 0.2, 0.3, 0.45):
        close = [shape for shape in grid if abs(rate_of(TINY, shape) - rate) <= RATE_TOLERANCE]
        best = min(map(unevenness, close))
        even = [shape for shape in close if unevenness(shape) <= best + EVEN_ENOUGH]
        assert shape_for_rate(TINY, rate) == min(even, key=lambda shape: abs(rate_of(TINY, shape) - rate))


def test_finer_feed_forward_steps_come_before_attention():
    # 32 KV heads and a coarse hidden width: on the grid only dropping KV groups would come near this rate
    assert shape_for_rate(catalog()["SmolLM2-1.7B"], 0.05).kv_heads == 32


def test_one_axis_alone():
    after = shape_for_rate(TINY, 0.2, axes=("intermediate",))
    assert set(PrunePlan(method="width", scorer="x", target_rate=0.2, before=TINY, after=after).changes) == {
        "intermediate"
    }
    assert abs(rate_of(TINY, after) - 0.2) <= RATE_TOLERANCE


def test_kv_groups_shrink_when_asked():
    before = replace(TINY, model_type="qwen2", heads=16, kv_heads=8, qkv_bias=True)
    after = shape_for_rate(before, 0.35, axes=("hidden", "intermediate", "kv_heads"))
    assert after.kv_heads < 8
    assert after.heads == 2 * after.kv_heads


def test_kv_groups_shrink_when_nothing_else_reaches_the_rate():
    # one hidden width (64 heads divide only 64), almost no feed-forward: only attention can give way
    before = TINY.with_shape(hidden=64, heads=64, kv_heads=8, intermediate=2)
    assert shape_for_rate(before, 0.418).kv_heads < 8
    with pytest.raises(InputError, match="no shape of this model"):
        shape_for_rate(before, 0.418, axes=("hidden", "intermediate"))


@pytest.mark.parametrize("rate", [1e-6, 0.9999])
@pytest.mark.parametrize("method", ["depth", "width"])
def test_rates_no_shape_admits_name_the_nearest(method, rate):
    with pytest.raises(InputError, match=r"nearest rates: 0\.\d+ and 0\.\d+") as error:
        outline(TINY, PruneSpec(method=method, rate=rate))
    assert "\n" not in str(error.value)


def test_a_shape_with_no_axis_to_shrink():
    with pytest.raises(InputError, match="no shape of this model"):
        shape_for_rate(TINY.with_shape(hidden=4, intermediate=2), 0.2, axes=("hidden",))


@given(rate=st.floats(0.001, 0.999))
@settings(max_examples=200, deadline=None)
def test_depth_is_the_nearest_or_an_error(rate):
    block = TINY.block_params / TINY.params
    nearest = min(range(1, TINY.layers), key=lambda count: abs(count * block - rate))
    if abs(nearest * block - rate) <= block / 2:
        assert layers_for_rate(TINY, rate).layers == TINY.layers - nearest
    else:
        with pytest.raises(InputError, match="nearest rates"):
            layers_for_rate(TINY, rate)


def test_depth_of_one_block():
    with pytest.raises(InputError, match="one block"):
        layers_for_rate(TINY.with_shape(layers=1), 0.2)
    assert layers_for_rate(TINY.with_shape(layers=2), 0.17).layers == 1


def test_n_m_counts_and_divisibility():
    plan = outline(TINY, PruneSpec(method="2:4"))
    assert plan.params_after == TINY.params - TINY.layers * TINY.block_matrix_params // 2
    assert outline(TINY, PruneSpec(method="1:4")).params_after < plan.params_after
    assert plan.target_rate is None
    with pytest.raises(InputError, match=r"110 of mlp\.down_proj does not divide into groups of 4"):
        outline(TINY.with_shape(intermediate=110), PruneSpec(method="2:4"))


@given(st.sets(st.integers(0, 50)))
def test_ranges_round_trip(indices):
    assert from_ranges(to_ranges(sorted(indices))) == tuple(sorted(indices))


def test_ranges_read_well():
    assert to_ranges([0, 1, 2, 4, 7, 8]) == "0-2,4,7-8"


@pytest.mark.parametrize(
    "spec", [PruneSpec(method="depth", rate=0.2), PruneSpec(method="width", rate=0.2), PruneSpec(method="2:4")]
)
def test_plan_round_trips_through_json(spec):
    plan = outline(TINY, spec)
    data = json.loads(json.dumps(plan.to_dict()))
    assert PrunePlan.from_dict(data) == plan
    assert data["pruning_rate"] == 1 - data["params_after"] / data["params_before"]
    with pytest.raises(InputError, match="not a prune plan"):
        PrunePlan.from_dict({"method": "depth"})


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Llama-3.2-1B", "Qwen2.5-0.5B", "SmolLM2-135M"])
def test_a_parameter_count_is_met(name):
    before = catalog()[name]
    asked = round(0.8 * before.params)
    for method, allowed in (("width", RATE_TOLERANCE), ("depth", 0.5 * before.block_params / before.params)):
        plan = outline(before, PruneSpec(method=method, params=asked))
        assert abs(plan.params_after - asked) / before.params <= allowed
        assert (plan.target_params, plan.target_rate) == (asked, 1 - asked / before.params)
    with pytest.raises(InputError, match="parameters asked of a model that has"):
        outline(before, PruneSpec(method="width", params=before.params))


def test_a_shape_is_taken_as_it_is():
    plan = outline(TINY, PruneSpec(method="width", shape={"hidden": 44, "intermediate": 51}))
    assert plan.changes == {"hidden": (48, 44), "intermediate": (112, 51)}
    assert (plan.target_rate, plan.notes) == (None, ())
    assert outline(TINY, PruneSpec(method="depth", shape={"layers": 1})).after.layers == 1


def test_depth_that_misses_by_more_than_half_a_point_says_so():
    block = TINY.block_params / TINY.params
    near, far = (PruneSpec(method="depth", rate=2 * block + off) for off in (0.004, 0.01))
    assert outline(TINY, near).notes == ()
    (note,) = outline(TINY, far).notes
    assert f"nearest in whole blocks is {2 * block:.4f} (-1.00 points" in note
    assert outline(TINY, replace(near, strict=True)) == outline(TINY, near)
    with pytest.raises(InputError, match="nearest rates"):
        outline(TINY, replace(far, strict=True))


def test_an_odd_feed_forward_width_is_said():
    before = catalog()["SmolLM2-1.7B"]
    (note,) = outline(before, PruneSpec(method="width", rate=0.05)).notes
    assert "the feed-forward width 7616 is not a multiple of 128" in note
    assert outline(before, PruneSpec(method="width", rate=0.25)).notes == ()


def test_counts_without_the_embeddings():
    for spec in (PruneSpec(method="depth", rate=0.2), PruneSpec(method="width", rate=0.2), PruneSpec(method="2:4")):
        plan = outline(TINY, spec)
        # tied: the embedding is counted once in the total
        assert plan.params_after - plan.non_embedding_after == TINY.vocab * plan.after.hidden
        assert plan.params_before - plan.non_embedding_before == TINY.vocab * TINY.hidden


def test_a_search_has_several_outlines():
    plans = outlines(TINY, PruneSpec(method="width", rate=0.25, search=3))
    assert len({plan.after for plan in plans}) == 3
    assert plans[0] == outline(TINY, PruneSpec(method="width", rate=0.25))


def test_plans_from_files(tmp_path):
    outlined = outline(TINY, PruneSpec(method="depth", rate=0.2))
    plan = replace(outlined, dropped_layers=tuple(range(8 - outlined.after.layers)))
    assert (outlined.decided, plan.decided) == (False, True)
    for name, content in (("plan", plan.to_dict()), ("record", {"plan": plan.to_dict()})):
        (tmp_path / name).write_text(json.dumps(content))
        assert read_plan(tmp_path / name) == plan
    for change in ({"dropped_layers": [0]}, {"dropped_layers": [0, 99]}, {"kept_hidden": "0-3"}, {"before": None}):
        (tmp_path / "bad").write_text(json.dumps(plan.to_dict() | change))
        with pytest.raises(InputError, match="not a prune plan"):
            read_plan(tmp_path / "bad")
    (tmp_path / "bad").write_text("[]")
    for path in (tmp_path / "bad", tmp_path / "absent", tmp_path):
        with pytest.raises(InputError):
            read_plan(path)
