"""FSDP2: parameters, gradients and optimizer states shared out over the processes.

The blocks are wrapped here with PyTorch's `fully_shard`, one code path for GPUs and CPUs (accelerate shards on
accelerators only, and so could not be tested without one). Checkpoints are PyTorch's distributed ones, every process
its own shards; they load on another number of processes as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from regrow.models.layout import decoder_blocks
from regrow.training.processes import processes

SHARDS = "shards"


def shard(model: PreTrainedModel) -> PreTrainedModel:
    """Share out `model` over all processes, in place: one unit per block, and one for the rest."""
    state = processes()
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    for block in decoder_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():  # buffers such as rotary frequencies are small: every process keeps them whole
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(state.device))
    return model


def settle(model: nn.Module) -> None:
    """Free the gathered weights that a forward pass without a backward pass keeps.

    Until then the model's parameters are copies, and what is written to them is lost.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that every process holds a part of, put together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """The whole weights on the CPU of the main process; empty elsewhere. Every process must call it."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def gathered(model: PreTrainedModel, weights: dict[str, Any]) -> PreTrainedModel:
    """A plain model on the CPU with the config of the sharded `model` and the whole `weights`."""
    kind = next(c for c in type(model).__mro__ if not c.__name__.startswith("FSDP"))
    plain: PreTrainedModel = kind(model.config)
    plain.load_state_dict(weights)
    return plain.eval()


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write every process's shards of the weights and the optimizer into `folder`."""
    weights, states = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": states}, checkpoint_id=folder / SHARDS)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read shards that `save` wrote, whatever the number of processes then, in place."""
    weights, states = get_state_dict(model, optimizer)
    both: dict[str, Any] = {"model": weights, "optimizer": states}
    dcp.load(both, checkpoint_id=folder / SHARDS)
    set_state_dict(model, optimizer, model_state_dict=both["model"], optim_state_dict=both["optimizer"])
