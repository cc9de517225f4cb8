"""On a GPU as on the CPU: the same parts go, and what is left loses as much. Skipped where there is no GPU."""

import pytest
import torch

from regrow.data import read_blocks
from regrow.ladder import find_corpus, find_model
from regrow.models.load import load_model, load_tokenizer
from regrow.models.masks import zero_masks
from regrow.models.save import save_checkpoint
from regrow.pruning import PruneSpec, prune_model
from regrow.pruning.check import check_checkpoint
from regrow.pruning.prune import prune
from regrow.pruning.search import walk_loss
from regrow.pruning.sparsegpt import Hessian
from regrow.pruning.stream import open_stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="about a machine with a GPU")

SPECS = {
    "block-influence": {"method": "depth", "rate": 0.25},
    "iterative": {"method": "depth", "rate": 0.25, "iterative": True},
    "perplexity": {"method": "depth", "rate": 0.25, "scorer": "perplexity"},
    "angular": {"method": "depth", "rate": 0.25, "scorer": "angular"},
    "activation": {"method": "width", "rate": 0.25},
    "KV groups": {"method": "width", "rate": 0.25, "axes": ("hidden", "intermediate", "kv_heads")},
    "search": {"method": "width", "rate": 0.25, "search": 3},
    "least-squares": {"method": "width", "rate": 0.25, "scorer": "least-squares", "axes": ("intermediate",)},
    "magnitude": {"method": "2:4", "scorer": "magnitude"},
    "wanda": {"method": "2:4", "scorer": "wanda"},
    "sparsegpt": {"method": "2:4", "scorer": "sparsegpt"},
    "sparsegpt 4:8": {"method": "4:8", "scorer": "sparsegpt"},
}


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def folder(request, tmp_path_factory):
    """A real model of nine blocks in either type, by which the GPU computes."""
    at = find_model("tiny-llama-0.6m")
    path = tmp_path_factory.mktemp("stored") / "model"
    save_checkpoint(load_model(at, dtype=request.param), load_tokenizer(at), path)
    return path


@pytest.fixture(scope="module")
def texts():
    tokenizer = load_tokenizer(find_model("tiny-llama-0.6m"))
    calibration, held_out = (
        read_blocks(find_corpus("ladder", split) + ",tokens=20k", tokenizer, sequence_length=256)
        for split in ("post_train", "held_out")
    )
    return calibration, torch.from_numpy(held_out.tokens[:32]).long()


@pytest.mark.parametrize("asked", SPECS.values(), ids=SPECS.keys())
def test_a_gpu_prunes_as_the_cpu_does(folder, texts, tmp_path, asked):
    calibration, held_out = texts
    spec = PruneSpec(**asked, calibration_blocks=24, calibration_length=256)
    plans, losses = {}, {}
    for device in ("cpu", "cuda"):
        lines = []
        out = tmp_path / device
        plans[device] = prune(folder, spec, calibration=calibration, out=out, device=device, progress=lines.append)
        assert any(line.startswith("memory: about") for line in lines)
        # both results are judged on the CPU
        losses[device] = walk_loss(open_stream(out), held_out)
    before = walk_loss(open_stream(folder), held_out)
    assert losses["cpu"] > before
    exact = open_stream(folder).source.layout["model.norm.weight"].dtype == torch.float32
    # a GPU computes in the stored type, and bf16 puts things of near equal worth in another order
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=2e-3 if exact else 0.03 * (losses["cpu"] - before) + 0.02)
    if exact and plans["cpu"].pattern is None:
        one, other = (plans[device].to_dict() for device in ("cpu", "cuda"))
        for candidate in (one.get("candidates") or []) + (other.get("candidates") or []):
            candidate["loss"] = round(candidate["loss"], 3)
        assert one == other
    if plans["cpu"].pattern is not None:
        assert not check_checkpoint(tmp_path / "cuda", asked["method"]).violations
        masks = [zero_masks(load_model(tmp_path / device)) for device in ("cpu", "cuda")]
        differ = sum(int((masks[0][name] != masks[1][name]).sum()) for name in masks[0])
        assert differ / sum(mask.numel() for mask in masks[0].values()) < (1e-3 if exact else 0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_sums_the_hessian_of_stored_inputs_in_float32(dtype):
    inputs = torch.randn(3, 100, 320, generator=torch.Generator().manual_seed(0)).to(dtype)
    hessians = {}
    for device in ("cpu", "cuda"):
        hessians[device] = Hessian(320, torch.device(device))
        for batch in inputs.to(device):
            hessians[device].add(batch)
    # the inputs are those numbers exactly, whatever their type: only the order of the sums differs
    torch.testing.assert_close(hessians["cuda"].matrix().cpu(), hessians["cpu"].matrix(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", SPECS.values(), ids=SPECS.keys())
def test_a_model_on_a_gpu_is_pruned_there(folder, texts, asked):
    calibration, held_out = texts
    tokens = torch.from_numpy(calibration.tokens[:24]).long()
    model = load_model(folder).to("cuda")
    pruned, plan = prune_model(model, PruneSpec(**asked), tokens)
    assert pruned.device.type == "cuda"
    assert sum(p.numel() for p in pruned.parameters()) == plan.after.params
    assert pruned(input_ids=held_out[:2].cuda(), use_cache=False).logits.isfinite().all()
