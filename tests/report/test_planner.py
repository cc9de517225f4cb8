"""The planner in the page against Python: the same numbers, in a real browser and in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.laws import FORMS, Law, Setting, load_laws, save_laws
from regrow.planning import PlanSpec, criterion_from, plan
from regrow.planning.criteria import CRITERIA
from regrow.report import build_report
from regrow.report.page import read
from regrow.report.planner import as_script, forms_script, payload

#: what the page says and the plan has, under the same name
NUMBERS = ("tokens", "tokens_low", "tokens_high", "loss", "loss_low", "loss_high", "next_doubling_gain", "floor")
COSTS = ("flops", "gpu_hours", "cost_usd", "pruning_rate", "params_after", "gap")
OPTIONS = {
    "gain": {"min_gain": "min_gain"},
    "slope": {"max_slope": "max_slope"},
    "recovery": {"share": "share", "loss_pruned": "loss_pruned"},
    "target": {"target": "loss"},
    "budget": {"budget_hours": "gpu_hours"},
}


def laws_of_all_kinds(make_law: Callable[..., Law]) -> list[Law]:
    """Every form; depth, width and N:M; with and without a size's luck; one of a single rate."""
    lucky = {"size_spread": 0.15, "diagnostics": {"size_dof": 2.0, "run_dof": 5.0}}
    wide = {**make_law().ranges, "params_before": (1e4, 1e11), "pruning_rate": (0.01, 0.9), "loss_before": (0.5, 9.0)}
    wide["tokens"] = (1e2, 1e10)
    held_out = {"held_out_error": 0.01}
    near = {"draws": make_law().draws * 1e-3 + 0.999 * np.array(list(make_law().params.values()))}
    one_rate = {"unsupported": {"pruning_rate": "the runs have one pruning rate, 0.25"}}
    return [
        *(make_law(form=form, **(lucky if i % 2 else {})) for i, form in enumerate(FORMS)),
        make_law(method="width", **lucky),
        make_law(method="2:4", **lucky),
        make_law(method="single", diagnostics=one_rate),
        make_law(method="sure", ranges=wide, diagnostics=held_out, **near),
        make_law(method="poor", ranges=wide, diagnostics={"held_out_error": 0.04}, **near),
        make_law(method="known", ranges=wide, sizes={3_000_000: known_size(make_law())}),
        make_law(method="odd", ranges=wide, status="flat", **near),
    ]


def known_size(law: Law) -> np.ndarray:
    """Parameters for a model that the fit has seen: the law's and its draws', each shifted."""
    return np.vstack([law.theta, law.draws]) * np.where(np.arange(len(law.theta)) == 5, 1.3, 1.0)


def random_setting(rng: np.random.Generator, laws: list[Law]) -> dict[str, Any]:
    number = int(rng.integers(len(laws)))
    law = laws[number]
    named = rng.random() < 0.4
    model = str(rng.choice(list(catalog()))) if named else ""
    s: dict[str, Any] = {
        "law": number,
        "model": model,
        "params_before": float(catalog()[model].params if named else np.exp(rng.uniform(np.log(1e5), np.log(1e11)))),
        # the page knows width-pruned shapes of named models at every hundredth
        "pruning_rate": round(float(rng.uniform(0.06, 0.5 if named else 0.8)), 2 if named else 6),
        "loss_before": float(rng.uniform(1.5, 4.0)),
        "criterion": str(rng.choice(list(CRITERIA))),
        "min_gain": float(np.exp(rng.uniform(np.log(1e-3), np.log(0.1)))),
        "max_slope": float(np.exp(rng.uniform(np.log(1e-6), np.log(1.0)))),
        "share": float(rng.uniform(0.3, 0.97)),
        "loss_pruned": None,
        "budget_hours": float(np.exp(rng.uniform(np.log(1e-3), np.log(1e5)))),
        "gpu": str(rng.choice(["h100", "a100", "mi300x"])),
        "mfu": float(rng.uniform(0.2, 0.6)),
        "price": None if rng.random() < 0.3 else float(rng.uniform(0.5, 8.0)),
        "trial": 1e9,
    }
    if law.sizes and not named:
        s["params_before"] = 3e6 * float(rng.choice([1.0005, 1.1]))
    x = Setting(**{name: s[name] for name in ("params_before", "pruning_rate", "loss_before")})
    first, floor = (float(law.loss(x.at(tokens))) for tokens in (2e4, np.inf))
    s["target"] = floor + float(rng.uniform(-0.1, 1.0)) * (first - floor)
    if rng.random() < 0.5:
        s["loss_pruned"] = floor + float(rng.uniform(-0.1, 2.0)) * (first - floor)
    return s


def ask(s: dict[str, Any], law: Law) -> PlanSpec:
    named = bool(s["model"])
    return PlanSpec(
        architecture=catalog()[s["model"]] if named else None,
        params_before=None if named else s["params_before"],
        pruning_rate=None if named and law.method == "2:4" else s["pruning_rate"],
        loss_before=s["loss_before"],
        loss_pruned=s["loss_pruned"],
        criterion=criterion_from(s["criterion"], **{to: s[of] for of, to in OPTIONS[s["criterion"]].items()}),
        gpu=s["gpu"],
        mfu=s["mfu"],
        price_usd_per_hour=s["price"],
    )


def in_browser(laws: list[Law], settings: list[dict[str, Any]], tmp_path: Path, request: Any) -> list[dict[str, Any]]:
    browser = request.getfixturevalue("browser")
    page = tmp_path / "report.html"
    page.write_text(build_report([], laws))
    browser.open(page)
    assert browser.said == []
    return json.loads(browser.run(_ANSWERS % json.dumps(settings)))


def in_node(laws: list[Law], settings: list[dict[str, Any]], tmp_path: Path, request: Any) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here: apt-get install nodejs")
    script = tmp_path / "planner.js"
    text = str(as_script(payload(laws, [])))
    script.write_text(
        forms_script()
        + read("planner.js")
        + read("planner_answer.js")
        + f"const document = {{ getElementById: () => ({{ textContent: {json.dumps(text)} }}) }};"
        + f"console.log({_ANSWERS % json.dumps(settings)});"
    )
    done = subprocess.run([node, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_ANSWERS = """(settings => {
  const data = prepare(JSON.parse(document.getElementById("planner-data").textContent));
  return JSON.stringify(settings.map(s => ({ ...planFor(data, s), curves: null })));
})(%s)"""


def test_the_page_knows_every_form() -> None:
    assert all(form.javascript for form in FORMS.values())


@pytest.mark.parametrize("run", [in_browser, in_node], ids=["chromium", "node"])
def test_the_page_says_what_plan_says_at_random_settings(run, make_law, tmp_path: Path, request) -> None:
    laws = laws_of_all_kinds(make_law)
    rng = np.random.default_rng(7)
    settings = [random_setting(rng, laws) for _ in range(150)]
    answered, verdicts = 0, set()
    for s, told in zip(settings, run(laws, settings, tmp_path, request), strict=True):
        law = laws[s["law"]]
        try:
            answer = plan(law, ask(s, law))
        except InputError:
            answer = None
        assert (told["refused"] != "") == (answer is None), (s, told["refused"])
        if answer is None:
            continue
        assert told["reason"] == (answer.tokens_reason or ""), s
        assert (told["verdict"], told["verdict_because"]) == (answer.verdict, answer.verdict_because), s
        verdicts.add(answer.verdict)
        if told["tooFar"]:  # no shape of a model travels that no law answers for, so costs are not counted
            continue
        answered += answer.tokens_reason is None
        for name in (*NUMBERS, *COSTS):
            expected = getattr(answer, name)
            if expected is None:
                assert told[name] is None, (name, s)
            else:
                # a gain of 1e-9 nats is a difference of losses: it has that many digits fewer
                assert told[name] == pytest.approx(expected, rel=1e-6, abs=1e-13), (name, s)
        assert told["extrapolates"] == pytest.approx(dict(answer.extrapolates), rel=1e-6), s
        if s["criterion"] != "budget" or s["budget_hours"] >= 1:
            assert told["because"] == answer.because
    assert answered >= 30
    assert verdicts == {"trust", "rough", "cannot say"}
    assert {settings[i]["criterion"] for i in range(150)} == set(CRITERIA)


def test_the_page_says_what_the_command_line_says(make_law, tmp_path: Path, request) -> None:
    laws = [make_law(size_spread=0.2), make_law(method="width", form="chinchilla")]
    save_laws(laws, tmp_path / "law.json")
    laws = load_laws(tmp_path / "law.json")  # a file keeps six digits of its draws
    rest = {"loss_pruned": None, "gpu": "h100", "mfu": 0.4, "price": 2.5, "trial": 0, "loss_before": 2.05}
    asks: list[tuple[dict[str, Any], list[str]]] = [
        (
            {"law": 0, "model": "", "params_before": 5e6, "pruning_rate": 0.31, "criterion": "gain", "min_gain": 0.04},
            ["--method", "depth", "--params-before", "5M", "--rate", "0.31", "--min-gain", "0.04"],
        ),
        (
            {"law": 0, "model": "Llama-3.1-8B", "params_before": 8030261248, "pruning_rate": 0.25,
             "criterion": "recovery", "share": 0.8},
            ["--method", "depth", "--model", "Llama-3.1-8B", "--rate", "0.25", "--criterion", "recovery",
             "--share", "0.8"],
        ),
        (
            {"law": 1, "model": "Qwen2.5-7B", "params_before": catalog()["Qwen2.5-7B"].params, "pruning_rate": 0.3,
             "criterion": "budget", "budget_hours": 12.5},
            ["--method", "width", "--model", "Qwen2.5-7B", "--rate", "0.3", "--budget-hours", "12.5"],
        ),
    ]  # fmt: skip
    run, compared = in_node if shutil.which("node") else in_browser, 0
    for (_, arguments), told in zip(asks, run(laws, [{**rest, **s} for s, _ in asks], tmp_path, request), strict=True):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "regrow.cli.main", "plan", str(tmp_path / "law.json")),
                *("--loss-before", "2.05", "--price", "2.5", "--json", *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert told["refused"] == ""
        assert told["reason"] == (answer["tokens_reason"] or "")
        assert (told["verdict"], told["verdict_because"]) == (answer["verdict"], answer["verdict_because"])
        if told["tooFar"]:
            continue
        compared += 1
        for name in (*NUMBERS, *COSTS):
            assert told[name] == (None if answer[name] is None else pytest.approx(answer[name], rel=1e-6)), name
    assert compared


def test_what_plan_refuses_the_page_refuses_in_words(make_law, tmp_path: Path, request) -> None:
    laws = [
        make_law(),
        make_law(method="single", diagnostics={"unsupported": {"params_before": "the runs have one model size"}}),
        make_law(method="width", status="failed", warnings=("no start converged",)),
        make_law(ranges={**make_law().ranges, "params_before": (1e6, 8e9)}),
    ]
    base = {"model": "", "params_before": 3e6, "pruning_rate": 0.25, "loss_before": 2.91, "criterion": "gain",
            "min_gain": 0.01, "loss_pruned": None, "gpu": "h100", "mfu": 0.4, "price": None, "trial": 0}  # fmt: skip
    asks = [
        ({"law": 0, "criterion": "target", "target": 2.0}, "however many tokens, the law's floor here is 2.9"),
        ({"law": 0, "criterion": "recovery", "share": 0.9, "loss_pruned": 2.0}, "there is nothing to recover"),
        ({"law": 0, "criterion": "budget", "budget_hours": 1e-18}, "less than one token"),
        ({"law": 3, "model": "Llama-3.2-1B", "pruning_rate": 0.99}, "No shape of Llama-3.2-1B reaches a rate of 0.99"),
        ({"law": 1}, "The law can't say what happens at a model size of 3M: the runs have one model size"),
        ({"law": 2}, "This law failed to fit (no start converged)"),
    ]
    run = in_node if shutil.which("node") else in_browser
    told = run(laws, [{**base, **change} for change, _ in asks], tmp_path, request)
    for (_, words), answer in zip(asks, told, strict=True):
        assert words in answer["refused"]


def test_json_in_a_script_cannot_end_it(make_law) -> None:
    law = make_law(family="</script><!--")
    text = str(as_script(payload([law], [])))
    assert "<" not in text
    assert json.loads(text)["laws"][0]["name"].startswith("</script><!--")


def test_the_page_starts_from_the_plan(study) -> None:
    start = payload(study.laws, study.plans)["start"]  # type: ignore[index]
    assert start["params_before"] == 3e6
    assert start["pruning_rate"] == 0.25
    assert start["price"] == pytest.approx(2.5)


def test_many_laws_of_many_draws_stay_small(make_law) -> None:
    law = make_law(draws=np.repeat(make_law().draws, 50, axis=0))
    one, many = (payload([law] * n, []) for n in (1, 12))
    assert len(as_script(one)) < 1.2e6
    assert len(as_script(many)) < 2e6
