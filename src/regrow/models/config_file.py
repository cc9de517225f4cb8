"""config.json as it lies in a folder: read, checked field by field, and edited without touching the other fields.

The file is never written from transformers' config classes. They write the newest dialect: transformers 5 leaves out
`rope_theta` and `rope_scaling`, and transformers 4 then reads `rope_theta` 10000 without a warning.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.families import family_of
from regrow.models.experts import as_stored
from regrow.models.library import one_line_errors, quiet

CONFIG = "config.json"

#: How to compute attention on the machine that saved the file; regrow chooses that itself.
_RUNTIME_FIELDS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")

#: What transformers notes about itself and the folder in a config, which says nothing about the model.
_BOOKKEEPING = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")


def read_content(folder: str | Path) -> dict[str, Any]:
    """The fields of a folder's config.json. Raises `InputError` if there is none or it is not a JSON object."""
    path = Path(folder) / CONFIG
    content = read_json(path, missing="no config.json in this folder", hint="give a checkpoint folder")
    if not isinstance(content, dict):
        raise InputError("not a JSON object", where=str(path), hint="is this a model's config?")
    return content


def read_json(path: Path, *, missing: str, hint: str) -> Any:
    """A JSON file of a checkpoint. Raises `InputError` that says if it is absent, cut or a Git LFS pointer."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(missing, where=str(path), hint=hint) from None
    except OSError as error:
        raise InputError(f"can't read it ({error.strerror})", where=str(path), hint=hint) from None
    except UnicodeDecodeError:
        raise InputError("not a JSON file (not text)", where=str(path), hint="fetch it again") from None
    check_no_pointer(text[:100].encode(), path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not a JSON file ({error})", where=str(path), hint="fetch it again, or mend it") from None


def check_no_pointer(start: bytes, path: Path) -> None:
    """Raise `InputError` if these first bytes are those of a Git LFS pointer."""
    if start.startswith(b"version https://git-lfs"):
        raise InputError("a Git LFS pointer, not the file itself", where=str(path), hint="run `git lfs pull` there")


def check_fields(content: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for a field that transformers trips over with a message that does not name it.

    `where` is the file.
    """
    layers = content.get("num_hidden_layers")
    for name in family_of(str(content.get("model_type"))).block_lists:
        kinds = content.get(name)
        # transformers reads no further than the last block, but wants layer_types to end there
        if (
            isinstance(kinds, list)
            and isinstance(layers, int)
            and (len(kinds) < layers or (name == "layer_types" and len(kinds) > layers))
        ):
            raise InputError(
                f"{name} has {len(kinds)} entries, num_hidden_layers is {layers}",
                where=where,
                hint=f"give one entry for each block, or leave {name} out",
            )
    for name in ("dtype", "torch_dtype"):
        value = content.get(name)
        if value is not None and not isinstance(getattr(torch, str(value), None), torch.dtype):
            raise InputError(
                f"{name} is {value!r}, which is not a type of numbers",
                where=where,
                hint='name the type that the weights are stored in, such as "bfloat16", or leave it out',
            )
    pad, entries = content.get("pad_token_id"), content.get("vocab_size")
    if isinstance(pad, int) and isinstance(entries, int) and not -entries <= pad < entries:
        raise InputError(
            f"pad_token_id is {pad}, and the vocabulary has {entries} entries (0 to {entries - 1})",
            where=where,
            hint="set it to null or to a token of the vocabulary",
        )


def model_config(content: Mapping[str, Any], folder: str | Path) -> PretrainedConfig:
    """The config that transformers makes of these fields. Raises `InputError` that names the file and the field."""
    where = str(Path(folder) / CONFIG)
    Architecture.from_config(content, where=where)
    check_fields(content, where)
    try:
        config = _config_of(content)
        parameter_shapes(content)
    except Exception as error:
        field = _culprit(content)
        what = f"the field {field!r} can't be used" if field else "transformers can't build a model from it"
        with one_line_errors(where, what, "correct the field" if field else None):
            raise error
    config.name_or_path = str(folder)
    return config


def parameter_shapes(content: Mapping[str, Any]) -> Mapping[str, torch.Size]:
    """The shape of every parameter of the model that these fields of a config make.

    Raises what transformers raises for fields that it can make no model of.
    """
    return _shapes(json.dumps(content))


@lru_cache(maxsize=16)  # a folder is opened several times on the way to a model
def _shapes(content: str) -> Mapping[str, torch.Size]:
    skeleton = skeleton_of(_config_of(json.loads(content)))
    return MappingProxyType({name: tensor.shape for name, tensor in as_stored(skeleton.named_parameters()).items()})


def skeleton_of(config: PretrainedConfig) -> PreTrainedModel:
    """The causal language model that a config makes, without any numbers (all on the meta device)."""
    with quiet(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation=config._attn_implementation)


def _config_of(content: Mapping[str, Any]) -> PretrainedConfig:
    # transformers writes into the nested mappings that it is given
    fields = {name: copy.deepcopy(value) for name, value in content.items() if name not in _RUNTIME_FIELDS}
    with quiet():
        return CONFIG_MAPPING[fields.pop("model_type")].from_dict(fields)


def _culprit(content: Mapping[str, Any]) -> str | None:
    """The field without which transformers can build the model; None if there is no single one."""
    for name in content:
        if name == "model_type":
            continue
        try:
            skeleton_of(_config_of({key: value for key, value in content.items() if key != name}))
        except Exception:
            continue
        return name
    return None


def agree(content: dict[str, Any], wanted: PretrainedConfig) -> dict[str, Any]:
    """The fields as transformers must find them to make the config `wanted`.

    What transformers would read otherwise, because a field that is absent stands for a default, is written out.
    """
    target, found = wanted.to_dict(), _config_of(content).to_dict()
    changed = {name: value for name, value in target.items() if found.get(name) != value and name not in _BOOKKEEPING}
    return with_old_names(content | changed)


def with_old_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the names that transformers 4 knows, where only those of transformers 5 are there.

    These are `rope_theta` and `rope_scaling` beside `rope_parameters`, and `num_experts` beside `num_local_experts`:
    without them transformers 4 takes a default and says nothing. Both versions read the old names. Where `rope_scaling`
    is there, both go by it, and nothing is added that would change what they read.
    """
    rope = content.get("rope_parameters")
    added: dict[str, Any] = {}
    if content.get("num_local_experts") is not None and content.get("num_experts") is None:
        added["num_experts"] = content["num_local_experts"]
    if isinstance(rope, Mapping) and isinstance(rope.get("full_attention"), Mapping):
        # by kind of layer: the old names are those of full attention, but for the base that Gemma-3's windows have
        windowed, rope = rope.get("sliding_attention"), rope["full_attention"]
        if content.get("model_type") == "gemma3_text" and content.get("rope_local_base_freq") is None:
            added["rope_local_base_freq"] = (windowed or rope).get("rope_theta")
    if isinstance(rope, Mapping) and "rope_theta" in rope and content.get("rope_scaling") is None:
        if content.get("rope_theta") is None:
            added["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            added["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    return {**content, **added}


def write_content(folder: Path, content: Mapping[str, Any]) -> None:
    """Write config.json into a folder."""
    (folder / CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
