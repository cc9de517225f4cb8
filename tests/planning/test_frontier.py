"""Methods and rates side by side: the non-dominated set by brute force, the choice, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.footprint import MemoryTarget, shape_for_memory
from regrow.planning import Budget, CompareSpec, Gain, PlanSpec, Target, compare, find_gpu, plan
from regrow.planning.frontier import SAME_LOSS, non_dominated

POINTS = hnp.arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))


def base(**changes: object) -> PlanSpec:
    return PlanSpec(**{"params_before": 5e8, "loss_before": 2.5, **changes})  # type: ignore[arg-type]


WITHIN = base(params_before=None, architecture="SmolLM2-1.7B", memory=MemoryTarget(max_memory="2.5GB"))


@pytest.fixture
def laws(make_law) -> list:
    width = {**make_law().params, "D_C": 6000.0, "E": 1.6}
    return [make_law(), make_law(method="width", params=width)]


@settings(deadline=None)
@given(points=POINTS)
def test_the_frontier_is_the_brute_force_one(points: np.ndarray) -> None:
    def beaten(i: int) -> bool:
        return any(np.all(other <= points[i]) and np.any(other < points[i]) for other in points)

    assert non_dominated(points).tolist() == [not beaten(i) for i in range(len(points))]


@settings(deadline=None)
@given(points=POINTS, seed=st.integers(0, 99))
def test_the_frontier_knows_no_order_no_scale_and_no_loser(points: np.ndarray, seed: int) -> None:
    found = non_dominated(points)
    assert found.any()
    order = np.random.default_rng(seed).permutation(len(points))
    assert non_dominated(points[order]).tolist() == found[order].tolist()
    assert non_dominated(3.0 * points + 1.0).tolist() == found.tolist()
    with_loser = np.vstack([points, points.max(axis=0) + 1.0])
    assert non_dominated(with_loser).tolist() == [*found, False]


def test_a_row_without_an_answer_neither_wins_nor_beats() -> None:
    assert non_dominated([[0.0, math.nan], [1.0, 1.0], [1.0, 1.0]]).tolist() == [False, True, True]
    assert non_dominated(np.empty((0, 3))).tolist() == []


def test_each_row_is_the_plan_that_regrow_plan_gives(laws) -> None:
    spec = CompareSpec(base=base(price_usd_per_hour=2.0), rates=(0.2, 0.3))
    found = compare(laws, spec)
    assert {(row.plan.method, row.plan.pruning_rate) for row in found.candidates} == {
        (m, r) for m in ("depth", "width") for r in (0.2, 0.3)
    }
    for row in found.candidates:
        law = next(law for law in laws if law.method == row.plan.method)
        alone = plan(law, base(price_usd_per_hour=2.0, pruning_rate=row.plan.pruning_rate))
        assert row.plan.to_dict() == alone.to_dict()
        assert (row.total_gpu_hours, row.total_cost_usd) == (alone.gpu_hours, alone.cost_usd)
        assert row.serving_gpu_hours is None
    losses = [row.plan.loss for row in found.candidates]
    assert losses == sorted(losses)


def test_one_deployment_size_sets_the_rate(laws) -> None:
    found = compare(laws, CompareSpec(base=base(), params_after=4e8))
    assert [row.plan.pruning_rate for row in found.candidates] == pytest.approx([0.2, 0.2])
    assert [row.plan.params_after for row in found.candidates] == pytest.approx([4e8, 4e8])


def test_sizes_above_the_one_asked_for_are_refused_with_their_size(laws, make_law) -> None:
    laws = [*laws, make_law(method="2:4")]
    arch = catalog()["Llama-3.2-1B"]
    spec = CompareSpec(base=base(params_before=None, architecture=arch), rates=(0.15, 0.35), params_after=0.8e9)
    found = compare(laws, spec)
    assert {row.plan.method for row in found.candidates} == {"depth", "width", "2:4"}
    assert all(row.plan.params_after <= 0.8e9 * 1.02 for row in found.candidates)
    assert {(r.method, r.pruning_rate) for r in found.refused} == {("depth", 0.15), ("width", 0.15)}
    assert all("above 800M" in r.why for r in found.refused)


def test_a_budget_is_spent_by_every_candidate_and_the_least_loss_taken(laws) -> None:
    found = compare(laws, CompareSpec(base=base(criterion=Budget(gpu_hours=3.0)), rates=(0.2, 0.3)))
    assert [row.plan.gpu_hours for row in found.candidates] == pytest.approx([3.0] * 4)
    assert all(row.plan.loss_low < row.plan.loss < row.plan.loss_high for row in found.candidates)
    least = found.candidates[0]
    assert found.chosen is not None
    assert found.chosen.plan.loss <= least.plan.loss + SAME_LOSS
    # equal cost: among those as good, the one with the fewest parameters
    near = [row.plan.params_after for row in found.candidates if row.plan.loss <= least.plan.loss + SAME_LOSS]
    assert found.chosen.plan.params_after == min(near)


def test_serving_is_paid_per_token_and_changes_the_choice(laws) -> None:
    target = base(criterion=Target(loss=2.75), price_usd_per_hour=2.0)
    spec = CompareSpec(base=target, rates=(0.2, 0.3), served_tokens=1e15, serving_mfu=0.2)
    trained, served = compare(laws, CompareSpec(base=target, rates=(0.2, 0.3))), compare(laws, spec)
    for row in served.candidates:
        assert row.inference_flops_per_token == pytest.approx(2 * row.plan.params_after)
        hours = 1e15 * row.inference_flops_per_token / (find_gpu("h100").peak_flops * 0.2) / 3600
        assert row.serving_gpu_hours == pytest.approx(hours)
        assert row.total_cost_usd == pytest.approx(2.0 * (row.plan.gpu_hours + hours))
    # all reach one loss: without serving the cheapest to train is taken, with it the smallest model
    assert trained.chosen.plan.pruning_rate == 0.2
    assert served.chosen.plan.pruning_rate == 0.3
    assert "to train and to serve 1e+03T tokens" in served.sentence()


def test_sparse_kernels_save_only_what_is_said(make_law) -> None:
    laws = [make_law(), make_law(method="2:4")]
    spec = {"base": base(params_before=None, architecture=catalog()["Llama-3.2-1B"]), "served_tokens": 1e12}
    dense, sparse = (compare(laws, CompareSpec(**spec, sparse_speedup=s)) for s in (1.0, 1.7))

    def flops(comparison, method: str) -> list[float]:
        return [row.inference_flops_per_token for row in comparison.candidates if row.plan.method == method]

    unpruned = catalog()["Llama-3.2-1B"].forward_flops_per_token(4096)
    assert flops(dense, "2:4") == [unpruned]
    assert flops(sparse, "2:4")[0] < unpruned
    assert flops(sparse, "depth") == flops(dense, "depth")
    with pytest.raises(InputError, match="2:4 saves 2 at most"):
        compare(laws[1:] * 2, CompareSpec(**spec, sparse_speedup=2.5))


def test_the_rate_of_a_mask_is_the_one_given_where_no_shape_tells(make_law) -> None:
    laws = [make_law(), make_law(method="2:4")]
    told, assumed = (compare(laws, CompareSpec(base=base(), masked_rates=rates)) for rates in ({"2:4": 0.31}, {}))
    assert [row.plan.pruning_rate for row in told.candidates if row.plan.method == "2:4"] == [0.31]
    (row,) = [row for row in assumed.candidates if row.plan.method == "2:4"]
    assert any("is assumed" in warning for warning in row.plan.warnings)
    with pytest.raises(InputError, match=r"pruning rate 1\.2"):
        CompareSpec(base=base(), masked_rates={"2:4": 1.2})


def test_one_law_that_fails_does_not_hide_the_others(laws, make_law) -> None:
    broken = make_law(method="other", status="failed", warnings=("too few runs",))
    found = compare([*laws, broken], CompareSpec(base=base(criterion=Target(loss=2.56)), rates=(0.2, 0.9)))
    assert {row.plan.pruning_rate for row in found.candidates} == {0.2}
    why = {(r.method, r.pruning_rate): r.why for r in found.refused}
    assert "failed to fit (too few runs)" in why["other", 0.2]
    assert "floor" in why["depth", 0.9]


def test_a_criterion_that_no_row_meets_leaves_no_choice(make_law) -> None:
    slow = {**make_law().params, "beta": 1e-4}
    law = make_law(params=slow, draws=np.array([list(slow.values())] * 3))
    found = compare([law], CompareSpec(base=base(criterion=Gain(min_gain=1e-9))))
    assert found.chosen is None
    assert found.frontier == ()
    assert "no candidate meets the criterion gain" in found.sentence()


def test_the_json_has_the_contracts_keys_and_the_frame_its_rows(laws) -> None:
    found = compare(laws, CompareSpec(base=base(), served_tokens=1e12))
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [row for row in told["candidates"] if row["on_frontier"]] == told["frontier"]
    assert [row for row in told["candidates"] if row["chosen"]] == [told["chosen"]]
    assert told["rule"] in found.sentence()
    frame = found.to_frame()
    assert len(frame) == len(found.candidates) == 6
    assert {"method", "pruning_rate", "params_after", "tokens_low", "loss_high", "total_gpu_hours"} <= set(frame)
    assert frame["loss"].is_monotonic_increasing


def test_two_rates_of_the_same_whole_blocks_are_one_row(make_law) -> None:
    spec = base(params_before=None, architecture=catalog()["SmolLM2-1.7B"])
    found = compare([make_law()], CompareSpec(base=spec, rates=(0.25, 0.251, 0.35)))
    assert len(found.candidates) == 2


def test_each_method_is_pruned_as_far_as_the_memory_takes(laws, make_law) -> None:
    arch = catalog()["SmolLM2-1.7B"]
    memory = MemoryTarget(max_memory="2.5GB", context="4k")
    of_shape = base(params_before=None, architecture=arch, memory=memory)
    experts = make_law(method="experts")
    found = compare([*laws, make_law(method="2:4"), experts], CompareSpec(base=of_shape, served_tokens=1e12))
    shapes = {row.plan.method: row for row in found.candidates}
    assert set(shapes) == {"depth", "width"}
    for method, row in shapes.items():
        alone = shape_for_memory(arch, method, memory)
        assert row.plan.pruning_rate == alone.rate
        assert row.plan.memory["total"] == memory.footprint(alone.architecture).total <= 2.5e9
        assert row.inference_flops_per_token == alone.architecture.forward_flops_per_token(4096)
    why = {refusal.method: refusal.why for refusal in found.refused}
    assert "2:4 leaves zeros in dense matrices, which take as much as before: 4.21 GB" in why["2:4"]
    assert "the model has no experts" in why["experts"]
    assert found.to_dict()["max_memory"] == 2.5e9


def test_each_method_leaves_a_token_as_many_parameters(laws) -> None:
    arch = catalog()["Qwen3-30B-A3B"]
    mixture = base(params_before=None, architecture=arch, active_params="2.5B", criterion=Budget(gpu_hours=100.0))
    for row in compare(laws, CompareSpec(base=mixture)).candidates:
        assert row.plan.active_params_before == arch.active_params
        assert row.plan.active_params_after == pytest.approx(2.5e9, rel=0.02)
        assert "3.35B -> 2.5" in dict(row.plan.facts())["of a token"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rates": (0.2, 1.0)}, "pruning rate 1"),
        ({"rates": (-0.2, 0.2)}, "pruning rate -0.2"),
        ({"rates": ()}, "no pruning rates"),
        ({"params_after": 6e8}, "600M parameters after pruning a model of 500M"),
        ({"params_after": -1.0}, "positive count"),
        ({"served_tokens": -1e12}, "served tokens"),
        ({"sparse_speedup": 0.5}, "sparse speed-up of 0.5"),
        ({"sparse_speedup": math.nan}, "sparse speed-up"),
        ({"serving_mfu": 1.5}, "MFU"),
        ({"base": base(pruning_rate=0.2)}, "a single pruning rate"),
        ({"base": WITHIN, "rates": (0.2, 0.3)}, "rates beside memory or parameters of a token"),
        ({"base": WITHIN, "params_after": 1e8}, "parameters to leave beside memory or parameters of a token"),
    ],
)
def test_bad_comparisons_are_one_line(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        CompareSpec(**{"base": base(), **changes})
    assert "\n" not in str(caught.value)


def test_there_must_be_something_to_compare(laws, make_law) -> None:
    with pytest.raises(InputError, match="one candidate"):
        compare(laws[:1], CompareSpec(base=base(), rates=(0.2, 0.2)))
    with pytest.raises(InputError, match=r"laws of 2 families.*llama, qwen"):
        compare([*laws, make_law(family="qwen")], CompareSpec(base=base()))
    with pytest.raises(InputError, match="laws of 0 families"):
        compare([], CompareSpec(base=base()))
    with pytest.raises(InputError, match=r"no candidate can be planned: depth: .*floor"):
        compare(laws, CompareSpec(base=base(criterion=Target(loss=2.5001))))
