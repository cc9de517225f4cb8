"""The utilisation of runs whose speed is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from regrow.arch import catalog
from regrow.errors import InputError
from regrow.planning import find_gpu, measured_mfu
from regrow.planning.utilisation import flops_and_seconds, gpu_of_device
from regrow.runs import CurvePoint, RunRecord, RunWriter

H100 = find_gpu("h100")


def record(name: str = "a", *, tokens_per_second: float = 1e5, **changes: object) -> RunRecord:
    curve = tuple(
        CurvePoint(tokens=t, loss=3.0, seconds=7.0 + t / tokens_per_second) for t in (0, 1_000_000, 3_000_000)
    )
    fields: dict = {
        "run": name,
        "family": "llama",
        "method": "depth",
        "params_before": 1_000_000_000,
        "params_after": 750_000_000,
        "pruning_rate": 0.25,
        "loss_before": 2.5,
        "curve": curve,
        "objective": "cross-entropy",
        "details": {"device": "NVIDIA H100 80GB HBM3", "devices": 2, "sequence_length": 2048},
    }
    return RunRecord(**{**fields, **changes})


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA A10", None),
        ("x86_64", None),
    ],
)
def test_devices_are_known_by_their_own_names(device: str, name: str | None) -> None:
    gpu = gpu_of_device(device)
    assert (None if gpu is None else gpu.name) == name


def test_the_utilisation_is_speed_times_flops_over_the_peak(tmp_path: Path) -> None:
    RunWriter.store(tmp_path / "a", record())
    found = measured_mfu([tmp_path], H100)
    # both GPUs' peaks stand against the speed of the run
    assert found.mfu == pytest.approx(1e5 * 6 * 750e6 / (2 * H100.peak_flops))
    assert (found.runs, found.how) == (1, "measured on 1 run (a)")


def test_the_shape_of_the_trained_model_is_used_where_it_is_there(tmp_path: Path) -> None:
    RunWriter.store(tmp_path / "a", record())
    (tmp_path / "a" / "model").mkdir()
    shape = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8}
    config = {"model_type": "llama", "vocab_size": 1000, **shape}
    (tmp_path / "a" / "model" / "config.json").write_text(json.dumps(config))
    from regrow.arch import Architecture

    per_token = Architecture.from_config(config).training_flops_per_token(2048)
    assert measured_mfu([tmp_path], H100).mfu == pytest.approx(1e5 * per_token / (2 * H100.peak_flops))


def test_runs_count_by_their_time(tmp_path: Path) -> None:
    for name, speed in (("fast", 2e5), ("slow", 5e4)):
        RunWriter.store(tmp_path / name, record(name, tokens_per_second=speed))
    one = 6 * 750e6 / (2 * H100.peak_flops)
    # as many tokens each: the speed of both together is the harmonic mean
    assert measured_mfu([tmp_path], H100).mfu == pytest.approx(one * 2 / (1 / 2e5 + 1 / 5e4))


def test_masked_runs_multiply_their_zeros() -> None:
    dense, _ = flops_and_seconds(record(), H100)
    masked, _ = flops_and_seconds(record(method="2:4"), H100)
    assert masked / dense == pytest.approx(1000 / 750)
    shaped, _ = flops_and_seconds(record(), H100, catalog()["Llama-3.2-1B"])
    assert shaped == pytest.approx(3e6 * catalog()["Llama-3.2-1B"].training_flops_per_token(2048))


def test_recorded_flops_come_first_and_hold_the_teacher() -> None:
    details = {**record().details, "flops_per_token": 5e9}  # the student's 4.5e9 and the teacher's forward pass
    distilled = record(objective="distillation:T=1,mix=1", details=details)
    assert flops_and_seconds(distilled, H100, catalog()["Llama-3.2-1B"])[0] == pytest.approx(3e6 * 5e9)


def test_the_speed_noted_at_the_end_serves_where_the_curve_has_no_times() -> None:
    untimed = tuple(replace(p, seconds=None) for p in record().curve)
    details = {**record().details, "tokens_per_second": 4e4}
    flops, seconds = flops_and_seconds(record(curve=untimed, details=details), H100)
    assert flops / seconds == pytest.approx(4e4 * 6 * 750e6 / 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"curve": (CurvePoint(tokens=5, loss=3.0),)}, "no times recorded"),
        ({"details": {}}, "no hardware recorded"),
        ({"details": {"device": "x86_64"}}, "ran on x86_64, not on NVIDIA H100 SXM"),
        ({"objective": "distillation:T=1,mix=0.5"}, "distils from a teacher"),
    ],
)
def test_runs_that_cannot_say_are_refused(tmp_path: Path, changes: dict, says: str) -> None:
    RunWriter.store(tmp_path / "a", record(**changes))
    with pytest.raises(InputError, match=f"no run to measure the utilisation from: run a: {says}") as caught:
        measured_mfu([tmp_path], H100)
    assert "\n" not in str(caught.value)


def test_one_run_that_cannot_say_is_left_out_and_said(tmp_path: Path) -> None:
    RunWriter.store(tmp_path / "a", record())
    RunWriter.store(tmp_path / "b", record("b", details={}))
    assert measured_mfu([tmp_path], H100).how == "measured on 1 run (a), 1 left out"


def test_faster_than_the_peak_is_no_measurement(tmp_path: Path) -> None:
    RunWriter.store(tmp_path / "a", record(tokens_per_second=1e9))
    with pytest.raises(InputError, match=r"times the peak of NVIDIA H100 SXM; are they of this GPU\?"):
        measured_mfu([tmp_path], H100)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folders here"):
        measured_mfu([tmp_path / "nowhere"], H100)
