"""Every catalogue entry, unpruned and by each method at three rates, against the models that transformers builds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from regrow.arch import catalog
from regrow.planning.cost import pruned_model
from regrow.pruning.outline import outline
from regrow.pruning.spec import PruneSpec

RATES = (0.15, 0.25, 0.35)

#: The first and the last entry of each family: the others differ in their numbers alone. A forward pass of experts goes
#: by the router's choice, which the meta device does not have: tests/pruning/test_experts.py counts them.
ENDS = sorted(
    {
        name
        for entries in (list(catalog().items()), list(reversed(catalog().items())))
        for name in {shape.model_type: name for name, shape in entries if not shape.experts}.values()
    }
)


@pytest.fixture(scope="module")
def counts() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "models" / "catalogue_counts.py"
    spec = importlib.util.spec_from_file_location("catalogue_counts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ENDS)
def test_parameters_and_flops_are_those_of_the_real_model(counts: ModuleType, name: str) -> None:
    rows = list(counts.rows(name, rates=RATES))
    assert [row.method for row in rows] == ["none", "2:4", *["depth"] * 3, *["width"] * 3]
    for row in rows:
        assert row.params == row.built_params, row
        assert row.flops == pytest.approx(row.built_flops, rel=1e-12), row


def test_extrapolating_in_blocks_is_exact(counts: ModuleType) -> None:
    name = "SmolLM2-135M"
    config, shape = counts.configs()[name], catalog()[name]
    one, two = (counts.build(config, shape, layers, 16) for layers in (1, 2))
    assert counts.extrapolate(one, two, 5) == counts.build(config, shape, 5, 16)


@pytest.mark.parametrize("name", catalog())
def test_a_plan_counts_what_regrow_prune_would_make(name: str) -> None:
    shape = catalog()[name]
    whole, inside = ("2:4", "width") if not shape.experts else ("depth", "experts")
    for method, rate in [(whole, 0.25 if shape.experts else None), *((m, r) for m in ("depth", inside) for r in RATES)]:
        planned = pruned_model(method=method, pruning_rate=rate, architecture=shape)
        pruned = outline(shape, PruneSpec(method=method, rate=rate))
        assert (planned.after, planned.params_after) == (pruned.after, pruned.params_after)
        assert planned.pruning_rate == pytest.approx(pruned.pruning_rate, abs=1e-15)
