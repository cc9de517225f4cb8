"""Checkpoints tensor by tensor: read from safetensors shards without loading them, written without holding them.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes with the header's length, a JSON header
with each tensor's type, shape and place, then the bytes of the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import torch
from safetensors import safe_open

from regrow.errors import InputError, RunFailed, reason_of
from regrow.models.config_file import check_no_pointer, read_json

#: Bytes of tensors in one file of a checkpoint, at most, unless one tensor alone is larger.
MAX_SHARD_BYTES = 5 * 10**9

#: Rows of a large matrix that are read, changed and written at a time hold about this many bytes.
CHUNK_BYTES = 64 * 2**20

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

#: Tensors that old checkpoints store beside their parameters and that transformers computes itself.
_IGNORED = ("rotary_emb.inv_freq",)


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a local checkpoint: the shards its index lists, or the one file.

    Raises `InputError` if there is none, one that is listed is missing, or the index is broken.
    """
    index, single = Path(folder) / "model.safetensors.index.json", Path(folder) / "model.safetensors"
    files = [single]
    if index.is_file() and not single.is_file():
        hint = "fetch or save the checkpoint again"
        content = read_json(index, missing="no such index", hint=hint)
        listed = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
            raise InputError("it lists no files (weight_map)", where=str(index), hint=hint)
        files = [Path(folder) / name for name in sorted(set(listed.values()))]
    for file in files:
        if not file.is_file():
            raise InputError("no such weights file", where=str(file), hint="regrow reads safetensors only")
    return files


class ShardReader:
    """The tensors of a checkpoint folder by name; only headers are read until a tensor is asked for.

    Attributes:
        layout: every tensor of floating point numbers as one on the meta device: its shape and type.
        strange: every other tensor by name, and the type it is stored in (`BOOL`, `I8`, `F8_E4M3`, ...).

    Raises `InputError` if a file is missing or is no safetensors file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.layout: dict[str, torch.Tensor] = {}
        self.strange: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        for file in weight_files(folder):
            with _open(file) as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    if name.endswith(_IGNORED):
                        continue
                    about = tensors.get_slice(name)
                    kind = about.get_dtype()
                    if kind in _TYPES:
                        self.layout[name] = torch.empty(about.get_shape(), dtype=_TYPES[kind], device="meta")
                        self._files[name] = file
                    else:
                        self.strange[name] = kind

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """These tensors as stored, on the CPU. They are read-only views of the file, loaded as they are used."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._files[name], []).append(name)
        found = {}
        for file, wanted in by_file.items():
            with _open(file) as tensors:
                found.update({name: tensors.get_tensor(name) for name in wanted})
        return found


def _open(file: Path) -> safe_open:
    with file.open("rb") as stream:
        check_no_pointer(stream.read(100), file)
    try:
        return safe_open(str(file), framework="pt")
    # OSError and safetensors' own error, a subclass of Exception alone
    except Exception as error:
        raise InputError(
            f"cannot read the weights: {reason_of(error)}", where=str(file), hint="fetch the checkpoint again"
        ) from error


class ShardWriter:
    """Writes a checkpoint's tensors into safetensors files as they are finished, in any order.

    The layout is known first, so that every tensor has its place: nothing is held back, and no byte is written twice.

    Args:
        folder: an existing folder.
        layout: the shape and type of every tensor to come, as tensors on the meta device, in the order of the shards.
        max_shard_bytes: size of a file, at most, unless a single tensor is larger.
    """

    def __init__(
        self, folder: str | Path, layout: Mapping[str, torch.Tensor], *, max_shard_bytes: int = MAX_SHARD_BYTES
    ) -> None:
        self.layout = dict(layout)
        self._places: dict[str, tuple[IO[bytes], int]] = {}
        self._missing = set(layout)
        self._stack = ExitStack()
        shards = _split(self.layout, max_shard_bytes)
        index: dict[str, str] = {}
        try:
            for number, names in enumerate(shards, start=1):
                file = "model.safetensors"
                if len(shards) > 1:
                    file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                handle = self._stack.enter_context((Path(folder) / file).open("wb"))
                self._start(handle, names)
                index.update(dict.fromkeys(names, file))
            if len(shards) > 1:
                total = sum(_bytes(tensor) for tensor in self.layout.values())
                content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
                (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            self._stack.close()
            raise _disk(error, folder) from error

    def _start(self, handle: IO[bytes], names: list[str]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        place, offset = {}, 0
        # the widest types first, so that every tensor starts at a multiple of its own width
        for name in sorted(names, key=lambda name: -self.layout[name].element_size()):
            tensor = self.layout[name]
            end = offset + _bytes(tensor)
            header[name] = {
                "dtype": _NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            place[name], offset = offset, end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        handle.write(len(text).to_bytes(8, "little") + text)
        start = handle.tell()
        handle.truncate(start + offset)
        self._places.update({name: (handle, start + at) for name, at in place.items()})

    def write(self, name: str, parts: torch.Tensor | Iterable[torch.Tensor]) -> None:
        """Write a tensor of the layout, whole or in parts along its first dimension, in the layout's type.

        Raises `RunFailed` if the disk does not take it.
        """
        expected = self.layout[name]
        rows = 0
        handle, place = self._places[name]
        try:
            handle.seek(place)
            for part in [parts] if isinstance(parts, torch.Tensor) else parts:
                assert part.shape[1:] == expected.shape[1:], f"{name}: {tuple(part.shape)}"
                rows += part.shape[0]
                assert rows <= expected.shape[0], f"{name}: more rows than {expected.shape[0]}"
                stored = part.detach().to("cpu", expected.dtype).contiguous()
                handle.write(memoryview(stored.view(torch.uint8).numpy()))  # type: ignore[arg-type]
        except OSError as error:
            raise _disk(error, handle.name) from error
        assert rows == expected.shape[0], f"{name}: {rows} rows of {expected.shape[0]}"
        self._missing.discard(name)

    def close(self) -> None:
        """Finish the files. Raises `RunFailed` if the disk does not take the rest."""
        assert not self._missing, f"never written: {sorted(self._missing)[0]}"
        try:
            self._stack.close()
        except OSError as error:
            raise _disk(error, "the checkpoint") from error

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.close()


def row_chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensor in parts of whole rows of about `CHUNK_BYTES`: views."""
    rows = max(1, CHUNK_BYTES // max(1, _bytes(tensor[:1])))
    for start in range(0, tensor.shape[0], rows):
        yield tensor[start : start + rows]


def _bytes(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


def _split(layout: Mapping[str, torch.Tensor], limit: int) -> list[list[str]]:
    """Names per file, in order, each file within the limit unless one tensor alone is not."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in layout.items():
        if shards[-1] and size + _bytes(tensor) > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(tensor)
    return shards


def _disk(error: OSError, where: object) -> RunFailed:
    return RunFailed(f"could not write the checkpoint: {error.strerror}", where=str(where), hint="is the disk full?")
