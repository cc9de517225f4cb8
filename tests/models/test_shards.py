"""Tensors in and out of safetensors shards, one at a time."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, logits, make, tokens
from transformers import AutoModelForCausalLM

from regrow.errors import InputError, RunFailed
from regrow.models import save_checkpoint
from regrow.models.shards import ShardReader, ShardWriter, row_chunks


def copy_checkpoint(source, target, **options):
    reader = ShardReader(source)
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    with ShardWriter(target, reader.layout, **options) as writer:
        # in an order that is not the layout's
        for name in sorted(reader.layout, reverse=True):
            writer.write(name, row_chunks(reader.read([name])[name]))
    return target


@pytest.mark.parametrize("limit", [10**9, 20_000, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_is_the_same_model(family, dtype, limit, tmp_path):
    model = make(family, dtype=dtype)
    source = save_checkpoint(model, None, tmp_path / "source")
    once = copy_checkpoint(source, tmp_path / "once", max_shard_bytes=limit)
    twice = copy_checkpoint(once, tmp_path / "twice")  # reads the shards, writes one file
    for folder in (once, twice):
        again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        assert torch.equal(logits(again, tokens()), logits(model, tokens()))
    shards = sorted(once.glob("*.safetensors"))
    assert (len(shards) == 1) == (limit == 10**9)
    assert (twice / "model.safetensors").stat().st_size <= (source / "model.safetensors").stat().st_size
    if len(shards) > 1:
        index = json.loads((once / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(p.numel() * p.element_size() for p in model.parameters())
        for file in shards:
            held = load_file(file)
            assert set(held) == {name for name, place in index["weight_map"].items() if place == file.name}
            assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= limit


def test_types_of_several_widths_share_a_file(tmp_path):
    tensors = {
        "narrow": torch.arange(3, dtype=torch.bfloat16),
        "wide": torch.arange(5, dtype=torch.float64),
        "half": torch.ones(1, 7, dtype=torch.float16),
        "single": torch.full((2, 2), 4.0),
    }
    with ShardWriter(tmp_path, {name: tensor.to("meta") for name, tensor in tensors.items()}) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    read = ShardReader(tmp_path).read(tensors)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_numbers_are_written_in_the_layouts_type(tmp_path):
    with ShardWriter(tmp_path, {"a": torch.empty(4, dtype=torch.bfloat16, device="meta")}) as writer:
        writer.write("a", torch.tensor([1.0, 0.0, -2.0, 3.14159]))
    assert load_file(tmp_path / "model.safetensors")["a"].tolist() == [1.0, 0.0, -2.0, 3.140625]


def test_a_tensor_that_is_short_or_left_out_is_noticed(tmp_path):
    layout = {"a": torch.empty(4, 2, device="meta"), "b": torch.empty(1, device="meta")}
    writer = ShardWriter(tmp_path, layout)
    with pytest.raises(AssertionError, match="2 rows of 4"):
        writer.write("a", torch.ones(2, 2))
    with pytest.raises(AssertionError, match="more rows"):
        writer.write("a", torch.ones(5, 2))
    writer.write("a", torch.ones(4, 2))
    with pytest.raises(AssertionError, match="never written: b"):
        writer.close()


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such weights file"):
        ShardReader(tmp_path)
    save_file({"a": torch.ones(2, dtype=torch.int8)}, str(tmp_path / "model.safetensors"))
    assert ShardReader(tmp_path).strange == {"a": "I8"}
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot read the weights"):
        ShardReader(tmp_path)


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(RunFailed, match="could not write"):
        ShardWriter(tmp_path / "absent", {"a": torch.empty(1, device="meta")})


def test_chunks_cover_the_rows(monkeypatch):
    monkeypatch.setattr("regrow.models.shards.CHUNK_BYTES", 64)
    tensor = torch.arange(70.0).reshape(10, 7)
    parts = list(row_chunks(tensor))
    assert [len(part) for part in parts] == [2] * 5
    assert torch.equal(torch.cat(parts), tensor)
