"""What the descriptions say, against what transformers makes of the same configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.families import FAMILIES, family_of
from regrow.families.refused import REFUSED
from regrow.families.windows import NO_WINDOWS

#: Blocks enough that every pattern of windows comes round.
LAYERS = {"num_hidden_layers": 13, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("says", [{}, {"sliding_window": 64}, {"sliding_window": None}, {"use_sliding_window": True}])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_windows_are_those_that_transformers_reads(model_type: str, says: dict) -> None:
    transformers = pytest.importorskip("transformers")
    if (model_type, str(says)) in (
        ("iquestcoder", str({"use_sliding_window": True})),
        ("exaone4", str({"sliding_window": None})),
    ):
        pytest.skip("transformers 5.23 builds no such model")
    content = {**LAYERS, **says, **({"max_window_layers": 5} if model_type in ("qwen2", "qwen3") else {})}
    config = transformers.CONFIG_MAPPING[model_type](**content, pad_token_id=0)
    window = getattr(config, "sliding_window", None)
    if model_type in ("qwen2", "qwen3", "smollm3", "qwen3_moe") and not config.use_sliding_window:
        window = None  # the field is kept, and not used
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * 13
    known = FAMILIES[model_type].windows != NO_WINDOWS
    expected = tuple(window if known and "sliding" in kind else None for kind in kinds)
    assert FAMILIES[model_type].windows.read(content) == expected


def test_windows_listed_by_block_count_before_the_pattern() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    content = {"num_hidden_layers": 3, "sliding_window": 8, "layer_types": kinds}
    assert FAMILIES["olmo3"].windows.read(content) == (None, 8, None)
    # transformers gives every block of a Mistral the window, whatever the list says
    assert FAMILIES["mistral"].windows.read(content) == (8, 8, 8)
    assert FAMILIES["gemma3_text"].windows.read({"num_hidden_layers": 4, "sliding_window_pattern": 2}) == (
        *(4096, None),
        *(4096, None),
    )


def test_refused_types_say_what_is_missing() -> None:
    assert not set(REFUSED) & set(FAMILIES)
    for model_type, missing in REFUSED.items():
        with pytest.raises(InputError, match=f"models of type '{model_type}' are not supported: {missing}") as caught:
            family_of(model_type, where="config.json")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown model type 'gemma_2'; did you mean 'gemma2'"):
        family_of("gemma_2")


@pytest.mark.parametrize(
    ("model_type", "field", "value", "says"),
    [
        ("gemma3_text", "use_bidirectional_attention", True, "both directions"),
        ("gemma", "use_bidirectional_attention", True, "both directions"),
        ("iquestcoder", "clip_qkv", 8.0, "clips queries"),
        ("iquestcoder", "use_sliding_window", True, "windows"),
        ("helium", "head_dim", 32, "hidden is 64, and 4 heads of 32 make 128"),
    ],
)
def test_unsupported_parts_of_a_supported_family_are_one_line(model_type, field, value, says) -> None:
    content = {"model_type": model_type, **LAYERS, "intermediate_size": 96, "vocab_size": 64, "head_dim": 16}
    Architecture.from_config(content)
    with pytest.raises(InputError, match=says) as caught:
        Architecture.from_config({**content, field: value}, where="config.json")
    assert str(caught.value).startswith(("config.json: ", "architecture: "))
    assert "\n" not in str(caught.value)


def test_the_table_in_the_docs_names_every_family() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8").splitlines()
    rows = {
        line.split("|")[1].strip().strip("`"): line.split("|")[2].strip() for line in lines if line.startswith("| `")
    }
    del rows["model_type"]  # the head of the table
    assert rows == {family.model_type: family.models for family in FAMILIES.values()}
