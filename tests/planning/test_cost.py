"""FLOPs, GPU-hours and money."""

from __future__ import annotations

import math
import re

import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.planning import DEFAULT_MFU, GPUS, cost_usd, find_gpu, flops_per_token, gpu_hours
from regrow.planning.cost import pruned_model
from regrow.shapes import shape_for_rate


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
        assert re.match(r"https://(www|images|resources)\.(nvidia|amd)\.com/", gpu.source)


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


def test_width_pruning_counts_the_shape_that_it_makes() -> None:
    arch = catalog()["Llama-3.1-8B"]
    counted = flops_per_token(params_before=arch.params, pruning_rate=0.25, method="width", architecture=arch)
    pruned = shape_for_rate(arch, 0.25)
    assert counted.per_token == pruned.training_flops_per_token(4096)
    assert counted.how == "exact for the pruned shape at context 4096"
    # scaling by the share kept, all that can be done for a method of no known shape, is near it
    scaled = flops_per_token(params_before=arch.params, pruning_rate=0.25, method="other", architecture=arch)
    assert scaled.per_token == pytest.approx(0.75 * arch.training_flops_per_token(4096))
    assert scaled.per_token == pytest.approx(counted.per_token, rel=0.02)
    assert "scaled by the share of parameters kept" in scaled.how


def test_a_teacher_adds_its_forward_pass() -> None:
    arch = catalog()["Llama-3.2-1B"]
    ask = {"params_before": 1e9, "pruning_rate": 0.25, "method": "depth"}
    alone = flops_per_token(**ask)
    counted = flops_per_token(**ask, teacher=8e9)
    assert counted.per_token - alone.per_token == 2 * 8e9
    assert counted.how == "6 per kept parameter; plus the forward pass of a teacher of 8B parameters"
    shaped = flops_per_token(**ask, teacher=arch, context=1000)
    assert shaped.per_token - alone.per_token == arch.forward_flops_per_token(1000)
    for bad in (0.0, -8e9, math.nan):
        with pytest.raises(InputError, match="a teacher of"):
            flops_per_token(**ask, teacher=bad)


def test_serving_saves_what_sparse_kernels_save() -> None:
    arch = catalog()["Llama-3.2-1B"]
    masked = pruned_model(method="2:4", pruning_rate=None, architecture=arch)
    dense = arch.forward_flops_per_token(2048)
    assert masked.inference_flops(2048) == dense
    # at twice the speed the pruned matrices count half; attention and the output embedding are as they were
    rest = dense - 2 * arch.layers * arch.block_matrix_params
    assert masked.inference_flops(2048, sparse_speedup=2.0) == pytest.approx(rest + (dense - rest) / 2)
    counted = pruned_model(method="2:4", pruning_rate=0.4, params_before=1e9)
    assert (counted.inference_flops(), counted.inference_flops(sparse_speedup=1.6)) == (2e9, 1.25e9)
    deep = pruned_model(method="depth", pruning_rate=0.25, params_before=1e9)
    assert deep.inference_flops(sparse_speedup=2.0) == 1.5e9


@pytest.mark.parametrize("mfu", [0.0, -0.1, 1.2, float("nan")])
def test_a_utilisation_is_a_fraction(mfu: float) -> None:
    with pytest.raises(InputError, match="MFU"):
        gpu_hours(1.0, gpu=find_gpu("h100"), mfu=mfu)


def test_bad_prices_and_gpus_are_one_line() -> None:
    with pytest.raises(InputError, match="not negative"):
        cost_usd(1.0, price_usd_per_hour=-2.0)
    with pytest.raises(InputError, match="did you mean 'h200'"):
        find_gpu("h20")
