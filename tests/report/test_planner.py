"""The planner in the page against Python, in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from regrow.planning import Gain, PlanSpec, plan
from regrow.report import build_report
from regrow.report.planner import EVALUATED, as_script, payload

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")


def dump(page: Path, fragment: str = "") -> tuple[str, str]:
    """The page's document after its scripts have run, and what the browser said."""
    found = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=2000",
            "--dump-dom",
            page.as_uri() + fragment,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return found.stdout, found.stderr


def written(dom: str, name: str) -> float:
    found = re.search(rf'data-out="{name}"[^>]*data-value="([^"]*)"', dom)
    assert found, name
    return float(found[1])


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


@needs_browser
def test_the_page_agrees_with_python_and_its_sliders_move_it(study, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    nudge = """<script>
      const before = document.querySelector('[data-out="tokens"]').dataset.value;
      const slider = document.querySelector('[name="pruning_rate_slider"]');
      slider.value = String(Number(slider.value) + 100);
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      const after = document.querySelector('[data-out="tokens"]').dataset.value;
      document.body.dataset.moved = before + " " + after;
    </script></body>"""
    html = build_report(study.runs, study.laws, study.plans, held_out=study.held_out)
    page.write_text(html)
    law = study.laws[1]
    setting = "#law=1&params_before=8e9&pruning_rate=0.31&loss_before=2.05&min_gain=0.004&gpu=a100&mfu=0.35&price=1.75"
    dom, said = dump(page, setting)
    assert "Uncaught" not in said
    assert "ERROR:CONSOLE" not in said
    spec = PlanSpec(
        params_before=8e9,
        pruning_rate=0.31,
        loss_before=2.05,
        criterion=Gain(min_gain=0.004),
        gpu="a100",
        mfu=0.35,
        price_usd_per_hour=1.75,
    )
    answer = plan(law, spec)
    for name in ("tokens", "tokens_low", "loss", "floor", "gpu_hours", "cost_usd"):
        assert written(dom, name) == pytest.approx(getattr(answer, name), rel=1e-6), name
    page.write_text(html.replace("</body>", nudge))
    dom, said = dump(page)
    assert "Uncaught" not in said
    before, after = map(float, re.search(r'data-moved="([^"]*)"', dom)[1].split())  # type: ignore[index]
    assert before == pytest.approx(study.plans[0].tokens, rel=1e-6)
    assert after > before


@needs_browser
def test_every_form_agrees_with_python_at_random_settings(make_law, tmp_path: Path) -> None:
    laws = [make_law(form=form) for form in EVALUATED]
    rng = np.random.default_rng(1)
    settings = [
        {
            "law": int(rng.integers(len(laws))),
            "params_before": float(np.exp(rng.uniform(np.log(1e5), np.log(1e11)))),
            "pruning_rate": float(rng.uniform(0.05, 0.8)),
            "loss_before": float(rng.uniform(1.5, 4.0)),
            "min_gain": float(np.exp(rng.uniform(np.log(1e-3), np.log(0.1)))),
            "gpu": "h100",
            "mfu": 0.4,
            "price": 2.0,
            "trial": 1e9,
        }
        for _ in range(50)
    ]
    ask = (
        "<script>const all = " + json.dumps(settings) + ";"
        'const data = JSON.parse(document.getElementById("planner-data").textContent);'
        'const pre = document.createElement("pre"); pre.id = "answers";'
        "pre.textContent = JSON.stringify(all.map(s => planFor(data, s))); document.body.append(pre);</script></body>"
    )
    page = tmp_path / "report.html"
    page.write_text(build_report([], laws).replace("</body>", ask))
    dom, said = dump(page)
    assert "Uncaught" not in said
    answers = json.loads(unescape(re.search(r'<pre id="answers">(.*?)</pre>', dom, re.DOTALL)[1]))  # type: ignore[index]
    for setting, told in zip(settings, answers, strict=True):
        spec = PlanSpec(
            params_before=setting["params_before"],
            pruning_rate=setting["pruning_rate"],
            loss_before=setting["loss_before"],
            criterion=Gain(min_gain=setting["min_gain"]),
            price_usd_per_hour=2.0,
        )
        answer = plan(laws[setting["law"]], spec)
        for name in ("tokens", "tokens_low", "tokens_high", "loss", "floor", "flops", "gpu_hours", "cost_usd"):
            assert told[name] == pytest.approx(getattr(answer, name), rel=1e-6), (name, setting)
        assert told["extrapolates"] == pytest.approx(dict(answer.extrapolates), rel=1e-6)
