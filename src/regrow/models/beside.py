"""The files that a new checkpoint takes over from the old one: config.json, and every other file byte for byte.

Tokenizer, chat template, special tokens, generation settings and licence have nothing to do with pruning or training.
A file that goes through a library's classes comes out in the library's newest dialect, which older readers can't read.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regrow.models.config_file import CONFIG, read_content, with_old_names, write_content
from regrow.models.folder import Checkpoint, open_checkpoint

#: The file beside a pruned checkpoint's weights that says what was done: pruning writes it, training reads it.
PRUNE_RECORD = "regrow_prune.json"

#: Weights in any format, the state of a training, logs, and code.
_LEFT_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".pkl",
    ".distcp",
    ".index.json",
    ".py",
    ".log",
    ".lock",
    ".tmp",
    "_results.json",
)

#: Written anew or not at all: they describe the weights that were there before.
_LEFT_NAMES = (CONFIG, PRUNE_RECORD, "README.md", "training.json", "trainer_state.json", "adapter_config.json")

#: Folders that are part of a tokenizer.
_FOLDERS = ("additional_chat_templates",)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a new checkpoint takes over from the folder it comes from.

    Attributes:
        folder: where the files lie that are copied.
        content: the fields of config.json as they are to be written.
        dtype: the type in which the folder's weights are stored.
    """

    folder: Path
    content: Mapping[str, Any]
    dtype: torch.dtype

    def with_content(self, content: Mapping[str, Any]) -> Beside:
        """The same with other fields for config.json."""
        return replace(self, content=content)

    def write(self, stage: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json and copy the other files into a folder.

        config.json is copied as well if its fields do not change. `dtype` is the type of the new weights; if it differs
        from the old one, the field that names it is changed.
        """
        content = with_old_names(self.content)
        if dtype is not None and dtype != self.dtype:
            named = str(dtype).removeprefix("torch.")
            content |= {name: named for name in ("dtype", "torch_dtype") if content.get(name) is not None}
        if content == read_content(self.folder):
            shutil.copyfile(self.folder / CONFIG, stage / CONFIG)
        else:
            write_content(stage, content)
        for file in companions(self.folder):
            target = stage / file.relative_to(self.folder)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)


def beside(checkpoint: Checkpoint | str | Path) -> Beside:
    """What lies beside the weights of a checkpoint, or of the one in a folder. Raises as `open_checkpoint`."""
    found = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint)
    return Beside(folder=found.folder, content=found.content, dtype=found.dtype)


def companions(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that neither pruning nor training changes, config.json left out."""
    found = [*folder.iterdir(), *(file for name in _FOLDERS for file in (folder / name).glob("*"))]
    return sorted(
        file
        for file in found
        if file.is_file()
        and not file.name.startswith((".", "events.out.tfevents"))
        and not file.name.endswith(_LEFT_SUFFIXES)
        and file.name not in _LEFT_NAMES
    )
