"""The header of a safetensors file against what the library itself reads from the file."""

import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from regrow.safetensors_header import read_header


def test_places_are_where_the_library_finds_the_tensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"b": torch.arange(6.0).view(2, 3), "a": torch.arange(4, dtype=torch.int16)}, path, metadata={"x": "y"})
    with path.open("rb") as file:
        header = read_header(file)
    data = path.read_bytes()
    assert header.size == len(data)
    assert data[8:].startswith(header.text)
    for name, tensor in load_file(path).items():
        start, end = header.places.pop(name)
        assert data[start:end] == tensor.numpy().tobytes()
    assert not header.places


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"nil",
        struct.pack("<Q", 10) + b'{"a": {} }',
        struct.pack("<Q", 27) + b'{"a":{"data_offsets":[0]}}',
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
    ],
)
def test_anything_else_is_a_value_error(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError, match=r"."):
        read_header(file)


def test_a_file_without_tensors_is_its_header(tmp_path):
    save_file({}, tmp_path / "empty")
    with (tmp_path / "empty").open("rb") as file:
        assert read_header(file).size == (tmp_path / "empty").stat().st_size
