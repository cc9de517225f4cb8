"""A law asked about a method without runs: by two routes, beside the methods that it knows, and held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Law, fit, load_laws, save_laws, select_law
from regrow.laws.observations import observe
from regrow.laws.pooled.fit import fit_pool, law_for, pools_of
from regrow.laws.pooled.unseen import law_without_runs, methods_of, without_spread
from regrow.laws.setting import Setting
from regrow.runs import RunRecord, read_runs

DRAWS = 400
AT = [
    Setting(params_before=size, pruning_rate=0.3, loss_before=3.4, loss_pruned=pruned, tokens=tokens)
    for size in (575_104, 8e6)  # a size that the fit has seen, and one that it has not
    for pruned in (3.9, 6.0)
    for tokens in (2e4, 2e5, 1e6)
]


@pytest.fixture(scope="module")
def runs() -> list[RunRecord]:
    return read_runs("studies/ladder-qwen2.jsonl")


@pytest.fixture(scope="module")
def laws(runs) -> list[Law]:
    return [*fit(runs, form="regrowth", draws=DRAWS)]


def width(law: Law, x: Setting) -> float:
    low, high = law.interval(x)
    return float(high - low)


def test_it_is_what_the_fit_draws_for_a_method_that_it_has_not_seen(runs, laws) -> None:
    (pool,) = pools_of(runs, "family", baseline="initial", skipped=[])
    fitted = fit_pool(pool.all_runs, pool.drifts)
    exact = law_for(
        fitted, replace(pool.groups[0], method="experts"), baseline="initial", draws=DRAWS, seed=0, pool="family"
    )
    mine = law_without_runs(laws, "experts")
    for x in AT:
        assert float(mine.loss(x)) == pytest.approx(float(exact.loss(x)), rel=0.003)
    ratios = [width(mine, x) / width(exact, x) for x in AT]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


def test_its_mean_is_that_over_the_methods_and_its_interval_is_wider_than_of_each(laws) -> None:
    mine = law_without_runs(laws, "experts")
    for name in ("level", "end", "gap"):
        assert mine.params[name] == pytest.approx(np.mean([law.params[name] for law in laws]))
    # the paces are those of one kind of run: weights solved again take e^pace_refitted times as long
    kinds = [law.params["usual_refitted"] - mine.params["usual_refitted"] for law in laws]
    paces = [
        np.log(law.params["pace"]) - kind * law.params["pace_refitted"] for law, kind in zip(laws, kinds, strict=True)
    ]
    assert np.log(mine.params["pace"]) == pytest.approx(np.mean(paces))
    assert np.log(mine.params["exponent"]) == pytest.approx(np.mean([np.log(law.params["exponent"]) for law in laws]))
    narrow = without_spread(mine)
    for x in AT:
        assert float(narrow.loss(x)) == float(mine.loss(x))
    wider = np.array([[width(mine, x) / width(law, x) for x in AT] for law in laws])
    assert wider.mean(axis=1).min() > 1.05
    assert np.mean([width(mine, x) / width(narrow, x) for x in AT]) > 1.1


def test_the_intervals_of_methods_held_out_hold(runs) -> None:
    covered = []
    for method in ("2:4", "depth", "width"):
        law = law_without_runs(fit([r for r in runs if r.method != method], form="regrowth", draws=DRAWS), method)
        (group,) = observe([r for r in runs if r.method == method], columns=law.formula.optional)
        group = group.keep(group.x.tokens > 0)
        low, high = law.interval(group.x)
        assert np.abs(law.loss(group.x) / group.loss - 1).mean() < 0.01
        covered.append(float(((low <= group.loss) & (group.loss <= high)).mean()))
    assert min(covered) > 0.8
    assert np.mean(covered) == pytest.approx(0.93, abs=0.06)


def test_it_is_selected_by_regrows_names_and_lives_in_a_file(laws, tmp_path) -> None:
    for name in ("experts", "depth+width", "4:8", "other", "any"):
        law = select_law(laws, method=name)
        assert (law.method, methods_of(law)) == (name, ("2:4", "depth", "width"))
        assert law.n_runs == sum(one.n_runs for one in laws)
        for column, (low, high) in law.ranges.items():
            assert low == min(one.ranges[column][0] for one in laws)
            assert high == max(one.ranges[column][1] for one in laws)
    assert methods_of(select_law(laws, method="depth")) == ()
    save_laws([select_law(laws, method="experts")], tmp_path / "law.json")
    (back,) = load_laws(tmp_path / "law.json")
    assert methods_of(back) == ("2:4", "depth", "width")
    assert float(back.loss(AT[0])) == pytest.approx(float(select_law(laws, method="experts").loss(AT[0])))
    # one method is a pool of its own: its law, with the spread that methods are expected to have
    alone = law_without_runs([law for law in laws if law.method == "depth"], "width")
    depth = select_law(laws, method="depth")
    assert alone.params["pace"] == pytest.approx(depth.params["pace"])
    assert np.mean([width(alone, x) / width(select_law(laws, method="experts"), x) for x in AT]) > 1.0


def test_other_names_and_laws_that_share_nothing_are_refused(runs, laws) -> None:
    with pytest.raises(InputError, match="unknown method 'expert'; did you mean 'experts'"):
        select_law(laws, method="expert")
    with pytest.raises(InputError, match="unknown method '4:2'"):
        select_law(laws, method="4:2")
    few = [r for r in runs if r.params_before < 4e5]
    for alone in (fit(few, form="p2", draws=5), fit(few, form="regrowth", pool="method", draws=5)):
        with pytest.raises(InputError, match=r"no run was pruned by experts.*say nothing of other methods") as refused:
            select_law([*alone], method="experts")
        assert "\n" not in str(refused.value)
