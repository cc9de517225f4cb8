"""FLOPs, GPU-hours and money."""

from __future__ import annotations

import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.planning import DEFAULT_MFU, GPUS, cost_usd, find_gpu, flops_per_token, gpu_hours


def test_hours_are_flops_over_the_share_of_the_peak_reached() -> None:
    h100 = find_gpu("h100")
    assert gpu_hours(3600 * 0.5 * 989.5e12, gpu=h100, mfu=0.5) == pytest.approx(1.0)
    assert gpu_hours(1e18, gpu=h100) == gpu_hours(1e18, gpu=h100, mfu=DEFAULT_MFU)


@pytest.mark.parametrize("name", ["H100", "h100 sxm", "NVIDIA H100 SXM"])
def test_gpus_are_found_as_people_write_them(name: str) -> None:
    assert find_gpu(name).name == "h100"


def test_every_gpu_has_a_peak_and_a_vendors_page() -> None:
    for name, gpu in GPUS.items():
        assert gpu.name == name
        assert 1e13 < gpu.peak_flops < 1e16
        assert gpu.source.startswith(("https://www.nvidia.com/", "https://images.nvidia.com/", "https://www.amd.com/"))


def test_without_a_price_there_is_no_cost() -> None:
    assert cost_usd(10.0, price_usd_per_hour=None) is None
    assert cost_usd(None, price_usd_per_hour=2.0) is None
    assert cost_usd(10.0, price_usd_per_hour=2.0) == 20.0


def test_counts_alone_cost_six_per_kept_parameter() -> None:
    assert flops_per_token(params_before=1e9, pruning_rate=0.25, method="width").per_token == 4.5e9


def test_masked_weights_save_nothing() -> None:
    arch = catalog()["Llama-3.2-1B"]
    dense = arch.training_flops_per_token(4096)
    assert flops_per_token(params_before=1e9, pruning_rate=0.4, method="2:4").per_token == 6e9
    shaped = flops_per_token(params_before=arch.params, pruning_rate=0.4, method="2:4", architecture=arch)
    assert shaped.per_token == dense


def test_depth_pruning_is_exact_for_whole_blocks() -> None:
    arch = catalog()["Llama-3.1-8B"]
    pruned = arch.with_shape(layers=24)
    rate = 1 - pruned.params / arch.params
    counted = flops_per_token(params_before=arch.params, pruning_rate=rate, method="depth", architecture=arch)
    assert counted.per_token == pytest.approx(pruned.training_flops_per_token(4096), rel=1e-12)


def test_width_pruning_is_scaled_by_the_share_kept() -> None:
    arch = catalog()["Llama-3.1-8B"]
    counted = flops_per_token(params_before=arch.params, pruning_rate=0.25, method="width", architecture=arch)
    assert counted.per_token == pytest.approx(0.75 * arch.training_flops_per_token(4096))
    assert "share of parameters kept" in counted.how


@pytest.mark.parametrize("mfu", [0.0, -0.1, 1.2, float("nan")])
def test_a_utilisation_is_a_fraction(mfu: float) -> None:
    with pytest.raises(InputError, match="MFU"):
        gpu_hours(1.0, gpu=find_gpu("h100"), mfu=mfu)


def test_bad_prices_and_gpus_are_one_line() -> None:
    with pytest.raises(InputError, match="not negative"):
        cost_usd(1.0, price_usd_per_hour=-2.0)
    with pytest.raises(InputError, match="did you mean 'h200'"):
        find_gpu("h20")
