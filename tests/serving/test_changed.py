"""What pruning changes for the programs that serve a model is said when it is pruned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_families import make_plain

from regrow.arch import Architecture, catalog
from regrow.serving.changed import config_after, limits_from_pruning


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: object) -> str:
    from regrow.cli.main import main

    monkeypatch.setattr("sys.argv", ["regrow", "prune", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return capsys.readouterr().out


def test_a_cut_in_depth_that_breaks_a_pattern_is_said(tmp_path: Path, monkeypatch, capsys) -> None:
    make_plain("smollm3", num_hidden_layers=8, no_rope_layers=[1, 1, 1, 0, 1, 1, 1, 0]).save_pretrained(tmp_path / "m")
    asked = (tmp_path / "m", "--method", "depth", "--scorer", "random")
    said = run(monkeypatch, capsys, *asked, "--shape", "layers=7", "--out", tmp_path / "cut")
    assert "llama.cpp will answer otherwise: its smollm3 leaves out rotary embeddings in every fourth block" in said
    assert "vllm" not in said
    found = json.loads(run(monkeypatch, capsys, *asked, "--shape", "layers=7", "--out", tmp_path / "again", "--json"))
    assert [(new["runtime"], new["kind"]) for new in found["serving"]] == [("llama.cpp", "differs")]


def test_a_width_that_a_program_takes_for_another_is_said(tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "narrow"
    asked = ("tiny-qwen2-0.2m", "--method", "width", "--scorer", "random", "--shape", "hidden=24")
    assert "vllm will answer otherwise: its own Qwen2 takes" in run(monkeypatch, capsys, *asked, "--out", out)
    assert "vllm will answer otherwise: its own Qwen2 takes" in run(monkeypatch, capsys, *asked, "--dry-run")
    depth = run(monkeypatch, capsys, "tiny-qwen2-0.2m", "--method", "depth", "--shape", "layers=3", "--dry-run")
    assert "will answer otherwise" not in depth


def test_only_what_pruning_brought_counts() -> None:
    """A window that llama.cpp does not know is the parent's too; a hidden width that OLMo 2 can't have is not."""
    windowed = {"num_hidden_layers": 4, "sliding_window": 4096, "num_attention_heads": 8, "hidden_size": 64}
    windowed |= {"model_type": "mistral", "intermediate_size": 96, "vocab_size": 96}
    arch = Architecture.from_config(windowed)
    assert limits_from_pruning(windowed, config_after(windowed, arch.with_shape(layers=3), (0,))) == []
    olmo = catalog()["OLMo-2-1124-7B"]
    config = {
        "model_type": "olmo2", "num_hidden_layers": olmo.layers, "num_attention_heads": olmo.heads,
        "hidden_size": olmo.hidden, "intermediate_size": olmo.intermediate, "vocab_size": olmo.vocab,
    }  # fmt: skip
    (new,) = limits_from_pruning(config, config_after(config, olmo.with_shape(hidden=3072), None))
    assert new.sentence().startswith(
        "llama.cpp will refuse this model: its olmo2 takes the hidden width, 3,072, for that"
    )


def test_lists_over_blocks_are_cut_where_it_is_known_which_go() -> None:
    config = make_plain("smollm3", num_hidden_layers=4, no_rope_layers=[1, 0, 1, 1]).config.to_dict()
    arch = Architecture.from_config(config)
    assert config_after(config, arch.with_shape(layers=3), (1,))["no_rope_layers"] == [1, 1, 1]
    assert config_after(config, arch.with_shape(layers=3), None)["no_rope_layers"] == [1, 0, 1, 1]
