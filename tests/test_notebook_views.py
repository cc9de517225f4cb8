"""What a notebook shows of runs, laws and plans: tables in HTML, with every name escaped; and what specs take."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import regrow
from regrow import CompareSpec, DesignModel, DesignSpec, ImportSpec, InputError, PlanSpec, PruneSpec, TrainSpec
from regrow.html_table import html_table
from regrow.laws import Laws
from regrow.study.budget import StudyBudget

RUNS = Path(__file__).parents[1] / "examples" / "six_runs.csv"
EVIL = "<script>alert(1)</script>"


class Cells(HTMLParser):
    """The texts of the cells, and every tag that was opened."""

    def __init__(self, page):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.add(tag)

    def handle_data(self, data):
        self.cells.append(data)


@pytest.fixture(scope="module")
def runs():
    return regrow.read_runs(RUNS)


@pytest.fixture(scope="module")
def law(runs):
    return regrow.fit(runs, form="p2", draws=20)[0]


def test_a_table_escapes_and_says_what_is_left_out():
    page = html_table(("a", "b"), [(EVIL, str(i)) for i in range(250)], title="x & y", notes=["n\x1b"])
    found = Cells(page)
    assert found.tags == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert found.cells[:5] == ["x & y", "a", "b", EVIL, "0"]
    assert found.cells[-2:] == ["and 50 more rows", "n\\x1b"]


def test_runs_are_shown_as_a_table_and_a_run_as_its_curve(runs):
    found = Cells(runs._repr_html_())
    assert found.cells[0] == "6 runs"
    assert set(found.cells) >= {run.run for run in runs}
    one = Cells(runs[0]._repr_html_())
    assert f"{runs[0].curve[-1].loss:.4f}" in one.cells
    assert "script" not in Cells(replace(runs[0], run=EVIL)._repr_html_()).tags


def test_a_law_shows_its_parameters_with_intervals(law):
    found = Cells(law._repr_html_())
    for name, value in law.params.items():
        assert found.cells[found.cells.index(name) + 1] == f"{value:.4g}"
    low, high = law.intervals()["beta"]
    assert f"{low:.4g} to {high:.4g}" in found.cells
    assert all(warning in found.cells for warning in law.warnings)
    assert "script" not in Cells(replace(law, family=EVIL)._repr_html_()).tags
    both = Laws([law, law], skipped=[EVIL], chosen="p2")
    assert Cells(both._repr_html_()).cells.count("beta") == 2
    assert "script" not in Cells(both._repr_html_()).tags


def test_a_plan_shows_its_facts_and_warnings(law):
    answer = regrow.plan(law, PlanSpec(params_before="600k", pruning_rate=0.25, loss_before=3.3))
    found = Cells(answer._repr_html_())
    assert found.cells[0] == answer.judgement()
    for name, text in answer.facts():
        assert found.cells[found.cells.index(name) + 1] == text
    assert all(warning in found.cells for warning in answer.warnings)
    assert "script" not in Cells(replace(answer, model=EVIL)._repr_html_()).tags


def test_a_data_frame_is_read_as_its_file_is(runs):
    table = pd.read_csv(RUNS)
    assert regrow.read_runs(table) == runs
    with pytest.raises(InputError, match="the column loss is missing"):
        regrow.read_runs(table.drop(columns="loss"))
    with pytest.raises(InputError, match="two runs are called"):
        regrow.read_runs(RUNS, table)


def test_the_package_says_that_it_is_typed():
    assert (Path(regrow.__file__).parent / "py.typed").is_file()


def test_specs_take_counts_and_names_as_people_write_them(law):
    base = PlanSpec(architecture="Llama-3.1-8B", loss_before="2.0")
    assert (base.shape.params, base.loss_before, base.model) == (8_030_261_248, 2.0, "Llama-3.1-8B")
    compared = CompareSpec(base=base, params_after="6B", served_tokens="1T", rates=("0.15", 0.25))
    assert (compared.params_after, compared.served_tokens, compared.rates) == (6e9, 1e12, (0.15, 0.25))
    wanted = DesignSpec(target="Llama-3.1-8B", pruning_rate=0.25, candidates=("1B", 3e9), budget_gpu_hours="10")
    assert wanted.target.label == "Llama-3.1-8B"
    assert [model.size for model in wanted.candidates] == [1e9, 3e9]
    assert PruneSpec(method="depth", params="6B").params == 6_000_000_000
    train = TrainSpec(tokens="300k", batch_tokens="2k", sequence_length=250, learning_rate="3e-4", eval_at="30k,300k")
    assert train == TrainSpec(
        tokens=300_000, batch_tokens=2000, sequence_length=250, learning_rate=3e-4, eval_at=(30_000, 300_000)
    )
    read = ImportSpec(
        run="r", family="f", method="depth", params_before="1.2B", params_after="0.9B", loss_before=2.3,
        tokens_per_step="524k",
    )  # fmt: skip
    assert (read.params_before, read.tokens_per_step) == (1_200_000_000, 524_000)
    assert StudyBudget(tokens="5M").tokens == 5_000_000
    inside = {"pruning_rate": 0.25, "loss_before": 3.3}
    assert law.predict(params_before="600k", tokens="50k", **inside) == law.predict(
        params_before=600_000, tokens=50_000, **inside
    )


PLAN = {"params_before": 8e9, "loss_before": 2.0}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PlanSpec(architecture="Llama-3.1-9B", loss_before=2.0), "did you mean 'Llama-3.1-8B'"),
        (lambda: PlanSpec(pruning_rate="a quarter", **PLAN), "plan, pruning_rate: 'a quarter' is not a number"),
        (lambda: CompareSpec(base=PlanSpec(**PLAN), rates="0.15,0.25"), "numbers in a tuple"),
        (lambda: DesignModel(params_before="big"), "'big' is not a positive number"),
        (lambda: TrainSpec(tokens=1024, learning_rate="fast"), "train spec, learning_rate: 'fast' is not a number"),
        (lambda: TrainSpec(tokens={}), "train spec, tokens: {} is not a number"),
        (lambda: regrow.StudySpec(family="f", models="tiny-llama-0.2m", train=TrainSpec(tokens=1024)), "give a tuple"),
        (lambda: regrow.plan([1], PlanSpec(**PLAN)), "list in the place of a law"),
    ],
)
def test_specs_refuse_in_a_line(make, says):
    with pytest.raises(InputError) as refused:
        make()
    assert says in str(refused.value)
