"""Load Hugging Face checkpoints: safetensors only, no remote code, and every failure one line for the user."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from regrow.arch import Architecture
from regrow.data.source import hub_reachable
from regrow.errors import InputError
from regrow.models.config_file import CONFIG
from regrow.models.folder import open_checkpoint
from regrow.models.library import one_line_errors, quiet
from regrow.models.tokenizer import has_tokenizer, read_tokenizer

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

#: What is fetched from the Hub: weights in safetensors, and the files that come along with them.
_FETCHED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.md", "LICENSE*", "NOTICE*"]


def load_model(
    path_or_name: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """A causal language model in evaluation mode, from a checkpoint folder or a name on the Hugging Face Hub.

    Args:
        path_or_name: folder with `config.json` and safetensors, or a Hub name such as `HuggingFaceTB/SmolLM2-135M`.
        dtype: convert the weights to this; None keeps the checkpoint's own.
        device: where the weights go.

    Raises `InputError` if there is no such model or its folder is refused (`regrow.models.folder.open_checkpoint`).
    """
    checkpoint = open_checkpoint(local_checkpoint(path_or_name))
    where = str(checkpoint.folder)
    with one_line_errors(where, "cannot load the weights"), quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            where,
            config=checkpoint.config,
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model = model.to(device)
    # the folder is whole, so transformers and regrow map a name differently; transformers would fill such a tensor with
    # random numbers and only warn
    odd = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if odd:
        raise InputError(f"transformers found no place for the tensor {odd[0]!r}", where=where)
    return model.eval()


def read_config(path_or_name: str | Path) -> tuple[PretrainedConfig, Architecture]:
    """A model's config and architecture, without its weights. Raises `InputError` as `load_model` does."""
    checkpoint = open_checkpoint(local_checkpoint(path_or_name))
    return checkpoint.config, checkpoint.arch


def local_checkpoint(path_or_name: str | Path) -> Path:
    """The folder of a checkpoint: the one given, or that of a Hub name, fetched into the Hub's cache if need be.

    Raises `InputError` if there is no such model.
    """
    where = _existing(path_or_name)
    if isinstance(where, Path):
        return where
    with one_line_errors(where, "cannot fetch the model", "check the name and the network"), quiet():
        return Path(huggingface_hub.snapshot_download(where, allow_patterns=_FETCHED))


def load_tokenizer(path_or_name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that lies with a checkpoint. Raises `InputError` if there is none or it is broken."""
    folder = local_checkpoint(path_or_name)
    if not has_tokenizer(folder):
        raise InputError(
            "no tokenizer files", where=str(folder), hint="copy the original model's tokenizer into the folder"
        )
    return read_tokenizer(folder)


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The model's architecture, proven against the parameters it really has.

    Raises `InputError` if the family is not supported or the counts disagree (an adapter, a changed layer).
    """
    where = model.config.name_or_path or type(model).__name__
    arch = Architecture.from_config(model.config.to_dict(), where=where)
    real = count_params(model)
    if real != arch.params:
        raise InputError(
            f"the model has {real} parameters where its config makes {arch.params}",
            where=where,
            hint="merge adapters and give a plain checkpoint",
        )
    return arch


def count_params(model: torch.nn.Module) -> int:
    """Parameters of the model, a tied one counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_nonzero(model: torch.nn.Module) -> int:
    """Parameters that are not exactly zero, a tied one counted once."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())


def _existing(path_or_name: str | Path) -> Path | str:
    """A folder that is there, or a Hub name that is cached or can be asked for; `InputError` for anything else."""
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        if not (path / CONFIG).is_file() and not has_tokenizer(path):
            raise InputError("no config.json in this folder", where=str(path), hint="give a checkpoint folder")
        return path
    if path.exists():
        raise InputError("not a folder", where=str(path), hint="give a checkpoint folder, not one of its files")
    name = str(path_or_name)
    if not _HUB_NAME.fullmatch(name):
        raise InputError("no such model folder", where=name, hint="give a checkpoint folder or a Hub name")
    if not isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str) and not hub_reachable():
        raise InputError(
            "no such model folder, and the Hugging Face Hub cannot be reached",
            where=name,
            hint="give a checkpoint folder",
        )
    return name
