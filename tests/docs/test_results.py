"""docs/results.md says what the records in studies/ say: made anew where that is cheap, and whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from regrow.laws import fit
from regrow.study.spec import StudySpec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
#: Tables that take no fit, or a few.
CHEAP = ("runs", "gaps", "real", "real-gpu", "distillation")
#: Runs that the page says are cut short.
CUT = ("smollm2-2of4-66aaa8", "smollm2-width-0.35-13e94b")


@pytest.fixture(scope="module")
def made() -> SimpleNamespace:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from results import evidence, layout, tables
    finally:
        sys.path.pop(0)
    return SimpleNamespace(**{**vars(layout), **vars(tables), "Evidence": evidence.Evidence})


@pytest.fixture(scope="module")
def seen(made):
    return made.Evidence(ROOT / "studies")


def test_the_page_has_every_table_once_and_every_picture(made):
    page = PAGE.read_text()
    assert sorted(re.findall(r"<!-- table: ([\w-]+) -->", page)) == sorted(made.TABLES)
    shown = set(re.findall(r"\(figures/(results_[\w.-]+\.svg)\)", page))
    assert shown == {path.name for path in (ROOT / "docs" / "figures").glob("results_*.svg")}


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_tables_are_those_of_the_records(made, seen, name):
    assert made.as_markdown(made.TABLES[name](seen)) in PAGE.read_text()


def test_fits_are_those_of_the_records(seen):
    """The law of every family and method, fitted again: its row stands in the page, but for the last digits."""
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if "| `p2` | " in line]
    written = {(row[0].lstrip("| "), row[1]): row[3:] for row in rows if len(row) == 8 and "," not in row[3]}
    for law in fit(seen.base, form="p2", draws=1):
        r2, _, asd, mape, status = written[law.family, law.method]
        assert float(r2) == pytest.approx(law.metrics["r2"], abs=2e-3)
        assert float(asd) == pytest.approx(law.metrics["asd"], rel=0.05)
        assert float(mape) == pytest.approx(law.metrics["mape"], rel=0.05)
        assert status.rstrip(" |") == law.status


def test_records_are_of_the_studies_as_they_are_written(seen):
    for name, runs in seen.studies.items():
        file = ROOT / "studies" / f"{name}.yaml"
        # model or text of these lie in no package: they need not be there, and what is installed makes them
        made = name.startswith("smollm2") or name in ("recipe-llama-text", "drift-llama-mixed")
        cells = {} if made else {cell.hash: cell for cell in StudySpec.from_yaml(file).cells()}
        assert len({run.hash for run in runs}) == len(runs)
        for run in runs:
            assert (run.status == "done") == (run.run not in CUT)
            assert not cells or run.hash in cells


def test_a_page_is_filled_between_its_markers_and_nowhere_else(made):
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n"
    assert made.fill(page, {"one": lambda: "new"}) == "a\n<!-- table: one -->\n\nnew\n\n<!-- end -->\nb\n"
    assert made.fill(page, {"one": lambda: "new"}, only=["two"]) == page
    with pytest.raises(ValueError, match="no table is called 'one'"):
        made.fill(page, {"two": lambda: "new"})
