"""Two processes on the CPU (gloo) against one: the same curve, the same zeros, copied (DDP) and shared out (FSDP2)."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import SPEC, curve

from regrow.errors import InputError
from regrow.models.load import load_model
from regrow.models.masks import violations, zero_masks
from regrow.training.post_train import post_train

SCRIPT = Path(__file__).with_name("two_processes.py")


def _two(*arguments: str) -> list[str]:
    """Run the script in two processes, as torchrun would; what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [process.communicate(timeout=250) for process in running]
    assert [p.returncode for p in running] == [0, 0], results[0][1][-2000:] + results[1][1][-2000:]
    return [out for out, _ in results]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(sparse_model, text, tmp_path):
    one = curve(post_train(str(sparse_model), data=str(text), held_out=str(text), spec=SPEC, out=tmp_path / "one"))
    printed = [json.loads(out.splitlines()[-1]) for out in _two(str(sparse_model), str(text), str(tmp_path))]
    assert printed[0]["copied"][0][1] == one[0][1]  # before the first step there is nothing to differ by: to the bit
    masks = zero_masks(load_model(sparse_model))
    for kind in ("copied", "sharded"):
        assert printed[1][kind] == printed[0][kind]  # every process gets the record
        for ours, theirs in zip(printed[0][kind], one, strict=True):
            assert ours == pytest.approx(list(theirs), abs=2e-6), kind
        model = load_model(tmp_path / kind / "model")
        assert not violations(model, masks)
        assert torch.count_nonzero(model.model.layers[0].mlp.up_proj.weight) > 0


def test_sharding_asks_for_processes(tiny_model, text, tmp_path):
    with pytest.raises(InputError, match="sharding needs several processes"):
        post_train(str(tiny_model), data=str(text), spec=SPEC, out=tmp_path / "run", shard=True)
