"""The page as a reader meets it: in Chromium, by mouse and keyboard, on a desk, a phone and paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_browser import Browser

from regrow.arch import catalog
from regrow.planning import Gain, PlanSpec, Target, plan
from regrow.report import build_report
from regrow.units import parse_count

EVIL = '</script><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\''


@pytest.fixture(scope="module")
def page(study, comparison, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    rows = [{"family": "tiny-llama", "method": "depth", "form": "p2", "hold_out": "size", "mape": 0.008}]
    path.write_text(
        build_report(
            study.runs,
            study.laws,
            study.plans,
            held_out=study.held_out,
            validation_rows=rows,
            comparisons=[comparison],
        )
    )
    return path


@pytest.fixture(scope="session")
def wide_laws(study):
    """The laws as if fitted up to 8B and over many tokens, so that named models are answered for."""
    ranges = {"params_before": (1e6, 8e9), "tokens": (1.0, 1e12)}
    return [replace(law, ranges={**law.ranges, **ranges}) for law in study.laws]


@pytest.fixture(scope="session")
def wide_page(study, wide_laws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "report.html"
    spec = PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91, price_usd_per_hour=2.5)
    path.write_text(build_report([], wide_laws, [plan(law, spec) for law in wide_laws]))
    return path


def shown(browser: Browser, name: str) -> float:
    return float(browser.run(f"document.querySelector('[data-out={name}]').dataset.value"))


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"(() => {{ const e = document.querySelector('#planner-form').elements['{name}']; e.value = '{value}';"
        "e.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def visible(browser: Browser, selector: str) -> bool:
    return browser.run(f"document.querySelector('{selector}').checkVisibility()")


def test_it_opens_without_an_error_or_a_request(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    assert browser.said == []
    assert [r for r in browser.requests if not r.startswith(("file:", "about:", "data:"))] == []
    assert sum(r.startswith("file:") for r in browser.requests) == 1


def test_it_opens_on_the_plan(browser: Browser, page: Path, study) -> None:
    browser.look()
    browser.open(page)
    answer = study.plans[0]
    for name in ("tokens", "loss", "floor", "gpu_hours", "cost_usd", "next_doubling_gain", "flops"):
        assert shown(browser, name) == pytest.approx(getattr(answer, name), rel=1e-6), name
    assert shown(browser, "interval") == pytest.approx(answer.tokens_low, rel=1e-6)
    assert shown(browser, "loss_interval") == pytest.approx(answer.loss_low, rel=1e-6)


@pytest.mark.parametrize(
    ("slider", "moves", "rises"),
    [
        ("params_before", "tokens", False),
        ("pruning_rate", "tokens", True),
        ("loss_before", "loss", True),
        ("min_gain", "tokens", False),
        ("mfu", "gpu_hours", False),
        ("price", "cost_usd", True),
        ("trial", "trial_loss", False),
    ],
)
def test_every_slider_moves_the_answer_by_keyboard(browser: Browser, page: Path, slider, moves, rises) -> None:
    browser.look()
    browser.open(page)
    before, text = shown(browser, moves), browser.run(f"document.querySelector('[name={slider}]').value")
    curve = browser.run("document.querySelector('svg.live .line').getAttribute('d')")
    browser.press(f"[name={slider}_slider]", "ArrowRight", 39, times=40)
    assert browser.run(f"document.querySelector('[name={slider}]').value") != text
    assert (shown(browser, moves) > before) is rises
    assert shown(browser, moves) != before
    if moves in ("tokens", "loss"):
        assert browser.run("document.querySelector('svg.live .line').getAttribute('d')") != curve
    assert browser.said == []


def test_every_control_is_reached_by_tab_alone(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    shown_fields = set(
        browser.run(
            "[...document.querySelector('#planner-form').elements].filter(e => e.name && e.checkVisibility())"
            ".map(e => e.name)"
        )
    )
    assert len(shown_fields) > 12
    reached, stops = set(), []
    for _ in range(80):
        for kind in ("rawKeyDown", "keyUp"):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(browser.run("document.activeElement.name || ''"))
        stops.append(browser.run("document.activeElement.textContent.trim().slice(0, 18)"))
        outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", stops[-1]
        if shown_fields <= reached:
            break
    assert shown_fields <= reached
    assert stops[0] == "Skip to the answer"
    assert "Planner" in stops


@pytest.mark.parametrize("criterion", ["slope", "recovery", "target", "budget"])
def test_another_criterion_shows_its_own_threshold_and_begins_near(browser: Browser, page: Path, criterion) -> None:
    option = {"slope": "max_slope", "recovery": "share", "target": "target", "budget": "budget_hours"}[criterion]
    browser.look()
    browser.open(page)
    before = shown(browser, "tokens")
    choose(browser, "criterion", criterion)
    assert visible(browser, f"[data-field={option}]")
    assert not visible(browser, "[data-field=min_gain]")
    assert visible(browser, "[data-field=loss_pruned]") is (criterion == "recovery")
    assert shown(browser, "tokens") == pytest.approx(before, rel=0.1)
    browser.press(f"[name={option}_slider]", "ArrowRight", 39, times=5)
    assert browser.said == []
    assert visible(browser, ".problem") or shown(browser, "tokens") != pytest.approx(before, rel=1e-3)


def test_a_typed_value_counts_and_a_wrong_one_is_said(browser: Browser, wide_page: Path, wide_laws) -> None:
    browser.look()
    browser.open(wide_page)
    choose(browser, "params_before", "8B")
    spec = PlanSpec(params_before=8e9, pruning_rate=0.25, loss_before=2.91)
    assert shown(browser, "tokens") == pytest.approx(plan(wide_laws[0], spec).tokens, rel=1e-6)
    choose(browser, "params_before", "many")
    assert "Model size" in browser.run("document.querySelector('.problem').textContent")
    assert browser.run("document.querySelector('[name=params_before]').getAttribute('aria-invalid')") == "true"
    assert not visible(browser, ".answer-now")
    choose(browser, "params_before", "8B")
    assert visible(browser, ".answer-now")
    assert browser.run("document.querySelector('.problem').textContent") == ""


def test_a_named_model_sets_its_size_and_counts_its_shape(browser: Browser, wide_page: Path, wide_laws) -> None:
    browser.look()
    browser.open(wide_page)
    choose(browser, "model", "Llama-3.1-8B")
    spec = PlanSpec(architecture=catalog()["Llama-3.1-8B"], pruning_rate=0.25, loss_before=2.91)
    answer = plan(wide_laws[0], spec)
    assert shown(browser, "tokens") == pytest.approx(answer.tokens, rel=1e-6)
    assert shown(browser, "flops") == pytest.approx(answer.flops, rel=1e-6)
    browser.press("[name=params_before_slider]", "ArrowRight", 39)
    assert browser.run("document.querySelector('[name=model]').value") == ""


def test_the_address_carries_the_setting(browser: Browser, wide_page: Path, wide_laws) -> None:
    browser.look()
    setting = "law=1&params_before=8e9&pruning_rate=0.31&loss_before=2.05&criterion=target&target=2.2&gpu=a100&mfu=0.35"
    browser.open(wide_page, f"#{setting}&price=1.75")
    spec = PlanSpec(
        params_before=8e9,
        pruning_rate=0.31,
        loss_before=2.05,
        criterion=Target(loss=2.2),
        gpu="a100",
        mfu=0.35,
        price_usd_per_hour=1.75,
    )
    answer = plan(wide_laws[1], spec)
    for name in ("tokens", "loss", "gpu_hours", "cost_usd"):
        assert shown(browser, name) == pytest.approx(getattr(answer, name), rel=1e-6), name
    assert "criterion=target" in browser.run("location.hash")


def test_what_the_runs_do_not_support_has_no_number(browser: Browser, page: Path, study) -> None:
    browser.look()
    browser.open(page)
    choose(browser, "model", "Llama-3.1-8B")
    spec = PlanSpec(architecture=catalog()["Llama-3.1-8B"], pruning_rate=0.25, loss_before=2.91)
    reason = plan(study.laws[0], spec).tokens_reason
    assert reason
    assert browser.run("document.querySelector('[data-out=verdict]').textContent") == "cannot say"
    assert (
        browser.run("document.querySelector('[data-out=verdict_because]').textContent").lower() == f"{reason}.".lower()
    )
    assert browser.run("document.querySelector('[data-out=tokens]').textContent") == "Cannot say yet"
    assert browser.run("document.querySelector('[data-out=tokens]').dataset.value") == ""
    assert not visible(browser, "svg.live")


def test_the_planner_opens_on_the_card_whatever_was_asked(browser: Browser, wide_laws, tmp_path: Path) -> None:
    """Teacher, context, level, a shape of one's own, a size that the fit has seen: the same numbers as the plan's."""
    law = wide_laws[1]
    size = catalog()["Llama-3.2-1B"].params
    law = replace(law, sizes={size: np.vstack([law.theta, law.draws]) * (1 + 0.2 * (np.arange(len(law.theta)) == 5))})
    spec = PlanSpec(
        architecture="Llama-3.2-1B",
        sizes={"intermediate": 5120},
        loss_before=2.9,
        criterion=Gain(min_gain=0.03),
        teacher=8e9,
        context=2048,
        level=0.8,
        price_usd_per_hour=3.0,
        gpu="a100",
        mfu=0.3,
    )
    answer = plan(law, spec)
    assert answer.tokens is not None
    path = tmp_path / "report.html"
    path.write_text(build_report([], [law], [answer]))
    browser.look()
    browser.open(path)
    assert browser.said == []
    for name in ("tokens", "loss", "floor", "gap", "gpu_hours", "cost_usd", "flops", "params_after"):
        assert shown(browser, name) == pytest.approx(getattr(answer, name), rel=1e-6), name
    assert shown(browser, "interval") == pytest.approx(answer.tokens_low, rel=1e-6)
    assert shown(browser, "loss_interval") == pytest.approx(answer.loss_low, rel=1e-5)
    assert browser.run("document.querySelector('[name=model]').value") == "Llama-3.2-1B"
    assert "80% of the law's draws" in browser.run("document.querySelector('[data-out=interval]').textContent")


def test_the_planner_counts_tokens_in_the_recipe_of_the_plan(browser: Browser, make_law, tmp_path: Path) -> None:
    params = {**make_law(form="regrowth").params, "usual_rate": 3e-4, "usual_batch": 4096.0, "pace_rate": -0.8}
    params |= {"pace_batch": 0.6, "pace_refitted": 0.5, "usual_refitted": 0.0}
    law = make_law(form="regrowth", params=params)
    law = replace(law, draws=law.theta * np.exp(np.random.default_rng(1).normal(0, 0.02, (40, len(law.theta)))))
    recipe = {"learning_rate": 1e-4, "batch_tokens": 16384.0, "refitted": 1.0}
    spec = PlanSpec(params_before=1e6, pruning_rate=0.25, loss_before=3.3, others=recipe)
    answer = plan(law, spec)
    assert answer.tokens is not None
    assert answer.tokens > 1.5 * (plan(law, replace(spec, others={})).tokens or 0)
    path = tmp_path / "report.html"
    path.write_text(build_report([], [law], [answer]))
    browser.look()
    browser.open(path)
    assert browser.said == []
    for name in ("tokens", "loss", "floor"):
        assert shown(browser, name) == pytest.approx(getattr(answer, name), rel=1e-6), name
    assert shown(browser, "interval") == pytest.approx(answer.tokens_low, rel=1e-6)
    assert "learning rate 0.0001, batch tokens 16.4k" in browser.run("document.querySelector('.beyond').textContent")


def test_the_rate_of_a_named_model_is_that_of_a_shape(browser: Browser, wide_page: Path) -> None:
    shape = catalog()["Llama-3.2-1B"]
    rates = [k * shape.block_params / shape.params for k in range(1, shape.layers)]
    browser.look()
    browser.open(wide_page)
    rate = "Number(document.querySelector('[name=pruning_rate]').value)"
    choose(browser, "model", "Llama-3.2-1B")
    assert browser.run(rate) == pytest.approx(min(rates, key=lambda r: abs(r - 0.25)), rel=1e-3)
    browser.press("[name=pruning_rate_slider]", "ArrowRight", 39)
    assert browser.run(rate) == pytest.approx(rates[5], rel=1e-3)
    browser.press("[name=pruning_rate_slider]", "End", 35)
    assert browser.run(rate) == pytest.approx(rates[-1], rel=1e-3)
    browser.run(
        "(e => { e.value = '0.4'; for (const kind of ['input', 'change']) "
        "e.dispatchEvent(new Event(kind, { bubbles: true })); })(document.querySelector('[name=pruning_rate]'))"
    )
    assert browser.run(rate) == pytest.approx(min(rates, key=lambda r: abs(r - 0.4)), rel=1e-3)
    assert browser.said == []


def test_what_was_fitted_is_marked_on_sliders_and_charts(browser: Browser, page: Path, study) -> None:
    browser.look()
    browser.open(page)
    for name, (low, high) in study.laws[0].ranges.items():
        field = "trial" if name == "tokens" else name
        bar = f"document.querySelector('[data-field={field}] .fitted')"
        ends = [float(browser.run(f"{bar}.style.getPropertyValue('{end}')")) for end in ("--from", "--to")]
        assert 0 <= ends[0] < ends[1] <= 1, name
        # the slider at the end of the bar stands at the end of the range
        for place, value in zip(ends, (low, high), strict=True):
            slider = f"document.querySelector('[name={field}_slider]')"
            browser.run(
                f"{slider}.value = Math.round({place} * 1000); "
                f"{slider}.dispatchEvent(new Event('input', {{ bubbles: true }}))"
            )
            text = browser.run(f"document.querySelector('[name={field}]').value")
            shown_value = parse_count(text) if name in ("params_before", "tokens") else float(text)
            assert shown_value == pytest.approx(value, rel=0.02), name
        assert browser.run(f"document.querySelector('[data-field={field}] .runs').textContent").startswith("runs: ")
    assert browser.run("document.querySelectorAll('svg.live .fitted-area').length") == 1
    assert browser.run("document.querySelectorAll('#laws .fitted-area').length") > 0


def test_the_what_if_is_labelled_and_follows_a_click(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    labels = "[...document.querySelectorAll('svg.live .mark-label')].map(e => e.textContent)"
    assert sorted(browser.run(labels)) == ["D*", "what if"]
    # close to each other, too, and then apart from each other
    choose(browser, "trial", browser.run("document.querySelector('[data-out=tokens]').dataset.value"))
    assert sorted(browser.run(labels)) == ["D*", "what if"]
    boxes = browser.run(
        "[...document.querySelectorAll('svg.live .mark-label')]"
        ".map(e => e.getBoundingClientRect()).map(b => [b.top, b.bottom])"
    )
    (one, other) = sorted(boxes)
    assert one[1] <= other[0]
    before = shown(browser, "trial_loss")
    browser.run(
        "(e => { const b = e.getBoundingClientRect(); e.dispatchEvent(new MouseEvent('click', "
        "{ clientX: b.left + 0.9 * b.width, clientY: b.top + 20, bubbles: true })); })"
        "(document.querySelector('svg.live'))"
    )
    assert shown(browser, "trial_loss") < before


@pytest.mark.parametrize("width", [390, 1280])
def test_one_card_fills_the_width(browser: Browser, study, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_report([], study.laws[:1], study.plans[:1]))
    browser.look(width=width)
    browser.open(path)
    across = "(s => document.querySelector(s).getBoundingClientRect().width)"
    assert browser.run(f"{across}('.answer')") == pytest.approx(browser.run(f"{across}('#answer')"))
    assert browser.run(f"{across}('.tiles')") > 0.85 * browser.run(f"{across}('.answer')")
    # its last column ends where the card does
    right = "(s => document.querySelector(s).getBoundingClientRect().right)"
    assert browser.run(f"{right}('.tiles div:last-child')") == pytest.approx(browser.run(f"{right}('.tiles')"), abs=1)


@pytest.mark.parametrize("bad", ["#law=99", "#params_before=x&gpu=none&criterion=no&model=no", "#%%%", "#law=-1&mfu=9"])
def test_a_mangled_address_is_harmless(browser: Browser, page: Path, bad: str) -> None:
    browser.look()
    browser.open(page, bad)
    assert browser.said == []
    assert visible(browser, "#planner-form")


def test_a_plan_by_another_criterion_opens_on_it(browser: Browser, study, tmp_path: Path) -> None:
    spec = PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91, criterion=Target(loss=2.95))
    answer = plan(study.laws[0], spec)
    path = tmp_path / "report.html"
    path.write_text(build_report([], study.laws, [answer]))
    browser.look()
    browser.open(path)
    assert browser.run("document.querySelector('[name=criterion]').value") == "target"
    assert shown(browser, "tokens") == pytest.approx(answer.tokens, rel=1e-6)


def test_a_failed_law_is_refused_in_words(browser: Browser, study, make_law, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_report([], [make_law(status="failed", warnings=("no start converged",)), study.laws[1]]))
    browser.look()
    browser.open(path)
    assert browser.said == []
    assert visible(browser, ".answer-now")  # it begins with the law that works
    choose(browser, "law", "0")
    assert "no start converged" in browser.run("document.querySelector('.problem').textContent")
    assert not visible(browser, ".answer-now")
    assert browser.said == []


def test_names_from_runs_are_text(browser: Browser, make_law, make_run, tmp_path: Path) -> None:
    law = make_law(family=EVIL, warnings=(EVIL,))
    runs = [make_run(law, 300_000, rate, name=f"{EVIL}{rate}") for rate in (0.15, 0.35)]
    answer = plan(law, PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91))
    path = tmp_path / "report.html"
    path.write_text(build_report(runs, [law], [answer], title=EVIL, notes=[EVIL]))
    browser.look()
    browser.open(path)
    assert browser.run("typeof window.pwned") == "undefined"
    assert browser.run("document.images.length") == 0
    assert browser.run("document.title") == EVIL
    assert EVIL in browser.run("document.querySelector('[name=law]').textContent")
    assert browser.said == []


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_overflows_the_screen(browser: Browser, page: Path, width: int) -> None:
    browser.look(width=width)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    seen = "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility())"
    wide = f"""{seen}.filter(e => !e.closest('.scroll, svg, .visually-hidden')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.run(wide) == []
    # fingers: every slider is at least 24 pixels high (WCAG 2.2, 2.5.8)
    assert browser.run(f"{seen}.filter(e => e.type === 'range' && e.offsetHeight < 24).length") == 0


def test_on_a_phone_the_answer_stays_in_sight_while_sliders_move(browser: Browser, page: Path) -> None:
    browser.look(width=390, height=800)
    browser.open(page)
    for name in ("params_before", "mfu", "trial"):
        browser.run(f"document.querySelector('[name={name}_slider]').scrollIntoView({{ block: 'center' }})")
        top, bottom = browser.run(
            "(b => [b.top, b.bottom])(document.querySelector('.answer-now').getBoundingClientRect())"
        )
        assert top >= -1, name
        assert bottom <= 800, name


def test_dark_mode_is_dark(browser: Browser, page: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.look()
    browser.open(page)
    light = browser.run(paper)
    browser.look(dark=True)
    assert light == "rgb(255, 255, 255)"
    assert browser.run(paper) == "rgb(13, 17, 23)"


@pytest.mark.parametrize("dark", [False, True])
def test_on_paper_nothing_is_clipped_and_it_is_light(browser: Browser, page: Path, dark: bool) -> None:
    browser.look(width=720, media="print", dark=dark)
    browser.open(page)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tables = "[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility())"
    assert browser.run(f"{tables}.length") > 3
    assert browser.run(f"{tables}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0
    assert not visible(browser, "nav")
    assert not visible(browser, "[name=pruning_rate_slider]")
    assert visible(browser, ".answer-now")
    assert browser.print().startswith(b"%PDF")
    browser.look()


def test_a_screen_reader_finds_its_way(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    browser.ask("Accessibility.enable")
    nodes = [n for n in browser.ask("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]

    def of(*roles: str) -> list[dict[str, Any]]:
        return [n for n in nodes if n["role"]["value"] in roles]

    assert len(of("main")) == len(of("navigation")) == len(of("banner")) == len(of("contentinfo")) == 1
    for node in of("slider", "textbox", "combobox", "image", "form", "region", "table"):
        name = node.get("name", {}).get("value", "")
        assert name, node
    # a slider speaks its value and not its place on a scale of a thousand
    spoken = browser.run("document.querySelector('[name=params_before_slider]').getAttribute('aria-valuetext')")
    assert spoken == "3M"
    assert browser.run("[...document.querySelectorAll('th')].every(e => e.scope)")


def test_the_answer_is_announced_once_the_hand_rests(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    browser.press("[name=pruning_rate_slider]", "ArrowRight", 39, times=10)
    moving = browser.run("document.querySelector('.spoken').textContent")
    rested = browser.run(
        "new Promise(r => setTimeout(r, 1000)).then(() => document.querySelector('.spoken').textContent)"
    )
    big = browser.run("document.querySelector('[data-out=tokens]').textContent")
    assert big not in moving
    assert rested.startswith(f"Stop at {big} tokens")


def test_on_paper_the_answer_stands_on_the_first_page(browser: Browser, page: Path) -> None:
    """A card that was never broken once left the first page empty; numbers broke in the middle to fit their columns."""
    browser.look(width=694, height=950, media="print")  # A4 without its margins, in CSS pixels
    browser.open(page)
    assert browser.run("document.querySelector('.answer').getBoundingClientRect().bottom + scrollY") < 950
    narrow = "[...document.querySelectorAll('#answer td, #frontier td')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert browser.run(f"{narrow}.length") == 0
    size = "[...document.querySelectorAll('#laws td')].find(e => /^\\d+k$/.test(e.textContent.trim()))"
    assert browser.run(f"{size}.getClientRects().length") == 1
    assert browser.run(f"{size}.clientHeight") < 40
    assert browser.run("document.querySelector('#planner-form').clientHeight") < 950
