"""The notebooks run from top to bottom, say what their text says, and are kept without outputs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"
nbformat = pytest.importorskip("nbformat", reason="pip install 'regrow[notebooks]'")
MAKE = runpy.run_path(str(ROOT / "scripts" / "make_notebooks.py"))
#: what a light notebook must not have loaded by its end
_LOADED = "import sys; print(sorted({'torch', 'transformers', 'accelerate', 'datasets', 'ray'} & set(sys.modules)))"


def printed(notebook: Any) -> str:
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", ()) if output.get("name") == "stdout"
    )


def drawn(notebook: Any) -> list[str]:
    shown = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    return [data["text/html"] for data in shown if "regrow-figure" in data.get("text/html", "")]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_from_logs_to_a_plan_without_torch():
    notebook = MAKE["run"](NOTEBOOKS / "logs-to-plan.ipynb", also=_LOADED)
    said = printed(notebook)
    assert said.endswith("[]\n")
    assert said.count("imported\n") == 7
    assert re.search(r"^  tokens +\d\S* \(", said, re.MULTILINE)
    assert "from there doubling the tokens buys less than" in said
    assert "take depth at" in said
    assert re.search(r"^3\.\d{4} nats/token \(.* at 90%\)\n  ! params_before is 5.4 times outside", said, re.MULTILINE)
    assert len(drawn(notebook)) == 6
    # what the text says of the fit and of the hold-outs
    shown = " ".join(
        str(output.get("data", {}).get("text/plain")) for c in notebook.cells for output in c.get("outputs", ())
    )
    assert "status ok" in shown
    assert "no unpruned control" in shown
    errors = {(row[0], row[1]): list(map(float, row[2:])) for row in _HELD_OUT.findall(shown)}
    for part in ("tokens", "size", "rate"):
        error, _, _, baseline = errors["regrowth", part]
        assert error < min(baseline, errors["p2", part][0] / 2)

    page = MAKE["page"](notebook, "logs-to-plan.ipynb")
    assert page.startswith("# From logs to a plan\n\n[As a notebook](logs-to-plan.ipynb)")
    assert page.count('<div class="regrow-figure"') == 6
    assert "from there doubling the tokens buys less than" in page
    assert "Warning" not in page


#: form and hold-out, then mape, max_ape, coverage and baseline_last of a printed row
_HELD_OUT = re.compile(r"\b(regrowth|p2) +(tokens|size|rate) +(\d\.\d+) +(\d\.\d+) +(\d\.\d+) +(\d\.\d+) +\w+")


#: how far the control moved, and the scatter of the fit that this has to pass to be said: both differ by processor
_MOVED = (
    "control = next(run for run in runs if run.is_control)\n"
    "print('moved', control.curve[-1].loss - control.loss_before, law.point_spread * control.loss_before)"
)


@pytest.mark.timeout(600)  # torch is imported twice, in the kernel and in the study's worker
def test_from_a_model_to_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook makes its folder
    notebook = MAKE["run"](NOTEBOOKS / "model-to-study.ipynb", also=_MOVED)
    said = printed(notebook)
    for text in (
        "layers 32 -> 23",
        "56 matrices, 0 that break 2:4",
        "zeros still in place: True",
        "3 run, 0 failed",
        "the law can't say what happens at a model size of 3.1M",
    ):
        assert text in said
    assert len(drawn(notebook)) == 2
    shown = " ".join(
        str(output.get("data", {}).get("text/plain")) for c in notebook.cells for output in c.get("outputs", ())
    )
    assert "status flat" in shown
    moved, scatter = map(float, re.search(r"^moved (\S+) (\S+)$", said, re.MULTILINE).groups())
    assert ("the unpruned control drifts" in shown) == (abs(moved) > max(2 * scatter, 1e-3)), (moved, scatter)


def test_a_page_is_one_block_of_html_for_each_drawing():
    html = nbformat.v4.new_output(
        "execute_result", {"text/html": "<table>\n\n  <tr></tr>\n</table>", "text/plain": "t"}
    )
    warned = nbformat.v4.new_output("stream", name="stderr", text="Warning: x")
    cell = nbformat.v4.new_code_cell("1", outputs=[warned, html])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\ntext"), cell])
    page = "# T\n\n[As a notebook](t.ipynb), to run and to change.\n\ntext\n\n```python\n1\n```\n\n"
    assert MAKE["page"](notebook, "t.ipynb") == page + "<div><table> <tr></tr> </table></div>\n"
