"""Which plans a report opens with, where none, some or all of the question is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.planning import PlanSpec, plan
from regrow.report.answers import Question, answer


def test_unasked_it_plans_the_largest_size_at_its_middle_rate(study) -> None:
    runs = [*study.runs, *study.held_out]
    found = answer(study.laws, runs)
    assert [(p.method, p.params_before, p.pruning_rate) for p in found.plans] == [
        ("depth", 3e6, 0.35),
        ("width", 3e6, 0.35),
    ]
    spec = PlanSpec(params_before=3e6, pruning_rate=0.35, loss_before=2.91)
    assert found.plans[0].tokens == plan(study.laws[0], spec).tokens
    (compared,) = found.comparisons
    # rates that both laws were fitted on
    assert {(c.plan.method, c.plan.pruning_rate) for c in compared.candidates} == {
        (method, rate) for method in ("depth", "width") for rate in (0.15, 0.25, 0.35)
    }
    assert found.notes == ()


def test_no_cell_is_headlined_that_the_runs_do_not_support(study, make_run) -> None:
    """A run of a size that no law answers for must not become the report's answer."""
    far = replace(make_run(study.laws[0], 3_000_000, 0.25), params_before=300_000_000, params_after=225_000_000)
    found = answer(study.laws, [*study.runs, far])
    assert {p.params_before for p in found.plans} == {1.2e6}
    assert all(p.verdict != "cannot say" for p in found.plans)
    alone = answer(study.laws, [far])
    assert [p.verdict for p in alone.plans] == ["cannot say", "cannot say"]


def test_the_recommended_plan_stands_first(study, make_law) -> None:
    worse = {**study.laws[0].params, "D_C": 1.3 * study.laws[0].params["D_C"]}
    laws = [make_law(params=worse, draws=study.laws[0].draws), *study.laws[1:]]
    question = Question(params_before=3e6, pruning_rates=(0.3, 0.2), loss_before=2.9)
    first, *rest = answer(laws, study.runs, question).plans
    assert (first.method, first.pruning_rate) == ("width", 0.3)
    assert first.loss < next(p.loss for p in rest if p.pruning_rate == 0.3)
    asked = Question(params_before=3e6, pruning_rates=(0.3, 0.2), loss_before=2.9, method="depth")
    assert [(p.method, p.pruning_rate) for p in answer(laws, study.runs, asked).plans] == [
        ("depth", 0.3),
        ("depth", 0.2),
    ]


def test_a_comparison_that_was_asked_for_needs_two(study) -> None:
    one = {"params_before": 3e6, "pruning_rates": (0.25,), "loss_before": 2.9}
    assert answer(study.laws[:1], study.runs, Question(**one)).comparisons == ()
    with pytest.raises(InputError, match="--served-tokens compares two candidates or more, and there is one"):
        answer(study.laws[:1], study.runs, Question(**one, compared={"served_tokens": 1e12}))
    (compared,) = answer(study.laws, study.runs, Question(**one, compared={"served_tokens": 1e12})).comparisons
    assert compared.spec.served_tokens == 1e12
    assert answer(study.laws, study.runs, Question(**one, compare=False)).comparisons == ()


def test_asked_rates_and_costs_are_planned(study) -> None:
    question = Question(
        params_before=5e6, pruning_rates=(0.2, 0.3), loss_before=2.2, gpu="a100", price_usd_per_hour=2.0
    )
    found = answer(study.laws, study.runs, question)
    assert [(p.method, p.pruning_rate, p.gpu) for p in found.plans] == [
        (method, rate, "a100") for method in ("depth", "width") for rate in (0.2, 0.3)
    ]
    assert all(p.cost_usd == pytest.approx(2.0 * p.gpu_hours) for p in found.plans if p.tokens_reason is None)
    assert any(p.tokens_reason is None for p in found.plans)
    assert len(found.comparisons[0].candidates) == 4


def test_a_model_by_its_shape_is_counted_exactly(study) -> None:
    question = Question(architecture=catalog()["Llama-3.2-1B"], pruning_rates=(0.25,), loss_before=2.4)
    found = answer(study.laws, study.runs, question)
    assert all(p.flops_how.startswith("exact for the pruned shape") for p in found.plans)


def test_the_loss_of_a_size_that_was_run_need_not_be_given(study) -> None:
    found = answer(study.laws, study.runs, Question(params_before=1_200_000))
    assert {p.loss_before for p in found.plans} == {3.2}


def test_a_loss_that_nobody_knows_is_asked_for(study) -> None:
    with pytest.raises(InputError, match=r"the unpruned 8B; give it with --loss-before"):
        answer(study.laws, study.runs, Question(params_before=8e9))


def test_what_cannot_be_planned_is_a_note_where_nobody_asked(study, make_law) -> None:
    alone = make_law(method="single", diagnostics={"unsupported": {"params_before": "the runs have one model size"}})
    found = answer([study.laws[0], alone], [*study.runs, *study.held_out])
    assert [p.method for p in found.plans] == ["depth"]
    assert "the runs have one model size" in found.notes[0]
    with pytest.raises(InputError, match="one model size"):
        answer([alone], study.runs, Question(params_before=3e6, loss_before=2.9))


def test_a_failed_law_and_no_law_have_no_plan(make_law, study) -> None:
    assert answer([make_law(status="failed")], study.runs).plans == ()
    assert answer([], study.runs).plans == ()


def test_masked_laws_plan_at_the_rate_of_their_runs(study, make_law, make_run) -> None:
    law = make_law(method="2:4")
    run = replace(make_run(law, 3_000_000, 0.35), pruning_rate=0.32)
    found = answer([law], [run], Question(pruning_rates=(0.1,)))
    assert [p.pruning_rate for p in found.plans] == [0.32]
    (compared,) = answer([law, study.laws[0]], [run], Question(pruning_rates=(0.2,))).comparisons
    assert {(c.plan.method, c.plan.pruning_rate) for c in compared.candidates} == {("2:4", 0.32), ("depth", 0.2)}


def test_two_models_are_one_too_many() -> None:
    with pytest.raises(InputError, match="give one of them"):
        Question(params_before=1e9, architecture=catalog()["Llama-3.2-1B"])
