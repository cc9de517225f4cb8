"""What a checkpoint folder is: one reader judges it for pruning, evaluation, training and checks alike.

Its config.json and the headers of its weights are read together. Where they contradict each other and the weights say
what is meant, the fields are corrected and a note says so; where they do not, the folder is refused.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.config_file import CONFIG, model_config, parameter_shapes, read_content
from regrow.models.layout import EMBEDDING, OUTPUT
from regrow.models.shards import ShardReader, row_chunks
from regrow.models.surplus import refuse_surplus, refuse_unknown
from regrow.units import plural

#: Fields of config.json that say how weights are stored.
_STORAGE_FIELDS = ("quantization_config", "compression_config")

_ADAPTER = "adapter_config.json"


class CheckpointWarning(UserWarning):
    """One file of a checkpoint folder contradicts the others, and is read as they say."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint of a supported family.

    Attributes:
        folder: where it lies.
        content: the fields of its config.json, corrected where the weights say otherwise.
        config: what transformers makes of `content`.
        arch: its architecture.
        layout: every parameter as a tensor on the meta device (shape and type), tied embeddings once.
        reader: reads the parameters.
        notes: what was corrected, in sentences.
    """

    folder: Path
    content: Mapping[str, Any]
    config: PretrainedConfig
    arch: Architecture
    layout: Mapping[str, torch.Tensor]
    reader: ShardReader
    notes: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """The type that most of the parameters are stored in."""
        return stored_dtype(self.layout)


def stored_dtype(layout: Mapping[str, torch.Tensor]) -> torch.dtype:
    """The type that most numbers of these tensors are stored in."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in layout.values():
        counts[tensor.dtype] += tensor.numel()
    return counts.most_common(1)[0][0]


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Judge a local folder by its config.json and the headers of its weights.

    Warns with `CheckpointWarning` of each correction. Raises `InputError` if it is not a whole checkpoint of a
    supported family, or holds a tensor that the model of its config does not have.
    """
    folder = Path(folder)
    where = str(folder)
    content = read_content(folder)
    config = model_config(content, folder)  # report a wrong config before missing weights
    if (folder / _ADAPTER).is_file():
        raise InputError(
            f"an adapter ({_ADAPTER}) lies beside the weights, and transformers would apply it",
            where=where,
            hint="merge it into the model (peft: merge_and_unload), or move its files away",
        )
    reader = ShardReader(folder)
    content, notes = _corrected(content, reader)
    if notes:
        config = model_config(content, folder)
    layout = _matched(content, reader, where)
    for note in notes:
        warnings.warn(f"{where}: {note}", CheckpointWarning, stacklevel=2)
    arch = Architecture.from_config(content, where=str(folder / CONFIG))
    return Checkpoint(
        folder=folder, content=content, config=config, arch=arch, layout=layout, reader=reader, notes=tuple(notes)
    )


def _corrected(content: dict[str, Any], reader: ShardReader) -> tuple[dict[str, Any], list[str]]:
    """The fields that the weights confirm, and what was corrected."""
    content, notes = dict(content), []
    for field in _STORAGE_FIELDS:
        value = content.get(field)
        if value is not None and not reader.strange:
            method = value.get("quant_method") if isinstance(value, Mapping) else value
            notes.append(
                f"config.json says that the weights are quantised ({method}), but they are stored as "
                f"{str(stored_dtype(reader.layout)).removeprefix('torch.')}: its field {field} is left out"
            )
            del content[field]
    if Architecture.from_config(content).tied and _has_own_output(reader):
        notes.append(
            "config.json says tie_word_embeddings, but lm_head.weight differs from the embedding: "
            "the output layer is kept, and the field is set to false"
        )
        content["tie_word_embeddings"] = False
    return content, notes


def _has_own_output(reader: ShardReader) -> bool:
    """Whether the output layer is stored with other numbers than the embedding."""
    layout = reader.layout
    if OUTPUT not in layout or EMBEDDING not in layout or layout[OUTPUT].shape != layout[EMBEDDING].shape:
        return False
    stored = reader.read([OUTPUT, EMBEDDING])
    pairs = zip(row_chunks(stored[OUTPUT]), row_chunks(stored[EMBEDDING]), strict=True)
    return any(not torch.equal(output, embedding.to(output.dtype)) for output, embedding in pairs)


def _matched(content: Mapping[str, Any], reader: ShardReader, where: str) -> dict[str, torch.Tensor]:
    """The stored parameters that the model of a config needs. Raises `InputError` unless it is exactly these."""
    expected = parameter_shapes(content)
    stored: dict[str, Any] = {**reader.layout, **reader.strange}
    # a tied output layer that is stored all the same is the embedding once more: `_corrected` has compared them
    surplus = set(stored) - set(expected) - ({OUTPUT} if Architecture.from_config(content).tied else set())
    refuse_surplus(surplus, content, where=where)
    absent = [name for name in expected if name not in stored]
    if absent:
        hint = "it is incomplete, or its config is another model's; fetch or save it again"
        if absent == [OUTPUT]:
            hint = "if the output layer is the embedding, write tie_word_embeddings: true into config.json"
        raise InputError(
            f"the checkpoint lacks {plural(len(absent), 'tensor')}, first {absent[0]!r}", where=where, hint=hint
        )
    refuse_unknown(surplus, where=where)
    for name, kind in reader.strange.items():
        raise InputError(
            f"{name!r} is stored as {kind}",
            where=where,
            hint="give a checkpoint that is not quantised (bf16, fp16, fp32 or fp64)",
        )
    for name, shape in expected.items():
        if reader.layout[name].shape != shape:
            raise InputError(
                f"{name!r} has the shape {tuple(reader.layout[name].shape)} where config.json makes {tuple(shape)}",
                where=where,
                hint="its config is another model's",
            )
    return {name: reader.layout[name] for name in expected}
