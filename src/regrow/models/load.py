"""Load Hugging Face checkpoints: safetensors only, no remote code, and every failure one line for the user."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import torch
import transformers.utils.logging as hf_logging
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from regrow.arch import Architecture
from regrow.data.source import hub_reachable
from regrow.errors import InputError

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


def load_model(
    path_or_name: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """A causal language model in evaluation mode, from a checkpoint folder or a name on the Hugging Face Hub.

    Args:
        path_or_name: folder with `config.json` and safetensors, or a Hub name such as `HuggingFaceTB/SmolLM2-135M`.
        dtype: convert the weights to this; None keeps the checkpoint's own.
        device: where the weights go.

    Raises `InputError` if there is no such model, its family is not supported, or its files are broken or incomplete.
    """
    where = str(_existing(path_or_name))
    config, arch = read_config(where)
    with _one_line_errors(where, "cannot load the weights"):
        _check_size(where, arch if Path(where).is_dir() else None)
    with _one_line_errors(where, "cannot load the weights"), quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            where,
            config=config,
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model = model.to(device)
    # transformers fills what a checkpoint lacks with random numbers and only warns
    absent = sorted(report["missing_keys"])
    if absent:
        raise InputError(
            f"the checkpoint lacks {len(absent)} tensors, first {absent[0]!r}",
            where=where,
            hint="it is incomplete; fetch or save it again",
        )
    return model.eval()


def read_config(path_or_name: str | Path) -> tuple[PretrainedConfig, Architecture]:
    """A model's config and architecture, without its weights. Raises `InputError` as `load_model` does."""
    where = str(_existing(path_or_name))
    with _one_line_errors(where, "cannot read the model's config"):
        # the raw file first: transformers fills a missing key with the 7B model's value and takes that for true
        raw = Architecture.from_pretrained(where) if Path(where).is_dir() else None
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        return config, raw or Architecture.from_config(config.to_dict(), where=where)


def local_checkpoint(path_or_name: str | Path) -> Path:
    """The folder of a checkpoint: the one given, or that of a Hub name, fetched into the Hub's cache if need be.

    Raises `InputError` if there is no such model.
    """
    where = _existing(path_or_name)
    if isinstance(where, Path):
        return where
    with _one_line_errors(where, "cannot fetch the model"), quiet():
        return Path(
            huggingface_hub.snapshot_download(
                where, allow_patterns=["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
            )
        )


def _check_size(where: str, arch: Architecture | None) -> None:
    """Raise `InputError` if a folder's files hold fewer parameters than its config makes.

    Only headers are read. transformers would allocate the difference and fill it with random numbers before saying so.
    """
    stored = 0
    for file in weight_files(where) if arch else []:
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                stored += math.prod(tensors.get_slice(name).get_shape())
    if arch and stored < arch.params:
        raise InputError(
            f"the files hold {stored} parameters where config.json makes {arch.params}",
            where=where,
            hint="the checkpoint is incomplete or its config is another model's; fetch it again",
        )


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a local checkpoint: the shards its index lists, or the one file.

    Raises `InputError` if there is none or one that is listed is missing.
    """
    index, single = Path(folder) / "model.safetensors.index.json", Path(folder) / "model.safetensors"
    files = [single]
    if index.is_file() and not single.is_file():
        files = [Path(folder) / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    for file in files:
        if not file.is_file():
            raise InputError("no such weights file", where=str(file), hint="regrow reads safetensors only")
    return files


def load_tokenizer(path_or_name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that lies with a checkpoint. Raises `InputError` if there is none or it is broken."""
    where = str(_existing(path_or_name))
    if Path(where).is_dir() and not has_tokenizer(where):
        raise InputError("no tokenizer files", where=where, hint="copy the original model's tokenizer into the folder")
    with _one_line_errors(where, "cannot load the tokenizer"):
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False)


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a local folder holds tokenizer files."""
    return any((Path(folder) / name).is_file() for name in _TOKENIZER_FILES)


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


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and remarks of transformers' own inside: noise beside ours, and a study loads hundreds."""
    shown, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if shown:
            hf_logging.enable_progress_bar()


@contextmanager
def _one_line_errors(where: str, what: str) -> Iterator[None]:
    """Turn whatever transformers raises over a user's files into one `InputError`.

    Broad on purpose: over the years and file formats it raises OSError, ValueError, KeyError, RuntimeError,
    SafetensorError, JSON and validation errors for a bad folder.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{what}: {reason}", where=where, hint="give a checkpoint folder with safetensors") from error


def _existing(path_or_name: str | Path) -> Path | str:
    """A folder that is there, or a Hub name that is cached or can be asked for; `InputError` for anything else."""
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file() and not has_tokenizer(path):
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
