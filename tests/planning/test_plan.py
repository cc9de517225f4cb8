"""The plan as a whole: its keys, its warnings, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.laws import Setting
from regrow.planning import Budget, Gain, PlanSpec, Recovery, Slope, Target, plan
from regrow.planning.answer import perplexity, say_perplexity

CONTRACT = (
    "tokens",
    "tokens_low",
    "tokens_high",
    "criterion",
    "loss",
    "loss_low",
    "loss_high",
    "flops",
    "gpu_hours",
    "cost_usd",
    "warnings",
)


def spec(**changes: object) -> PlanSpec:
    return PlanSpec(**{"params_before": 5e8, "pruning_rate": 0.25, "loss_before": 2.5, **changes})  # type: ignore[arg-type]


def test_a_plan_has_the_contracts_keys_and_is_json(make_law) -> None:
    answer = plan(make_law(), spec()).to_dict()
    assert set(CONTRACT) <= set(answer)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert answer["tokens_low"] < answer["tokens"] < answer["tokens_high"]
    assert answer["loss_low"] < answer["loss"] < answer["loss_high"]
    assert answer["criterion"] == "gain"
    assert answer["next_doubling_gain"] == pytest.approx(0.01)
    assert answer["cost_usd"] is None
    assert answer["warnings"] == []
    assert answer["extrapolates"] == {}


def test_the_sentence_says_tokens_interval_criterion_and_cost(make_law) -> None:
    said = plan(make_law(), spec(price_usd_per_hour=2.0)).sentence()
    assert "stop at" in said
    assert "90%" in said
    assert "doubling the tokens buys less than 0.01 nats" in said
    assert "USD" in said
    assert "\n" not in said


def test_an_architecture_brings_its_exact_size_and_flops(make_law) -> None:
    arch = catalog()["Qwen2.5-0.5B"]
    answer = plan(make_law(), spec(params_before=None, architecture=arch, context=2048))
    assert answer.params_before == 494_032_768
    assert "exact for the pruned shape at context 2048" in answer.flops_how
    # whole blocks: the law is read at the rate they reach, not at the one asked for
    pruned = arch.with_shape(layers=16)
    assert answer.params_after == pruned.params
    assert answer.pruning_rate == pytest.approx(1 - pruned.params / arch.params)
    counted = plan(make_law(), spec(params_before=arch.params, pruning_rate=answer.pruning_rate))
    assert answer.tokens == pytest.approx(counted.tokens, rel=1e-12)


def test_a_model_of_another_family_is_told(make_law) -> None:
    qwen = plan(make_law(), spec(params_before=None, architecture=catalog()["Qwen2.5-0.5B"]))
    assert any("family llama, the model a qwen2" in warning for warning in qwen.warnings)
    for family, name in (("llama", "Llama-3.2-1B"), ("my-models", "Qwen2.5-0.5B"), ("Qwen2.5", "Qwen2.5-0.5B")):
        own = plan(make_law(family=family), spec(params_before=None, architecture=catalog()[name]))
        assert not any("family" in warning for warning in own.warnings)


def test_a_rate_for_n_m_that_is_not_the_patterns_is_refused(make_law) -> None:
    arch = catalog()["Llama-3.2-1B"]
    with pytest.raises(InputError, match=r"pruning rate 0\.3; the pattern removes 0\.394 of this model"):
        plan(make_law(method="2:4"), spec(params_before=None, architecture=arch, pruning_rate=0.3))


@pytest.mark.parametrize(
    "criterion",
    [Gain(), Slope(max_slope=1e-5), Recovery(), Target(loss=2.7), Budget(gpu_hours=2.0)],
    ids=lambda c: c.name,
)
def test_every_criterion_says_its_name_an_interval_and_what_twice_the_tokens_buy(make_law, criterion) -> None:
    law = make_law()
    answer = plan(law, spec(criterion=criterion))
    assert answer.criterion == criterion.name
    assert f"by the criterion {criterion.name}" in answer.sentence()
    assert answer.loss_low < answer.loss < answer.loss_high
    ask = Setting(params_before=5e8, pruning_rate=0.25, loss_before=2.5)
    once, twice = (float(law.loss(ask.at(t))) for t in (answer.tokens, 2 * answer.tokens))
    assert answer.loss == pytest.approx(once, rel=1e-12)
    assert answer.next_doubling_gain == pytest.approx(once - twice, rel=1e-9)
    if criterion.name == "budget":
        assert answer.tokens_low == answer.tokens == answer.tokens_high
    else:
        assert answer.tokens_low < answer.tokens < answer.tokens_high
    if criterion.name != "gain":  # whose threshold says it already
        assert "The next doubling of the tokens would buy" in answer.sentence()


@pytest.mark.parametrize(("name", "value"), [("params_before", 8e9), ("pruning_rate", 0.5)])
def test_what_the_runs_cannot_support_is_refused_with_the_run_that_would(make_law, name: str, value: float) -> None:
    law = make_law(diagnostics={"unsupported": {name: "the runs show one value of it"}})
    spoken = name.replace("params_before", "model size").replace("_", " ")
    with pytest.raises(InputError, match=rf"{spoken} of .*: the runs show one.*a run at another {spoken} .*support it"):
        plan(law, spec(**{name: value}))
    plan(law, spec())  # inside, nothing stands in the way
    edge = {"params_before": 1.09e9, "pruning_rate": 0.35 * 1.09}[name]
    assert plan(law, spec(**{name: edge})).extrapolates[name] == pytest.approx(1.09)


def test_a_teachers_forward_pass_is_paid_for(make_law) -> None:
    alone, taught = plan(make_law(), spec()), plan(make_law(), spec(teacher=7e9))
    assert taught.tokens == alone.tokens
    assert taught.flops - alone.flops == pytest.approx(2 * 7e9 * alone.tokens)
    assert "teacher of 7B" in taught.flops_how


def test_a_budget_of_less_than_a_token_is_refused(make_law) -> None:
    with pytest.raises(InputError, match="less than one token"):
        plan(make_law(), spec(criterion=Budget(gpu_hours=1e-15)))


def test_a_loss_right_after_pruning_below_the_loss_before_is_said_with_its_size(make_law) -> None:
    spec = PlanSpec(params_before=2e6, pruning_rate=0.25, loss_before=2.9, loss_pruned=2.7)
    (note,) = [w for w in plan(make_law(), spec).warnings if w.startswith("the loss right after pruning")]
    assert "0.2 nats below the loss before it" in note
    assert note.endswith("if the two are in the wrong order, exchange --loss-before and --loss-pruned")
    assert not [w for w in plan(make_law(), replace(spec, loss_pruned=3.1)).warnings if "no gap to close" in w]


def test_an_extrapolation_is_named_by_how_much(make_law) -> None:
    answer = plan(make_law(), spec(params_before=8e9, pruning_rate=0.5, criterion=Budget(gpu_hours=1.0)))
    assert answer.extrapolates == pytest.approx({"params_before": 8.0, "pruning_rate": 0.5 / 0.35})
    assert any("model size is 8 times above the largest fitted, 1B" in w for w in answer.warnings)
    below = plan(make_law(), spec(params_before=5e7, criterion=Budget(gpu_hours=0.1)))
    assert below.extrapolates == pytest.approx({"params_before": 2.0})
    assert any("2 times below the smallest fitted, 100M" in w for w in below.warnings)


def test_a_failed_law_is_refused_and_a_weak_one_warns(make_law) -> None:
    with pytest.raises(InputError, match="failed to fit"):
        plan(make_law(status="failed", warnings=("too few runs",)), spec())
    answer = plan(make_law(status="flat", warnings=("two sizes cannot tell N_C from E",)), spec())
    assert answer.warnings[0].startswith("the law's fit is flat")
    assert answer.warnings[1] == "the law: two sizes cannot tell N_C from E"


def test_gaps_from_a_control_are_said(make_law) -> None:
    said = plan(make_law(baseline="control"), spec()).warnings
    assert any("must be the control's" in warning for warning in said)
    assert not any("control" in warning for warning in plan(make_law(), spec()).warnings)


def test_a_criterion_never_met_gives_none_and_says_so(make_law) -> None:
    slow = {**make_law().params, "beta": 1e-4}
    answer = plan(make_law(params=slow, draws=np.array([list(slow.values())] * 3)), spec(criterion=Gain(min_gain=1e-9)))
    assert answer.tokens is None
    assert answer.tokens_high is None
    assert answer.loss is None
    assert answer.flops is None
    assert answer.gpu_hours is None
    assert any("not met" in w for w in answer.warnings)
    assert "no number of tokens" in answer.sentence()


def test_draws_that_never_get_there_leave_the_top_open(make_law) -> None:
    law = make_law()
    draws = law.draws.copy()
    draws[:60, 6] = 100.0  # a fifth of the draws has its floor far above the target
    answer = plan(make_law(draws=draws), spec(criterion=Target(loss=2.7)))
    assert answer.tokens is not None
    assert answer.tokens_low is not None
    assert answer.tokens_high is None
    assert any("in 20% of the law's draws" in w for w in answer.warnings)
    assert "or more" in answer.sentence()


def test_a_criterion_met_at_once_is_said(make_law) -> None:
    answer = plan(make_law(), spec(criterion=Target(loss=1e6)))
    assert any("no post-training is needed" in w for w in answer.warnings)


def test_without_draws_there_is_no_interval(make_law) -> None:
    answer = plan(make_law(draws=np.empty((0, 7))), spec())
    assert answer.tokens is not None
    assert answer.tokens_low is None
    assert any("no interval" in w for w in answer.warnings)


def test_budgets_turn_into_tokens_and_back(make_law) -> None:
    hours = plan(make_law(), spec(criterion=Budget(gpu_hours=12.0), price_usd_per_hour=3.0))
    assert hours.gpu_hours == pytest.approx(12.0)
    assert hours.cost_usd == pytest.approx(36.0)
    money = plan(make_law(), spec(criterion=Budget(usd=36.0), price_usd_per_hour=3.0))
    assert money.tokens == pytest.approx(hours.tokens)


def test_the_rate_of_two_to_four_comes_from_the_shape(make_law) -> None:
    law = make_law(method="2:4")
    arch = catalog()["Llama-3.2-1B"]
    shaped = plan(law, spec(params_before=None, architecture=arch, pruning_rate=None))
    assert shaped.pruning_rate == pytest.approx(0.5 * 16 * arch.block_matrix_params / arch.params)
    counted = plan(law, spec(pruning_rate=None))
    assert counted.pruning_rate == pytest.approx(0.25)
    assert any("is assumed" in w for w in counted.warnings)
    with pytest.raises(InputError, match="needs a pruning rate"):
        plan(make_law(), spec(pruning_rate=None))


def test_recovery_says_from_where(make_law) -> None:
    answer = plan(make_law(), spec(criterion=Recovery(share=0.8)))
    assert "fewest tokens fitted, 1M" in answer.sentence()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pruning_rate": 0.0}, "between 0 and 1"),
        ({"pruning_rate": 1.0}, "between 0 and 1"),
        ({"pruning_rate": -0.1}, "between 0 and 1"),
        ({"params_before": None}, "one model"),
        ({"architecture": catalog()["SmolLM2-135M"]}, "one model"),
        ({"params_before": 0.0}, "positive count"),
        ({"loss_before": float("nan")}, "nats per token"),
        ({"gpu": "h10"}, "unknown GPU"),
        ({"mfu": 0.0}, "MFU"),
        ({"price_usd_per_hour": -1.0}, "not negative"),
        ({"teacher": 0.5}, "a teacher of 0.5 parameters"),
        ({"level": 1.0}, "level"),
        ({"context": 0}, "at least 1"),
        ({"criterion": Budget(usd=10.0)}, "price of a GPU-hour"),
    ],
)
def test_bad_input_is_one_line(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        spec(**changes)
    assert "\n" not in str(caught.value)


def test_planning_imports_numpy_only() -> None:
    heavy = "{'scipy', 'pandas', 'torch', 'transformers', 'jinja2'} & set(sys.modules)"
    code = f"import sys, regrow.planning.frontier, regrow.planning.utilisation; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_models_and_counts_may_be_text(make_law) -> None:
    named = plan(make_law(), spec(params_before=None, architecture="Qwen2.5-0.5B", teacher="Qwen2.5-1.5B"))
    shaped = plan(
        make_law(),
        spec(params_before=None, architecture=catalog()["Qwen2.5-0.5B"], teacher=catalog()["Qwen2.5-1.5B"]),
    )
    assert (named.tokens, named.flops, named.model) == (shaped.tokens, shaped.flops, "Qwen2.5-0.5B")
    assert plan(make_law(), spec(params_before="500M")).tokens == plan(make_law(), spec()).tokens
    for wrong in ({"params_before": "many"}, {"params_before": None, "architecture": "Qwen2.5-0.6B"}):
        with pytest.raises(InputError):
            spec(**wrong)


def test_a_printed_plan_is_its_verdict_and_its_block(make_law) -> None:
    answer = plan(make_law(), spec())
    lines = str(answer).splitlines()
    assert lines[0] == answer.judgement()
    assert any(line.split() == ["parameters", "500M", "->", "375M"] for line in lines)
    assert dict(answer.facts())["tokens"].endswith("90%)")


@pytest.mark.parametrize("name", ["loss_before", "loss_pruned"])
def test_a_perplexity_in_the_place_of_a_loss_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="of 60; give nats per token: take the logarithm of a perplexity"):
        PlanSpec(**{"params_before": 1e9, "pruning_rate": 0.25, "loss_before": 2.5, name: 60.0})


def test_a_perplexity_past_what_a_number_holds_is_none() -> None:
    assert perplexity(np.log(12.0)) == pytest.approx(12.0)
    assert perplexity(800.0) is None
    assert say_perplexity(800.0) == "over 1e+06"
